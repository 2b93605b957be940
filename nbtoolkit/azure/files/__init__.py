"""Azure Files as a file store."""
