"""Upload a folder to a share in its own process, to measure its memory.

Run: ``python -m tests.bench.share_client ours|plain FOLDER WHERE``, where WHERE is what the double printed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

PREFIX = "nbtoolkit/bench"


def sync_folder(folder: Path, where: dict[str, Any]) -> None:
    """Sync as a deploy does: plan, send missing files, verify them."""
    from nbtoolkit import sync
    from nbtoolkit.azure.arm.resource_names import ResourceNames
    from nbtoolkit.azure.clients import Cloud
    from nbtoolkit.azure.files.share import AzureShare

    store = AzureShare(Cloud(), ResourceNames(**where["provisioned"]))
    sync.sync(folder, store, PREFIX, content_addressed=True)


def upload_with_sdk(folder: Path, where: dict[str, Any]) -> None:
    """Upload as in the SDK's documentation: ``upload_file``, one by one."""
    from azure.storage.fileshare import ShareClient

    found = where["provisioned"]
    url = f"https://{found['storage_account']}.file.core.windows.net"
    share = ShareClient(url, found["file_share"], credential=where["key"])
    below = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir())
    for name in ["nbtoolkit", PREFIX, *(f"{PREFIX}/{name}" for name in below)]:
        share.create_directory(name)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client = share.get_file_client(f"{PREFIX}/{path.relative_to(folder).as_posix()}")
            with path.open("rb") as file:
                client.upload_file(file)


def main() -> None:
    """Print seconds, processor seconds and the peak of memory."""
    way, folder, where = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    os.environ.update(where["environ"])
    start = time.perf_counter()
    {"ours": sync_folder, "plain": upload_with_sdk}[way](folder, where)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss * 1024  # Linux: kB
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "cpu_seconds": time.process_time()}))


if __name__ == "__main__":
    main()
