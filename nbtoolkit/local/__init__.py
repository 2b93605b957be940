"""Serve on this machine: a folder is the share, a process is the container."""
