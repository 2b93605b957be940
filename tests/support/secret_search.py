"""Search for secrets in texts, files, command lines and requests."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psutil

from tests.azure_double import AzureDouble, Request, Response

MAY_CARRY = {
    ("PUT", "deployments"): "the secure parameter of a deployment",
    ("PATCH", "containerapps"): "the app's secrets",
}
"""The only requests to ARM whose bodies may have the app's secrets."""


class SecretSearch:
    """Search texts for secrets; ``found`` has the texts that must not have them."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.secrets = dict(secrets)
        self.found: list[str] = []
        self.searched = 0
        self.expected: set[str] = set()
        """Names of secrets found in allowed requests; without them the search proves nothing."""
        self._pending: list[tuple[str, str]] = []

    def watch(self, double: AzureDouble) -> None:
        """Search all further requests, also for every token that Azure issues."""
        double.watchers.append(self._see)

    def add_secret(self, name: str, value: str) -> None:
        """Add a secret; it is also searched in earlier texts."""
        self.secrets[f"{name} {len(self.secrets)}"] = value

    def add_text(self, where: str, text: str) -> None:
        """Add a text to search once all secrets are known."""
        self._pending.append((where, text))

    def add_files(self, *folders: Path) -> None:
        """Add the names and contents of all files below some folders."""
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                self.add_text(f"the name of {path}", str(path))
                if path.is_file():
                    with suppress(OSError):  # a file of a running server that was replaced
                        self.add_text(str(path), path.read_bytes().decode("utf-8", "replace"))

    @contextmanager
    def processes(self) -> Iterator[None]:
        """Add the command lines of this process and its children in short intervals."""
        stop, seen = threading.Event(), set[str]()

        def sample() -> None:
            me = psutil.Process()
            while not stop.wait(0.05):
                for process in [me, *me.children(recursive=True)]:
                    with suppress(psutil.Error):
                        seen.add(" ".join(process.cmdline()))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._pending += [("a process's command line", line) for line in seen]

    def search(self) -> list[str]:
        """Search the added texts; return the secrets found and where."""
        forms = {name: _forms(value) for name, value in self.secrets.items()}
        for where, text in self._pending:
            self.searched += 1
            self.found += [
                f"{name} in {where}"
                for name, spellings in forms.items()
                if any(spelling in text for spelling in spellings)
            ]
        self._pending.clear()
        return self.found

    def _see(self, request: Request, response: Response) -> None:
        self._learn_token(request, response)
        where = f"{request.method} {request.host}{request.path}"
        self.add_text(f"the path of {where}", request.decoded_path)
        query = dict(request.query)
        if request.host == "management.azure.com":  # Azure's signature of a URL
            for name in ("t", "c", "s", "h"):
                query.pop(name, None)
        self.add_text(f"the query of {where}", json.dumps(query))
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        self.add_text(f"the headers of {where}", json.dumps(headers))
        body = (request._bytes or b"").decode("utf-8", "replace")
        if request.host == "login.microsoftonline.com" or self._belongs(request):
            self.expected |= {
                name for name, value in self.secrets.items() if any(one in body for one in _forms(value))
            }
        else:
            self.add_text(f"the body of {where}", body)

    @staticmethod
    def _belongs(request: Request) -> bool:
        parts = request.path.lower().split("/")
        return (request.method, parts[-2] if len(parts) > 1 else "") in MAY_CARRY

    def _learn_token(self, request: Request, response: Response) -> None:
        if not isinstance(response.body, bytes) or response.status != 200:
            return
        if request.path.endswith("/oauth2/v2.0/token"):
            self.add_secret("access token", response.json()["access_token"])
        elif request.path.lower().endswith("/getauthtoken"):
            self.add_secret("log token", response.json()["properties"]["token"])


def _forms(secret: str) -> set[str]:
    """Return a secret unchanged, and in the encodings of URLs, JSON and base64."""
    whole = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], whole}
