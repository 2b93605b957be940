"""The chat form."""
