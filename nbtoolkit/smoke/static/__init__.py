"""The static level: seconds, no torch, and only the configuration and tensor headers of the base."""
