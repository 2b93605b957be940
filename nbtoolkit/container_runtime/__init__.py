"""Container images and the locked wheels that they install."""
