"""Microsoft's Bicep compiler as a JSON-RPC process: compile, evaluate as Azure does, lint, format."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
NO_COMPILER = "no Bicep compiler: neither ../shared/tools/bicep nor bicep on the PATH"
TENANT = "00000000-0000-0000-0000-000000000000"


def find_bicep() -> Path | None:
    """Return the compiler next to the checkout, else the one on the PATH, else None."""
    bundled = REPO.parent / "shared" / "tools" / "bicep"
    if os.access(bundled, os.X_OK):
        return bundled
    found = shutil.which("bicep")
    return Path(found) if found else None


@dataclass(frozen=True)
class Diagnostic:
    """One diagnostic of the compiler; its text has file, line, level and rule."""

    source: str
    line: int
    level: str
    code: str
    message: str

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Diagnostic:
        """Parse a diagnostic of the compiler."""
        line = found["range"]["start"]["line"] + 1
        return cls(found["source"], line, found["level"], found["code"], found["message"])

    def __str__(self) -> str:
        return f"{Path(self.source).name}({self.line}): {self.level} {self.code}: {self.message}"


class BicepFailed(RuntimeError):
    """The compiler refused a file, a template or its parameters; ``diagnostics`` has the reasons."""

    def __init__(self, message: str, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        super().__init__("\n".join([message, *map(str, diagnostics)]))
        self.diagnostics = diagnostics


@dataclass(frozen=True)
class Compiled:
    """A compiled file: the template's exact text and the diagnostics."""

    text: str
    diagnostics: tuple[Diagnostic, ...]

    @property
    def template(self) -> dict[str, Any]:
        """The parsed template."""
        return json.loads(self.text)


