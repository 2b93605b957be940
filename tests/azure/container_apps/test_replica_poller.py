"""The last value while polling fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbtoolkit.azure.container_apps.replica_poller import StaleCache
from nbtoolkit.errors import AzureFailed, NotInStore
from nbtoolkit.filestore import LocalFolder


def test_last_value_is_returned_for_transient_errors_and_permanent_errors_are_raised() -> None:
    def failed(status: int | None) -> AzureFailed:
        return AzureFailed("no", next_step="x", status=status, code=None, request_id=None)

    results: list[object] = [1, failed(503), failed(None), 2, failed(404)]

    def fetch() -> object:
        found = results.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    cache = StaleCache()
    assert [cache.get("x", fetch) for _ in range(4)] == [1, 1, 1, 2]
    with pytest.raises(AzureFailed):
        cache.get("x", fetch)
    results[:] = [failed(503)]
    with pytest.raises(AzureFailed):
        StaleCache().get("x", fetch)
    results[:] = [1, failed(503)]
    expired = StaleCache(max_stale=-1)
    expired.get("x", fetch)
    with pytest.raises(AzureFailed):
        expired.get("x", fetch)
    with pytest.raises(NotInStore):
        cache.get("x", lambda: LocalFolder(Path("/nowhere")).read("x"))
