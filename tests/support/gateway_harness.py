"""A folder laid out as a share, and a gateway process that serves it, for the tests of the gateway."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from nbtoolkit.serving import share_layout
from nbtoolkit.serving.content_hash import adapter_sha256
from nbtoolkit.serving.fingerprint import Fingerprint, Probe
from nbtoolkit.serving.release import EngineSettings, Release, ServedAdapter, ServedBase, ServedCode
from tests.support.processes import free_port
from tests.support.stub_engine import stub_logprobs

KEY = "test-key-0123456789abcdef"
HERE = Path(__file__).parent
REPO = HERE.parent.parent
CODE = ServedCode(sha256="c" * 64)


class ShareFolder:
    """A folder with the layout of a share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "base").mkdir(parents=True)
        (root / share_layout.ACTIVE).mkdir(parents=True)
        (root / share_layout.RELEASES).mkdir(parents=True)
        (root / share_layout.REPORTS).mkdir(parents=True)
        self.n = 0

    def adapter(self, name: str, says: str, **knobs: Any) -> tuple[ServedAdapter, str]:
        """Put an adapter and its report on the share; return it and the report's sha256."""
        proven_as = knobs.pop("proven_as", says)
        draft = self.root / "draft"
        draft.mkdir(exist_ok=True)
        (draft / "adapter_config.json").write_text(json.dumps({"says": says, **knobs}))
        (draft / "adapter_model.safetensors").write_bytes(says.encode() * 1000)
        sha256 = adapter_sha256(draft)
        path = share_layout.adapter_path(sha256)
        if not (self.root / path).exists():
            (self.root / share_layout.ADAPTERS).mkdir(exist_ok=True)
            draft.rename(self.root / path)
        contexts = [[i, 2 * i, 3 * i + 1] for i in range(16)]
        probes = tuple(
            Probe(
                context=tuple(c),
                base=stub_logprobs("base", c),
                adapter=stub_logprobs(proven_as, c),
                noise={"float32": 0.01},
            )
            for c in contexts
        )
        fingerprint = Fingerprint(adapter_sha256=sha256, base_sha256="b" * 64, dtype="float32", probes=probes)
        content = json.dumps({"green": True, "fingerprint": fingerprint.model_dump(mode="json")}).encode()
        report = hashlib.sha256(content).hexdigest()
        (self.root / share_layout.report_path(report)).write_bytes(content)
        return ServedAdapter(name=name, path=path, sha256=sha256, rank=8), report

    def release(self, *adapters: tuple[ServedAdapter, str], **fields: Any) -> Release:
        """Write a release."""
        release = Release(
            base=fields.pop("base", ServedBase(name="tiny", path="base", sha256="b" * 64)),
            adapters=tuple(adapter for adapter, _ in adapters),
            engine=fields.pop("engine", EngineSettings()),
            code=fields.pop("code", CODE),
            reports=fields.pop("reports", {adapter.name: report for adapter, report in adapters}),
            **fields,
        )
        (self.root / share_layout.release_path(release.id)).write_text(release.model_dump_json())
        return release

    def publish(self, release: Release) -> int:
        """Write a pointer to a release; return the pointer's number."""
        self.n += 1
        pointer = share_layout.Pointer(n=self.n, release=release.id, by="test", at=datetime.now(UTC))
        temporary = self.root / share_layout.ACTIVE / "temporary"
        temporary.write_text(pointer.model_dump_json())
        temporary.rename(self.root / share_layout.pointer_path(self.n))
        return self.n

    def heartbeat(self, replica: str = "local") -> share_layout.Heartbeat:
        return share_layout.Heartbeat.model_validate_json(
            (self.root / share_layout.heartbeat_path(replica)).read_bytes()
        )


class GatewayProcess:
    """A gateway process on a free loopback port; the context manager stops it."""

    def __init__(
        self,
        mount: Path,
        *engine_options: str,
        command: list[str] | None = None,
        path: Path = REPO,
        **overrides: Any,
    ) -> None:
        self.port = free_port()
        self.log = mount / f"gateway-{self.port}.log"
        command = command or [
            sys.executable, str(HERE / "gateway_with_stub_engine.py"), str(mount), str(self.port),
            json.dumps({"poll_interval": 0.05, "web_ui": False, **overrides}), *engine_options,
        ]  # fmt: skip
        command = [part.replace("{port}", str(self.port)) for part in command]
        environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONWARNINGS": "default"}
        environment |= {"NBTOOLKIT_API_KEY": KEY, "NBTOOLKIT_BIND": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        self.started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=mount)
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=20
        )

    def __enter__(self) -> GatewayProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the gateway did not exit:\n{self.log.read_text()[-3000:]}") from None

    def health(self) -> dict[str, Any]:
        response = self.http.get("/health")
        assert response.status_code == 200
        return response.json()

    def wait(self, wanted: Callable[[dict[str, Any]], Any], seconds: float = 15) -> dict[str, Any]:
        """Wait until /health meets a condition."""
        end = time.monotonic() + seconds
        seen: object = None
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the gateway exited:\n{self.log.read_text()[-3000:]}"
            try:
                seen = health = self.health()
                if wanted(health):
                    return health
            except httpx.TransportError as error:
                seen = error
            time.sleep(0.02)
        raise AssertionError(f"not fulfilled: {seen}\n{self.log.read_text()[-3000:]}")

    def ready(self, n: int | None = None) -> dict[str, Any]:
        return self.wait(lambda h: h["phase"] == "ready" and (n is None or h["n"] == n))

    def chat(self, model: str, text: str = "hi", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.http.post("/v1/chat/completions", json=body)

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.split()[:1] == [name]))


def streamed_words(stream: httpx.Response) -> list[str]:
    """Read a stream to its end and return its words; fails if it ends in an error."""
    events = [line[6:] for line in stream.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-1]
    chunks = [json.loads(event) for event in events[:-1]]
    assert all("error" not in chunk for chunk in chunks), chunks[-1]
    return [c["choices"][0]["delta"]["content"].strip() for c in chunks if c["choices"][0]["delta"]]
