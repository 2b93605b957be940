"""The engine as a child process, and the client of its HTTP interface over loopback."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import httpx

from ..engines import EngineConfig
from ..fingerprint import Logprobs, replay_request, replayed_logprobs
from .config import PACKAGE
from .published_releases import NotServable

_IMPORT_ROOT = Path(__file__).resolve().parents[PACKAGE.count(".") + 2]
"""The folder that contains the serving package, for the child's PYTHONPATH."""


class EngineDied(Exception):
    """The engine process ended unexpectedly; the message has its exit code and last lines."""


class EngineProcess:
    """One engine process. Its key is random, so that no other program on the machine can use it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, key: str) -> None:
        self.port = port
        self.key = key
        self._process = process
        self._lines: deque[str] = deque(maxlen=30)
        self._reader = asyncio.create_task(self._forward_output())

    @classmethod
    async def start(cls, command: tuple[str, ...], config: EngineConfig) -> EngineProcess:
        """Start an engine on a free loopback port; returns before it is ready."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        key = secrets.token_urlsafe(32)
        paths = [str(_IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {name: value for name, value in os.environ.items() if name != "NBTOOLKIT_API_KEY"}
        environment |= {"NBTOOLKIT_ENGINE_KEY": key, "PYTHONPATH": os.pathsep.join(paths)}
        process = await asyncio.create_subprocess_exec(
            *command,
            "--settings",
            config.model_copy(update={"port": port}).model_dump_json(),
            stdin=asyncio.subprocess.PIPE,  # never written: at its end of file the engine exits
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )
        return cls(process, port, key)

    async def wait(self) -> int:
        """Wait for the end of the process and return its exit code."""
        code = await self._process.wait()
        await asyncio.wait({self._reader}, timeout=1)
        return code

    def exit_report(self) -> str:
        """Return how the process ended, and its last lines."""
        code = self._process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        tail = "\n".join(list(self._lines)[-12:])
        return f"the engine ended with {how}" + (f"; its last lines:\n{tail}" if tail else "")

    async def stop(self, grace: float = 5.0) -> None:
        """Terminate the process, and kill it if it still runs after ``grace`` seconds."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), grace)
            except TimeoutError:
                self.kill()
                await self._process.wait()
        await asyncio.wait({self._reader}, timeout=1)
        self._reader.cancel()

    def kill(self) -> None:
        """Kill the process."""
        if self._process.returncode is None:
            self._process.kill()

    async def _forward_output(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        partial = b""
        while block := await stream.read(1 << 16):  # not readline: a progress bar is one line without an end
            sys.stderr.buffer.write(block)
            sys.stderr.buffer.flush()
            *lines, partial = (partial + block).replace(b"\r", b"\n").split(b"\n")
            partial = partial[-4096:]
            self._lines.extend(line.decode(errors="replace")[:500] for line in lines if line.strip())
        if partial.strip():
            self._lines.append(partial.decode(errors="replace")[:500])


class EngineUnreachable(Exception):
    """The engine does not respond: it has ended or is ending."""


class EngineClient:
    """One engine's HTTP interface."""

    def __init__(self, port: int, key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            # An answer may take any time: a request ends when the process ends, not by a timeout.
            timeout=httpx.Timeout(None, connect=10),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections, which cancels all running answers."""
        await self._http.aclose()

    async def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the engine is ready, and the body of its /health; raise EngineUnreachable."""
        try:
            response = await self._http.get("/health", timeout=10)
            content: Any = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise EngineUnreachable(str(error)) from None
        body = cast(dict[str, Any], content) if isinstance(content, dict) else {}
        return response.status_code == 200, body

    async def metrics(self) -> str:
        """Return the engine's metrics as Prometheus text."""
        try:
            response = await self._http.get("/metrics", timeout=5)
        except httpx.HTTPError as error:
            raise EngineUnreachable(str(error)) from None
        return response.text if response.status_code == 200 else ""

    async def load(self, name: str, folder: str) -> None:
        """Load an adapter under a name; raise NotServable with the engine's reason."""
        body = {"lora_name": name, "lora_path": folder}
        await self._post("/v1/load_lora_adapter", body, "the engine refused the adapter")

    async def unload(self, name: str) -> None:
        """Unload an adapter; succeeds if the engine does not have it any more."""
        refusal = f"the engine did not unload adapter {name}"
        await self._post("/v1/unload_lora_adapter", {"lora_name": name}, refusal, (200, 404, 500))

    async def replay(self, model: str, contexts: Sequence[Sequence[int]]) -> Sequence[Logprobs]:
        """Return the most likely next tokens of every context: token id → log-probability."""
        body = replay_request(model, contexts)
        response = await self._post("/v1/completions", body, "the engine refused the fingerprint")
        try:
            answers = replayed_logprobs(response.json())
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise NotServable(f"the engine's answer to the fingerprint is not readable: {error!r}") from None
        if len(answers) != len(contexts):
            raise NotServable(f"the engine answered {len(answers)} of {len(contexts)} contexts")
        return answers

    def stream(self, path: str, body: bytes) -> Any:
        """Post a request and stream the answer: ``async with client.stream(...) as response``."""
        headers = {"Content-Type": "application/json"}
        return self._http.stream("POST", path, content=body, headers=headers)

    async def _post(
        self, path: str, body: dict[str, Any], refusal: str, accepted: tuple[int, ...] = (200,)
    ) -> httpx.Response:
        try:
            response = await self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise EngineUnreachable(f"{type(error).__name__}: {error}") from None
        if response.status_code not in accepted:
            raise NotServable(f"{refusal}: {error_text(response.content)}")
        return response


def error_text(content: bytes) -> str:
    """Return the message of an OpenAI error body, or the whole text if it is not one."""
    try:
        body = json.loads(content)
        return str(body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:2000]
