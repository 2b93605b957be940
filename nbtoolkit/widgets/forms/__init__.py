"""The generic form over a settings model."""
