"""Run the double by hand: `python -m tests.azure_double` prints the environment to export."""

from __future__ import annotations

import shlex
import time

from .double import AzureDouble

if __name__ == "__main__":
    with AzureDouble() as double:
        for name, value in double.environ().items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# subscription {double.subscription}, content in {double.root}; Ctrl-C ends it", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass
