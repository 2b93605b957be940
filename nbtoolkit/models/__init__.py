"""Adapters and base models as values, read without torch."""
