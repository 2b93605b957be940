"""The Azure double with one share, in a process of its own: ``python -m tests.bench.share_double``.

The first line of output has its environment. A line of input is a latency in seconds, with ``empty`` to
empty the share; the response, as JSON, has the number of storage requests since the previous line.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys

from tests.azure_double import AzureDouble
from tests.azure_double.share_setup import account_of, provisioned_share


def main() -> None:
    """Serve until the input ends."""
    with AzureDouble() as double:
        found = provisioned_share(double)
        key = account_of(double, found).keys[0]
        where = {"environ": double.environ(), "provisioned": dataclasses.asdict(found), "key": key}
        print(json.dumps(where), flush=True)
        for line in sys.stdin:
            latency, *orders = line.split()
            double.latency = float(latency)
            requests = [seen for seen in double.requests if seen.host.startswith(found.storage_account)]
            writes = sum(seen.method != "GET" for seen in requests)
            double.requests.clear()
            share = double.files.folder(found.storage_account, found.file_share)
            if "empty" in orders:
                for folder in share.iterdir():
                    shutil.rmtree(folder)
            print(json.dumps({"requests": len(requests), "writes": writes}), flush=True)
        if double.crashes:
            raise SystemExit("\n".join(double.crashes))


if __name__ == "__main__":
    main()
