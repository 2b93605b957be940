"""Every operation that provision and deploy send to Azure, with every fault that Azure may answer with."""
