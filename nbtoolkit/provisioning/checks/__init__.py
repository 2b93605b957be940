"""Checks before the first write to Azure: permissions, resource states, quotas, storage, memory."""

from __future__ import annotations
