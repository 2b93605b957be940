"""The version of nbtoolkit."""

__version__ = "0.1.0"
