"""Start the engine: ``python -m <package>.engines.transformers --settings JSON``; key from environment."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

import uvicorn
from pydantic import ValidationError

from ...threads import start_daemon
from .. import EngineConfig
from .engine import Engine
from .errors import exit_process
from .routes import build

KEY = "NBTOOLKIT_ENGINE_KEY"


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, which lets running answers finish, or until stdin is closed with the gateway."""
    parser = argparse.ArgumentParser(prog="engine", description=__doc__)
    parser.add_argument("--settings", required=True, metavar="JSON")
    key = os.environ.pop(KEY, "")
    if not key:
        parser.error(f"the environment variable {KEY} is not set")
    try:
        config = EngineConfig.model_validate_json(parser.parse_args(arguments).settings)
    except ValidationError as error:
        parser.error(f"--settings: {error}")
    logging.basicConfig(level=logging.INFO, format="engine: %(levelname)s %(message)s", stream=sys.stderr)
    start_daemon(_exit_with_gateway, "gateway watch")
    # The gateway decides when to stop: Ctrl-C in its terminal must not interrupt answers that it lets finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Before torch is imported: between two operations its threads otherwise spin, and every process on their
    # cores (gateway, notebook) then delays each step. Measured on two busy cores: 5 to 10 times the tokens.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")

    server_config = uvicorn.Config(
        build(Engine(config), key),
        host="127.0.0.1",
        port=config.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=30,
        timeout_keep_alive=75,
    )
    uvicorn.Server(server_config).run()
    return 0


def _exit_with_gateway() -> None:
    """End the process when the gateway has ended, even by SIGKILL: the next engine needs the GPU."""
    while os.read(0, 4096):  # not sys.stdin: holding its lock would abort the interpreter's shutdown
        pass
    exit_process()


if __name__ == "__main__":
    sys.exit(main())
