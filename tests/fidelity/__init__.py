"""Is the Azure double true to Azure? Recorded exchanges are replayed, traffic is judged by Bicep's types."""
