"""Start a gateway with the stub engine, by MOUNT PORT OVERRIDES ENGINE-OPTION... of the command line."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from nbtoolkit.serving.gateway.config import GatewayConfig
from nbtoolkit.serving.gateway.server import serve

STUB = Path(__file__).with_name("stub_engine.py")

if __name__ == "__main__":
    mount, port, overrides, *engine_options = sys.argv[1:]
    settings = GatewayConfig.read(Path(mount), int(port), "127.0.0.1")
    command = (sys.executable, "-P", str(STUB), *engine_options)
    sys.exit(serve(dataclasses.replace(settings, engine_command=command, **json.loads(overrides))))
