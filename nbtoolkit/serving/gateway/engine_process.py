"""The engine as a child process: start it, keep its last log lines, stop it."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from collections import deque
from pathlib import Path

from ..engines.config import EngineConfig
from .config import PACKAGE

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

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.returncode is None

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
        if self.alive:
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
        if self.alive:
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
