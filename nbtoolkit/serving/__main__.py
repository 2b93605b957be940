"""Start the gateway: ``python -m nbtoolkit.serving --mount DIR --port N``, or this folder by its path."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:  # run as ``python path/to/serving``: become the package, so that imports work
    _here = Path(__file__).resolve().parent
    sys.path[0] = str(_here.parent)
    __package__ = _here.name
    __import__(__package__)


def main() -> int:
    """Read the command line, serve, and return the exit code."""
    from .gateway.config import GatewayConfig, GatewayStartRefused

    parser = argparse.ArgumentParser(prog="serving", description="Serve the release that a share names.")
    parser.add_argument("--mount", type=Path, required=True, help="the folder where the share is mounted")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", help="default: NBTOOLKIT_BIND, or all addresses")
    arguments = parser.parse_args()
    try:
        settings = GatewayConfig.read(arguments.mount, arguments.port, arguments.host)
        from .gateway.server import serve

        return serve(settings)
    except GatewayStartRefused as refusal:
        print(f"serving: {refusal}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
