"""Azure's doors: sign-in, Container Apps, Azure Files. Only this package imports the Azure SDK."""

from __future__ import annotations
