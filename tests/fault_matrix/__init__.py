"""Each operation that provision and deploy send to Azure, with each fault that its response may have."""
