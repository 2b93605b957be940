"""Ask questions of what is deployed."""
