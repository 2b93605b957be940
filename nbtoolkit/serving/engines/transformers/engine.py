"""The engine: loads the model and its adapters, and gives requests to the scheduler."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...openai_format import ApiError
from ...threads import paused_gc, start_daemon
from .. import EngineConfig
from .errors import EngineStartRefused, exit_process, unknown_model
from .sequence import Sequence, TokenEvent

if TYPE_CHECKING:
    from .adapters import Adapters
    from .model_loader import LoadedModel
    from .scheduler import Scheduler

Deliver = Callable[[TokenEvent], None]
log = logging.getLogger(__name__)


class Engine:
    """Loads and then decodes in one thread; everything else runs on the event loop."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.phase = "starting"
        self.error: str | None = None
        self.served: dict[str, str] = {}
        """Public adapters by name, and their folders."""
        self._retiring: dict[str, str] = {}
        """Adapters that are no longer public but may not be unloaded yet, and their folders."""
        self.requests = 0
        self._started = time.monotonic()
        self._loaded: LoadedModel | None = None
        self._scheduler: Scheduler | None = None
        self._adapters: Adapters | None = None
        self._cuda_error: str | None = None
        self._events: list[tuple[Deliver, TokenEvent]] = []
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._swapping = threading.Lock()

    def start(self) -> None:
        """Start loading and return at once. Call it on the event loop."""
        self._event_loop = asyncio.get_running_loop()
        start_daemon(self._run, "engine")

    def stop(self) -> None:
        """Stop the scheduler."""
        if self._scheduler:
            self._scheduler.stop()

    @property
    def loaded(self) -> LoadedModel:
        """The loaded model; raises :class:`ApiError` with status 503 and the phase until it is ready."""
        if self._loaded is None:
            raise ApiError(
                f"The engine is not ready: {self.error or self.phase}.",
                status=503,
                kind="server_error",
                code="not_ready",
            )
        return self._loaded

    def adapter_of(self, model: str) -> str | None:
        """Return the adapter that a request's ``model`` names, None for the base; raise a 404 if unknown."""
        if model == self.config.base.name:
            return None
        if model not in self.served:
            raise unknown_model(model, [self.config.base.name, *self.served])
        return model

    def on_event_loop(self, deliver: Deliver) -> Deliver:
        """Wrap a callback so that the scheduler may call it; events are delivered once per step."""
        return lambda event: self._events.append((deliver, event))

    def submit(self, sequences: list[Sequence]) -> None:
        """Queue sequences."""
        assert self._scheduler
        self.requests += 1
        self._scheduler.submit(sequences)

    def cancel(self, sequences: list[Sequence]) -> None:
        """Free the rows of sequences whose client disconnected."""
        assert self._scheduler
        for sequence in sequences:
            self._scheduler.cancel(sequence)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter and make it public; blocks until the end of a step, so call it in a thread.

        An adapter that is waiting to be unloaded is kept if it is loaded again from the same folder.
        """
        adapters, scheduler = self._ready()
        if name == self.config.base.name:
            raise ApiError(f"{name!r} is the base model's name.", param="lora_name")
        for weights in folder.glob("*.safetensors"):
            weights.read_bytes()  # into the page cache: slow on a network share, but no answer waits here
        with self._swapping:
            returns = self._retiring.get(name) == str(folder)
            scheduler.call(
                lambda: (returns and adapters.cancel_unload(name)) or adapters.load(name, folder)
            ).result()
            self._retiring.pop(name, None)
            self.served[name] = str(folder)

    def unload_adapter(self, name: str) -> None:
        """Remove an adapter from the public ones; its memory is freed after its last answer."""
        _, scheduler = self._ready()
        with self._swapping:
            if name not in self.served:
                raise ApiError(
                    f"The lora adapter '{name}' cannot be found.",
                    status=404,
                    kind="NotFoundError",
                    param="lora_name",
                )
            self._retiring[name] = self.served.pop(name)
            scheduler.call(lambda: scheduler.retire(name)).result()

    def health(self) -> dict[str, Any]:
        """Return the phase and, when ready, the state of the engine."""
        facts: dict[str, Any] = {"phase": self.phase, "elapsed": round(time.monotonic() - self._started, 1)}
        if self.error:
            facts["error"] = self.error
        if self._loaded and self._scheduler:
            model, reason = self._loaded.model, self._scheduler.model.plan.sequential_reason
            facts |= {
                "rows": self._scheduler.rows,
                "waiting": self._scheduler.waiting,
                "batching": f"one row at a time: {reason}" if reason else "batched",
                "max_model_len": self._loaded.max_length,
                "device": str(model.device),
                "dtype": str(model.dtype).removeprefix("torch."),
                "quantization": self.config.quantization,
                "adapters": list(self.served),
                "cuda_error": self._cuda_error,
            }
        return facts

    def metrics(self) -> str:
        """Return the counters in Prometheus' text format."""
        scheduler = self._scheduler
        lines: list[str] = []
        for name, kind, value in (
            ("requests_total", "counter", self.requests),
            ("steps_total", "counter", scheduler.steps if scheduler else 0),
            ("generated_tokens_total", "counter", scheduler.tokens if scheduler else 0),
            ("rows", "gauge", scheduler.rows if scheduler else 0),
            ("waiting", "gauge", scheduler.waiting if scheduler else 0),
            ("adapters", "gauge", len(self.served)),
        ):
            lines += [f"# TYPE nbtoolkit_engine_{name} {kind}", f"nbtoolkit_engine_{name} {value}"]
        return "\n".join(lines) + "\n"

    def _ready(self) -> tuple[Adapters, Scheduler]:
        _ = self.loaded
        assert self._adapters
        assert self._scheduler
        return self._adapters, self._scheduler

    def _run(self) -> None:
        """Load, then decode until the process ends."""
        try:
            self._set_phase("importing torch")  # takes seconds, in which /health already responds
            with paused_gc():
                from .adapters import Adapters
                from .cpu_kernels import pack
                from .model_loader import cuda_error, load, reserve_cpu_core
                from .model_runner import ModelRunner
                from .scheduler import Scheduler

            reserve_cpu_core()
            self._cuda_error = cuda_error()
            loaded = load(self.config, self._set_phase)
            self._set_phase("laying out weights")
            pack(loaded.model)
            model = ModelRunner(loaded.model, loaded.max_length)
            self._adapters = Adapters(loaded.model)
            self._scheduler = Scheduler(model, self._adapters, self.config.max_batch, self._flush)
        except EngineStartRefused as error:  # a retry would not help: the process stays to report the reason
            self.error = str(error)
            self.phase = "failed"
            log.error("the engine cannot start: %s", error)
            return
        except Exception:
            log.exception("the engine cannot start")
            exit_process()
        self._loaded = loaded
        self.phase = "ready"
        self._scheduler.run()

    def _set_phase(self, phase: str) -> None:
        self.phase = phase

    def _flush(self) -> None:
        """Send the events of a step to the event loop together."""
        if self._events and self._event_loop:
            events, self._events = self._events, []
            self._event_loop.call_soon_threadsafe(_deliver, events)


def _deliver(events: list[tuple[Deliver, TokenEvent]]) -> None:
    for deliver, event in events:
        deliver(event)
