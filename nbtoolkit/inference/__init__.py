"""Use a deployed endpoint: settings, chat and comparison."""
