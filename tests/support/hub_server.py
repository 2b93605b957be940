"""A hub on loopback: the requests that a download of ``huggingface_hub`` sends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REVISION = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_token-of-the-tests"
REPO = Path(__file__).resolve().parents[2]


@dataclass
class HubServer:
    """Repositories by id, each a folder; ``gated`` ones need :data:`TOKEN`. ``fetched`` records the files."""

    repositories: Mapping[str, Path]
    gated: frozenset[str] = frozenset()
    fetched: list[str] = field(default_factory=list[str])
    url: str = ""

    def run(self, code: str, *arguments: str, home: Path, **environment: str) -> str:
        """Run Python code in a process whose hub is this one; return its output."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env={
                **{name: value for name, value in os.environ.items() if name != "HF_TOKEN"},
                "PYTHONPATH": str(REPO),
                "HF_ENDPOINT": self.url,
                "HF_HUB_OFFLINE": "0",
                "HF_HOME": str(home),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                **environment,
            },
        )
        return done.stdout + done.stderr


@contextmanager
def serve_hub(
    repositories: Mapping[str, Path], *, gated: frozenset[str] = frozenset()
) -> Generator[HubServer]:
    """Serve repositories until the block ends."""
    hub = HubServer(repositories, gated)
    handler = type("OneHub", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        folder = self.hub.repositories.get(name)
        if folder is None:
            self.fail(404, "RepoNotFound")
            return
        if name in self.hub.gated and self.headers.get("authorization") != f"Bearer {TOKEN}":
            self.fail(403, "GatedRepo")
            return
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        names = [file.relative_to(folder).as_posix() for file in files]
        if path.startswith("/api/") and rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": "0" * 40}
                for name, file in zip(names, files, strict=True)
            ]
            content = json.dumps(entries).encode()
        elif path.startswith("/api/") and rest[1:2] not in ([], ["main"], [REVISION]):
            self.fail(404, "RevisionNotFound")
            return
        elif path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in names]
            content = json.dumps({"id": name, "sha": REVISION, "siblings": siblings}).encode()
        else:
            file = "/".join(rest[2:])
            content = (folder / file).read_bytes()
            if body:
                self.hub.fetched.append(file)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{abs(hash(path)):x}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""
