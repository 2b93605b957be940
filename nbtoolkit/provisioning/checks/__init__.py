"""The checks before the first write to Azure: permissions, providers, quotas, names, storage, fit."""

from __future__ import annotations
