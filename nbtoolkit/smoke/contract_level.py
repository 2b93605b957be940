"""G7, the contract level: start the real server on this machine and check what clients rely on."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import NbtoolkitError, NotReady, RequestRefused, ServerFailed
from nbtoolkit.local.target import LocalTarget
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from nbtoolkit.releases.builder import build_release
from nbtoolkit.serving.content_hash import code_sha256
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.serving.openai_format import STREAM_END, event_data
from nbtoolkit.serving.release import EngineSettings, Release
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, check, failure, passed
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.workspace import Workspace

ADAPTER = "tested-adapter"
"""The public name under which the contract level serves the adapter."""

_PORT = 7960
"""The first port to try; not the port of a deployed server."""
_PROMPT = {"role": "user", "content": "Say one word about the weather."}
_MAX_TOKENS = 12
_TIMEOUT = 300.0


@dataclass(frozen=True)
class ContractContext:
    """An adapter that passed the model level; ``report`` is its report until then, with the fingerprint."""

    smoke: SmokeContext
    fingerprint: Fingerprint
    report: SmokeReport
    workspace: Workspace
    progress: Progress


@check("G7", "contract", "contract")
def contract(context: ContractContext) -> CheckOutcome:
    """Serve the adapter from a temporary share and run every contract check."""
    evidence: dict[str, Any] = {"points": {}}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="nbtoolkit-smoke-") as folder:
        target = LocalTarget(context.workspace, Path(folder) / "target", keep=False, port=_PORT)
        try:
            release = _start_server(context, target, Path(folder))
            seconds = _wait_ready(context, target, release)
            with httpx.Client(timeout=_TIMEOUT, trust_env=False) as http:
                client = _ContractClient(target.endpoint(), release, context.fingerprint, http)
                for name, point in client.points().items():
                    context.progress.phase(f"Smoke test: checking the server's contract: {name}")
                    try:
                        holds, detail = point()
                    except NotReady:  # the server is gone
                        raise
                    except (NbtoolkitError, httpx.HTTPError, ValueError, LookupError, TypeError) as error:
                        holds, detail = False, f"{type(error).__name__}: {error}"
                    evidence["points"][name] = ("ok: " if holds else "WRONG: ") + detail
                    if not holds:
                        failed.append(f"{name}: {detail}")
        except (ServerFailed, NotReady, RequestRefused) as error:
            log = list(target.logs(tail=40))
            causes = [line for line in log if "Error" in line]
            cause = f" {causes[-1].strip()}" if causes and len(error.message.splitlines()) > 1 else ""
            return failure(
                f"the server does not serve this adapter: {error.message.splitlines()[0]}{cause}",
                {**evidence, "error": error.message, "log": log},
                "see the log lines in this check's evidence: report.checks[-1].evidence['log']",
            )
        finally:
            target.destroy()
    evidence["seconds_to_ready"] = round(seconds, 2)
    if failed:
        remedy = "the server breaks its contract with this model: report it with this page"
        if all(one.startswith("fingerprint: not distinguishable") for one in failed):
            remedy = "serve with dtype='float32', or train longer or with a larger alpha"
        return failure("; ".join(failed), evidence, remedy)
    count = len(evidence["points"])
    return passed(f"all {count} points of the contract hold, ready in {seconds:.1f} s", evidence)


def _start_server(context: ContractContext, target: LocalTarget, folder: Path) -> Release:
    """Publish a release of this adapter on the target's share and start its server."""
    smoke, settings = context.smoke, context.smoke.settings
    context.progress.phase("Smoke test: starting the real server")
    report = folder / "report.json"
    report.write_bytes(context.report.content)
    code = publisher.serving_folder()
    release = build_release(
        smoke.base,
        str(smoke.base.path),
        {ADAPTER: smoke.adapter},
        EngineSettings(kind=settings.engine, dtype=settings.dtype, quantization=settings.quantization),
        code_sha256(code),
        reports={ADAPTER: context.report.sha256},
    )
    target.provision(context.progress)
    publisher.stage_release(
        target.share, release, {ADAPTER: smoke.adapter}, code, {ADAPTER: report}, context.progress
    )
    by = publisher.publisher_name(context.workspace.root)
    publisher.publish_release(target.share, release.id, expected=0, by=by)
    target.activate(release, restart=False, progress=context.progress)
    return release


def _wait_ready(context: ContractContext, target: LocalTarget, release: Release) -> float:
    """Wait until the replica serves the release and return the seconds; raises if it reports a failure."""
    begin = time.monotonic()
    timeout, phase = context.smoke.settings.timeout, ""

    def is_ready() -> bool:
        nonlocal phase
        target.check_alive()
        heartbeat = target.heartbeat()
        if heartbeat and heartbeat.failed:
            raise ServerFailed(
                f"The server cannot serve the adapter: {heartbeat.failed.error}",
                next_step="see the message; the model level passed, so compare the two",
            )
        if heartbeat and heartbeat.phase == "ready" and heartbeat.release == release.id:
            return True
        now = heartbeat.phase if heartbeat else "starting"
        if now != phase:
            context.progress.note(f"the server is {now}")
            phase = now
        return False

    if not context.progress.wait_until(is_ready, timeout=timeout, interval=0.1):
        raise NotReady(
            f"The server was not ready within {timeout:g} s: it is {phase}.",
            next_step="give a larger timeout, or see the log",
            reason=phase,
        )
    return time.monotonic() - begin


