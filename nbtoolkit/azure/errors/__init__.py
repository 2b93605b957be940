"""Translate errors of the Azure SDK into cause and next step."""
