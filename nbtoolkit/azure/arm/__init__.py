"""Azure Resource Manager: deployments, what-if, permissions, names, deletion."""
