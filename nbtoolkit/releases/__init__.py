"""Build, stage and publish releases."""
