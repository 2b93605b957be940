"""Fidelity of the Azure double: recorded exchanges are replayed, bodies are validated with Bicep's types."""
