"""Azure: sign-in, Container Apps and Azure Files. Only this package imports the Azure SDK."""