class BicepCompiler:
    """One ``bicep jsonrpc`` process; calls take 5-50 ms and may come from several threads.

    Raises FileNotFoundError without a compiler.
    """

    def __init__(self, executable: Path | None = None) -> None:
        found = executable or find_bicep()
        if found is None:
            raise FileNotFoundError(NO_COMPILER)
        self.executable = found
        self._lock = threading.Lock()
        self._calls = 0

    def __enter__(self) -> BicepCompiler:
        self._home = tempfile.TemporaryDirectory(prefix="bicep-")
        self._folder = Path(self._home.name)
        self._environ = {**os.environ, "HOME": self._home.name}  # it unpacks itself there, 32 kB
        command = [str(self.executable), "jsonrpc", "--stdio"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environ
        )
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()
        self._home.cleanup()

    def version(self) -> str:
        """Return the compiler's version."""
        return self._call("bicep/version", {})["version"]

    def compile(self, path: Path) -> Compiled:
        """Compile a file; raises BicepFailed for errors."""
        result = self._call("bicep/compile", {"path": str(path)})
        diagnostics = tuple(map(Diagnostic.read, result["diagnostics"]))
        if not result["success"]:
            raise BicepFailed(f"{path} does not compile", diagnostics)
        return Compiled(result["contents"], diagnostics)

    def format(self, path: Path) -> str:
        """Return a file's text as the compiler formats it."""
        return self._call("bicep/format", {"path": str(path)})["contents"]

    def lint(self, path: Path) -> list[str]:
        """Return the lines that ``bicep lint`` prints; it exits 0 even with warnings."""
        command = [str(self.executable), "lint", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environ, check=False)
        return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]

    def snapshot(
        self,
        template: Mapping[str, Any] | Path,
        parameters: Mapping[str, Any] | None = None,
        *,
        subscription: str = "3ceaaf30-8142-48ea-91d9-3080f9b439fc",
        resource_group: str = "rg-demo",
        location: str = "westus3",
        deployment_name: str = "main",
        tenant: str = TENANT,
    ) -> dict[str, Any]:
        """Evaluate a template with plain parameter values, by the engine that Azure uses.

        Returns ``predictedResources`` (full bodies and ids, nested deployments unfolded), ``outputs`` and
        ``diagnostics``. Expressions of runtime values stay text. Values of secure parameters never reach
        the compiler or the disk: the result has ``[parameters('name')...]`` instead.
        Raises BicepFailed for parameters that do not fit and for a template that cannot be evaluated.
        """
        metadata = {
            "tenantId": tenant,
            "subscriptionId": subscription,
            "resourceGroup": resource_group,
            "location": location,
            "deploymentName": deployment_name,
        }
        with self._written(template, parameters or {}) as path:
            call = {"path": str(path), "metadata": metadata, "externalInputs": []}
            try:
                return json.loads(self._call("bicep/getSnapshot", call)["snapshot"])
            except BicepFailed as failed:
                found = self._call("bicep/compileParams", {"path": str(path), "parameterOverrides": {}})
                raise BicepFailed(str(failed), tuple(map(Diagnostic.read, found["diagnostics"]))) from None

    @contextmanager
    def _written(self, template: Mapping[str, Any] | Path, parameters: Mapping[str, Any]) -> Iterator[Path]:
        if isinstance(template, Path):
            template = json.loads(template.read_text(encoding="utf-8"))
        secure = {
            name.casefold()
            for name, entry in (template.get("parameters") or {}).items()
            if str(entry.get("type")).casefold().startswith("secure")
        }
        lines = ["using './template.json'"]
        for name, value in parameters.items():
            shown = blanked(value) if name.casefold() in secure else value
            lines.append(f"param {name} = {bicep_literal(shown)}")
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            (Path(folder) / "template.json").write_text(json.dumps(template), encoding="utf-8")
            path = Path(folder) / "parameters.bicepparam"
            path.write_text("\n".join(lines), encoding="utf-8")
            yield path

    def _call(self, method: str, params: Mapping[str, Any]) -> Any:
        with self._lock:
            self._calls += 1
            asked = {"jsonrpc": "2.0", "id": self._calls, "method": method, "params": params}
            body = json.dumps(asked).encode()
            requests, answers = self._process.stdin, self._process.stdout
            assert requests is not None
            assert answers is not None
            requests.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            requests.flush()
            length = 0
            while header := answers.readline().strip():
                if match := re.fullmatch(rb"content-length: *(\d+)", header, re.IGNORECASE):
                    length = int(match[1])
            if not length:
                raise BicepFailed(f"the compiler ended with {self._process.wait()} at {method}")
            answer = json.loads(answers.read(length))
        if error := answer.get("error"):
            raise BicepFailed(str(error["message"]))
        return answer["result"]


def bicep_literal(value: Any) -> str:
    """Return a JSON value as a Bicep literal."""
    if isinstance(value, str):
        return "'" + "".join(map(_escaped, value)).replace("${", "\\${") + "'"
    if isinstance(value, Mapping):
        entries = (f"{bicep_literal(str(key))}: {bicep_literal(entry)}" for key, entry in value.items())
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(bicep_literal, value)) + "]"
    return f"json('{value!r}')" if isinstance(value, float) else json.dumps(value)


def _escaped(character: str) -> str:
    if character in "'\\":
        return "\\" + character
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"


def blanked(value: Any) -> Any:
    """Return a value of the same shape and lengths, with all texts replaced."""
    if isinstance(value, str):
        return "x" * len(value)
    if isinstance(value, Mapping):
        return {key: blanked(entry) for key, entry in value.items()}
    return [blanked(entry) for entry in value] if isinstance(value, list) else value


def write_template() -> int:
    """Format and compile the product's Bicep files and write the template; return 1 for findings."""
    folder = REPO / "infra" / "provision"
    with BicepCompiler() as bicep:
        for path in sorted(folder.rglob("*.bicep")):
            path.write_text(bicep.format(path), encoding="utf-8")
        compiled = bicep.compile(folder / "inference.bicep")
        findings = bicep.lint(folder / "inference.bicep")
    (folder / "inference.json").write_text(compiled.text + "\n", encoding="utf-8")
    print(*findings or [f"infra/provision/inference.json: {len(compiled.text) + 1:,} bytes"], sep="\n")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(write_template())
