"""The real transformers engine in a thread of this process, so that a test can change its loaded model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from nbtoolkit.endpoint import Endpoint, Health
from nbtoolkit.serving.engines import BaseModelFolder, EngineConfig
from nbtoolkit.serving.engines.transformers.engine import Engine
from nbtoolkit.serving.engines.transformers.routes import build
from tests.support.processes import free_port
from tests.support.wait import wait_until

BASE_NAME = "tiny"
Result = TypeVar("Result")


class EngineEndpoint(Endpoint):
    """The engine's own API, without the gateway's health report."""

    engine: Engine

    def health(self) -> Health:
        """Return what the gateway reports of this engine."""
        return Health(phase=self.engine.phase, engine=self.engine.health())


class RunningEngine:
    """An engine that answers on loopback; :meth:`call` runs a function between two of its steps."""

    def __init__(self, engine: Engine, endpoint: Endpoint) -> None:
        self.engine = engine
        self.endpoint = endpoint

    @property
    def model(self) -> Any:
        """The loaded model, in which peft has replaced layers."""
        return self.engine.loaded.model

    def call(self, function: Callable[[], Result]) -> Result:
        """Run a function in the scheduler's thread, as loading an adapter does."""
        assert self.engine._scheduler
        return self.engine._scheduler.call(function).result()


@contextmanager
def running_engine(base: Path, **settings: Any) -> Iterator[RunningEngine]:
    """Start an engine for a base model, and stop it at the end."""
    config = EngineConfig(base=BaseModelFolder(name=BASE_NAME, path=base), tokenizer_path=base, **settings)
    engine, port = Engine(config), free_port()
    server = uvicorn.Server(uvicorn.Config(build(engine, "key"), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, name="running-engine")
    thread.start()
    try:
        wait_until(lambda: engine.phase in ("ready", "failed"))
        assert engine.phase == "ready", engine.error
        endpoint = EngineEndpoint(f"http://127.0.0.1:{port}", "key")
        endpoint.engine = engine
        yield RunningEngine(engine, endpoint)
    finally:
        server.should_exit = True
        thread.join()
