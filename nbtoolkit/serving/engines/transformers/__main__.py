"""Start the engine: ``python -m <package>.engine --settings JSON``; the key comes from the environment."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

import uvicorn
from pydantic import ValidationError

from ...threads import start_daemon
from ..config import EngineConfig
from .engine import Engine
from .errors import exit_process
from .routes import build

KEY = "NBTOOLKIT_ENGINE_KEY"


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, which finishes running answers, or until stdin ends: its writer is gone then."""
    parser = argparse.ArgumentParser(prog="engine", description=__doc__)
    parser.add_argument("--settings", required=True, metavar="JSON")
    key = os.environ.pop(KEY, "")
    if not key:
        parser.error(f"the environment variable {KEY} is not set")
    try:
        options = EngineConfig.model_validate_json(parser.parse_args(arguments).settings)
    except ValidationError as error:
        parser.error(f"--settings: {error}")
    logging.basicConfig(level=logging.INFO, format="engine: %(levelname)s %(message)s", stream=sys.stderr)
    start_daemon(_end_with_stdin, "stdin")
    # The front decides when to stop: a Ctrl-C in its terminal must not cut answers that it finishes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Before torch comes: its threads otherwise spin between two operations, and whatever shares their cores
    # (the front, a notebook) then stalls every step. Measured on two busy cores: 5 to 10 times the tokens.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")

    config = uvicorn.Config(
        build(Engine(options), key),
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=30,
        timeout_keep_alive=75,
    )
    uvicorn.Server(config).run()
    return 0


def _end_with_stdin() -> None:
    """End the process when the front is gone, however that died: the GPU must be free for the next one."""
    while os.read(0, 4096):  # not sys.stdin: its lock, held here, would abort the interpreter's own end
        pass
    exit_process()


if __name__ == "__main__":
    sys.exit(main())