_PointResult = tuple[bool, str]
"""Whether a point of the contract holds, and the details."""


class _ContractClient:
    """The requests of check G7: health, models, fingerprint, answers and refusals of a running server."""

    def __init__(
        self, endpoint: Endpoint, release: Release, fingerprint: Fingerprint, http: httpx.Client
    ) -> None:
        self._endpoint, self._release, self._fingerprint, self._http = endpoint, release, fingerprint, http
        self._url = f"{endpoint.url}/v1/chat/completions"
        self._headers = {"Authorization": f"Bearer {endpoint.key.get_secret_value()}"}
        self._prompt_tokens = 0
        """Tokens of :data:`_PROMPT` with its template."""

    def points(self) -> dict[str, Callable[[], _PointResult]]:
        """Return the points of the contract in their order, by name."""
        return {
            "health": self._health,
            "models": self._models,
            "fingerprint": self._proves_fingerprint,
            "non-stream": self._non_stream,
            "stream": self._stream,
            "history": self._history,
            "unknown model": lambda: self._is_refused(404, "nobody", self._headers),
            "no key": lambda: self._is_refused(401, ADAPTER, {}),
        }

    def _health(self) -> _PointResult:
        health = self._endpoint.health()
        sha256 = health.adapters.get(ADAPTER)
        serves = health.phase == "ready" and health.release == self._release.id
        return serves and sha256 == self._fingerprint.adapter_sha256, (
            f"phase {health.phase}, release {health.release}, adapter {(sha256 or 'none')[:16]}"
        )

    def _models(self) -> _PointResult:
        parents = {model.id: model.parent for model in self._endpoint.models()}
        base = self._release.base.name if self._release.base else ""
        return parents.get(ADAPTER) == base and base in parents and not parents[base], (
            f"{ADAPTER} has parent {parents.get(ADAPTER)}; listed are {', '.join(parents)}"
        )

    def _proves_fingerprint(self) -> _PointResult:
        verdict = self._endpoint.prove(self._fingerprint, ADAPTER)
        return bool(verdict), str(verdict)

    def _non_stream(self) -> _PointResult:
        answer = self._chat(_PROMPT)
        self._prompt_tokens = answer["usage"]["prompt_tokens"]
        choice = answer["choices"][0]
        content, reason = choice["message"]["content"], choice["finish_reason"]
        complete = isinstance(content, str) and reason in ("stop", "length")
        return complete and answer["model"] == ADAPTER, (
            f"{answer['usage']['completion_tokens']} tokens, finish_reason {reason}, {content!r}"
        )

    def _stream(self) -> _PointResult:
        pieces: list[str] = []
        reason: str | None = None
        done = False
        body = _body([_PROMPT], stream=True)
        with self._http.stream("POST", self._url, json=body, headers=self._headers) as response:
            if response.status_code != 200:
                return False, f"status {response.status_code}: {response.read()[:300]!r}"
            for data in event_data(response.iter_lines()):
                if data == STREAM_END:
                    done = True
                    break
                for choice in json.loads(data)["choices"]:
                    pieces.append(choice["delta"].get("content") or "")
                    reason = choice.get("finish_reason") or reason
        return done and reason in ("stop", "length"), (
            f"{len(pieces)} pieces, finish_reason {reason}, {'[DONE]' if done else 'no [DONE]'}"
        )

    def _history(self) -> _PointResult:
        turns = ({"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "And tomorrow?"})
        tokens = self._chat(_PROMPT, *turns)["usage"]["prompt_tokens"]
        return tokens > self._prompt_tokens, (
            f"{tokens} prompt tokens with history, {self._prompt_tokens} without"
        )

    def _is_refused(self, status: int, model: str, headers: dict[str, str]) -> _PointResult:
        response = self._http.post(self._url, json=_body([_PROMPT], model=model), headers=headers)
        has_error = isinstance(response.json().get("error"), dict)
        return response.status_code == status and has_error, (
            f"status {response.status_code}, expected {status}"
        )

    def _chat(self, *messages: dict[str, str]) -> dict[str, Any]:
        response = self._http.post(self._url, json=_body(list(messages)), headers=self._headers)
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}: {response.text[:300]}")
        return response.json()


def _body(messages: list[dict[str, str]], *, model: str = ADAPTER, stream: bool = False) -> dict[str, Any]:
    options = {"max_tokens": _MAX_TOKENS, "temperature": 0, "stream": stream}
    return {"model": model, "messages": messages, **options}
