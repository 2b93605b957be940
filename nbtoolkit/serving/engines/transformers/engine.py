"""The engine's state: what phase it is in, what it serves, and its decode loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...openai_errors import ApiError
from ...threads import start_daemon
from ..config import EngineConfig
from .detokenizer import TokenNames
from .errors import EngineStartRefused, exit_process, unknown_model
from .sequence import Sequence, TokenEvent

if TYPE_CHECKING:
    from .adapters import Adapters
    from .model_loader import LoadedModel
    from .scheduler import Scheduler

Deliver = Callable[[TokenEvent], None]
log = logging.getLogger(__name__)


class Engine:
    """Loads in a thread, then decodes in a thread; all else happens on the event loop."""

    def __init__(self, options: EngineConfig) -> None:
        self.options = options
        self.phase = "starting"
        self.error: str | None = None
        self.served: dict[str, str] = {}
        """Adapters that requests may name, and their folders."""
        self._leaving: dict[str, str] = {}
        """Adapters that were let go of, maybe not unloaded yet, and their folders."""
        self.requests = 0
        self._started = time.monotonic()
        self._loaded: LoadedModel | None = None
        self._loop: Scheduler | None = None
        self._adapters: Adapters | None = None
        self._names: TokenNames | None = None
        self._why_not: str | None = None
        self._cuda_error: str | None = None
        self._events: list[tuple[Deliver, TokenEvent]] = []
        self._async: asyncio.AbstractEventLoop | None = None
        self._swapping = threading.Lock()

    def start(self) -> None:
        """Begin to load; returns at once. To be called on the event loop."""
        self._async = asyncio.get_running_loop()
        start_daemon(self._work, "engine")

    def stop(self) -> None:
        """Let the decode loop end."""
        if self._loop:
            self._loop.stop()

    @property
    def loaded(self) -> LoadedModel:
        """What was loaded; a 503 with the phase until then."""
        if self._loaded is None:
            raise ApiError(
                f"The engine is not ready: {self.error or self.phase}.",
                status=503,
                kind="server_error",
                code="not_ready",
            )
        return self._loaded

    @property
    def token_names(self) -> TokenNames:
        """How tokens are named."""
        assert self._names
        return self._names

    def adapter_of(self, model: str) -> str | None:
        """Return the adapter that a request's ``model`` names, None for the base; unknown names are a 404."""
        if model == self.options.base.name:
            return None
        if model not in self.served:
            raise unknown_model(model, [self.options.base.name, *self.served])
        return model

    def on_event_loop(self, deliver: Deliver) -> Deliver:
        """Wrap a callback for the event loop so that the decode loop may call it; sent once a step."""
        return lambda event: self._events.append((deliver, event))

    def submit(self, sequences: list[Sequence]) -> None:
        """Queue sequences."""
        assert self._loop
        self.requests += 1
        self._loop.submit(sequences)

    def cancel(self, sequences: list[Sequence]) -> None:
        """Free the rows of sequences whose client went away."""
        assert self._loop
        for sequence in sequences:
            self._loop.cancel(sequence)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter and serve it; blocks until a step's end, so call it in a thread.

        One that was let go of and still finishes an answer is kept if it comes back from the same folder.
        """
        adapters, loop = self._ready()
        if name == self.options.base.name:
            raise ApiError(f"{name!r} is the base model's name.", param="lora_name")
        for weights in folder.glob("*.safetensors"):
            weights.read_bytes()  # slow on a network share, and here no answer waits for it
        with self._swapping:
            back = self._leaving.get(name) == str(folder)
            loop.call(lambda: (back and adapters.cancel_unload(name)) or adapters.load(name, folder)).result()
            self._leaving.pop(name, None)
            self.served[name] = str(folder)

    def unload_adapter(self, name: str) -> None:
        """Stop serving an adapter; its memory is freed when its last answer is finished."""
        _, loop = self._ready()
        with self._swapping:
            if name not in self.served:
                raise ApiError(
                    f"The lora adapter '{name}' cannot be found.",
                    status=404,
                    kind="NotFoundError",
                    param="lora_name",
                )
            self._leaving[name] = self.served.pop(name)
            loop.call(lambda: loop.retire(name)).result()

    def health(self) -> dict[str, Any]:
        """Return the phase and, when ready, what runs."""
        facts: dict[str, Any] = {"phase": self.phase, "elapsed": round(time.monotonic() - self._started, 1)}
        if self.error:
            facts["error"] = self.error
        if self._loaded and self._loop:
            model = self._loaded.model
            facts |= {
                "rows": self._loop.rows,
                "waiting": self._loop.waiting,
                "batching": f"one row at a time: {self._why_not}" if self._why_not else "batched",
                "max_model_len": self._loaded.max_length,
                "device": str(model.device),
                "dtype": str(model.dtype).removeprefix("torch."),
                "quantization": self.options.quantization,
                "adapters": list(self.served),
                "cuda_error": self._cuda_error,
            }
        return facts

    def metrics(self) -> str:
        """Return the counters in Prometheus' text format."""
        loop = self._loop
        lines: list[str] = []
        for name, kind, value in (
            ("requests_total", "counter", self.requests),
            ("steps_total", "counter", loop.steps if loop else 0),
            ("generated_tokens_total", "counter", loop.tokens if loop else 0),
            ("rows", "gauge", loop.rows if loop else 0),
            ("waiting", "gauge", loop.waiting if loop else 0),
            ("adapters", "gauge", len(self.served)),
        ):
            lines += [f"# TYPE nbtoolkit_engine_{name} {kind}", f"nbtoolkit_engine_{name} {value}"]
        return "\n".join(lines) + "\n"

    def _ready(self) -> tuple[Adapters, Scheduler]:
        _ = self.loaded
        assert self._adapters
        assert self._loop
        return self._adapters, self._loop

    def _work(self) -> None:
        """Load, then decode until the process ends."""
        try:
            self._enter("importing torch")  # seconds, during which /health already answers
            from .adapters import Adapters
            from .cpu_kernels import pack
            from .model_loader import cuda_error, load, reserve_cpu_core
            from .model_runner import ModelRunner
            from .scheduler import Scheduler

            reserve_cpu_core()
            self._cuda_error = cuda_error()
            loaded = load(self.options, self._enter)
            self._enter("laying out weights")
            pack(loaded.model)
            model = ModelRunner(loaded.model, loaded.max_length)
            self._why_not = model.plan.sequential_reason
            self._adapters = Adapters(loaded.model)
            self._names = TokenNames(loaded.backend)
            self._loop = Scheduler(model, self._adapters, self.options.max_batch, self._flush)
        except EngineStartRefused as error:  # no second try would help: the process stays to tell
            self.error = str(error)
            self.phase = "failed"
            log.error("the engine cannot start: %s", error)
            return
        except Exception:
            log.exception("the engine cannot start")
            exit_process()
        self._loaded = loaded
        self.phase = "ready"
        self._loop.run()

    def _enter(self, phase: str) -> None:
        self.phase = phase

    def _flush(self) -> None:
        """Hand the step's events to the event loop, all at once."""
        if self._events and self._async:
            events, self._events = self._events, []
            self._async.call_soon_threadsafe(_deliver, events)


def _deliver(events: list[tuple[Deliver, TokenEvent]]) -> None:
    for deliver, event in events:
        deliver(event)
