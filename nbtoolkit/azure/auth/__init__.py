"""Credentials and interactive sign-in."""
