"""Talk to a served release: health, models, chat, replay and proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal, overload

from pydantic import BaseModel, ConfigDict, SecretStr

from nbtoolkit.endpoint.http_client import HttpClient, client_options
from nbtoolkit.endpoint.readiness import wait_ready
from nbtoolkit.errors import InvalidSettings, MissingDependency, NotReady, RequestRefused
from nbtoolkit.installation import install_hint
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.serving.fingerprint import Fingerprint, Verdict, judge, replay_request, replayed_logprobs
from nbtoolkit.serving.openai_format import REPLICA_HEADER

if TYPE_CHECKING:
    import openai

Messages = Sequence[Mapping[str, Any]]
"""OpenAI chat messages: ``[{"role": "user", "content": "..."}]``."""


class Health(BaseModel):
    """The health report of a server; unknown fields are kept as attributes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    phase: str
    release: str | None = None
    adapters: dict[str, str] = {}
    pending: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None
    last_error: str | None = None
    engine: dict[str, Any] = {}

    @property
    def dtype(self) -> str | None:
        """The precision that the engine computes in; None if unknown."""
        return self.engine.get("dtype")

    @property
    def engine_starts(self) -> int | None:
        """How often this replica has started its engine; None if unknown."""
        return self.engine.get("starts")


class ServedModel(BaseModel):
    """A public model name; ``parent`` is the base's name for an adapter, None for the base."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    parent: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        kind = f"adapter of {self.parent}" if self.parent else "base model"
        return f"{self.id} ({kind}{f', sha256 {self.sha256[:16]}…' if self.sha256 else ''})"

    def __repr__(self) -> str:
        return f"ServedModel({self})"


class Replay(BaseModel):
    """The likeliest next tokens after each context, and the adapter and replica that the server reports."""

    model_config = ConfigDict(frozen=True)

    answers: list[dict[int, float]]
    by: str | None = None
    """First 16 digits of the adapter's sha256, or ``"base"``."""
    replica: str | None = None
    """The replica that answered; None from a server of an older version."""


class Endpoint:
    """The URL and key of a served release; ``key`` never appears in ``repr``, logs or errors.

    >>> endpoint = Endpoint(url, key)
    >>> [model.id for model in endpoint.models()]
    ['base', 'tone']
    >>> print(*endpoint.chat("Hello", model="tone", max_tokens=20), sep="")
    tone ...
    """

    def __init__(self, url: str, key: SecretStr | str, *, release: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidSettings(
                f"The endpoint's URL is {url!r}; it must start with http:// or https://.",
                next_step="give the whole URL, such as https://myapp.region.azurecontainerapps.io",
            )
        self.url = url.rstrip("/")
        self.key = key if isinstance(key, SecretStr) else SecretStr(key)
        self.release = release
        self._http = HttpClient(self.url, self.key)

    def __repr__(self) -> str:
        release = f", release={self.release!r}" if self.release else ""
        return f"Endpoint({self.url!r}, key=**********{release})"

    def _repr_html_(self) -> str:
        url = escape(self.url, quote=True)
        release = f" serves <code>{escape(self.release)}</code>" if self.release else ""
        return f'<p><a href="{url}" target="_blank" rel="noopener">{url}</a>{release}</p>'

    def wait(self, timeout: float = 600, progress: Progress | None = None) -> Endpoint:
        """Wait until this endpoint is ready, and return it.

        ``timeout`` is in seconds. The requests wake a sleeping app. While it waits, ``progress`` notes the
        reason. Raises :class:`NotReady` with the last reason, already after a minute if waiting cannot help,
        as for a stopped app.
        """
        progress = progress or SILENT()
        progress.phase(f"Waiting for {self.url}")
        wait_ready(self.not_ready_reason, self.url, timeout, progress)
        return self

    def not_ready_reason(self) -> str:
        """Return why the server is not ready, an empty text if it is; raises like :meth:`health`."""
        health = self.health()
        return "" if health.phase == "ready" else f"the server is {health.phase}"

    def health(self) -> Health:
        """Return the health report of the server; needs no key.

        Raises :class:`NotReady` if nothing answers, :class:`RequestRefused` if it is not nbtoolkit's server.
        """
        response = self._http.get_public("/health")
        self._http.raise_for_ingress(response)
        try:
            return Health.model_validate(response.json())
        except ValueError as error:  # an ingress page, or the user's own server
            raise RequestRefused(
                f"{self.url}/health answered {response.status_code} without a health report.",
                next_step="check the URL; a custom server does not have nbtoolkit's /health",
                status=response.status_code,
                code=None,
            ) from error

    def reachable(self) -> bool:
        """Return whether a web server answers at this URL, with any status."""
        try:
            self._http.get_public("/")
        except NotReady:
            return False
        return True

    def models(self) -> list[ServedModel]:
        """Return the model names for requests: the base, and every adapter with its parent."""
        response = self._http.request_json("GET", "/v1/models")
        return [ServedModel.model_validate(model) for model in response["data"]]

    @overload
    def chat(
        self,
        prompt: str | Messages,
        model: str | None = None,
        *,
        stream: Literal[True] = True,
        **sampling: Any,
    ) -> Iterator[str]: ...
    @overload
    def chat(
        self, prompt: str | Messages, model: str | None = None, *, stream: Literal[False], **sampling: Any
    ) -> str: ...
    def chat(
        self, prompt: str | Messages, model: str | None = None, *, stream: bool = True, **sampling: Any
    ) -> Iterator[str] | str:
        """Yield the pieces of the answer to a chat request; with ``stream=False`` return the whole text.

        ``prompt`` is a text or OpenAI messages; ``model`` is a public name, optional if only one adapter is
        served. ``sampling`` goes into the request (``max_tokens``, ``temperature``, ...). Raises
        :class:`RequestRefused` with status, code and next step; closing the iterator ends the request.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        body = {"model": model or self._only_model(), "messages": messages, "stream": stream, **sampling}
        if stream:
            return self._http.stream_text("/v1/chat/completions", body)
        response = self._http.request_json("POST", "/v1/chat/completions", body)
        return response["choices"][0]["message"]["content"] or ""

    def complete(self, prompt: str, model: str | None = None, **sampling: Any) -> str:
        """Return the continuation of a plain text, without a chat template; arguments as of :meth:`chat`."""
        body = {"model": model or self._only_model(), "prompt": prompt, **sampling}
        return self._http.request_json("POST", "/v1/completions", body)["choices"][0]["text"]

    def openai(self) -> openai.OpenAI:
        """Return the official OpenAI client for this endpoint; needs the package ``openai``."""
        try:
            import openai
        except ImportError as error:
            raise MissingDependency(
                "The package openai is not installed.", next_step=install_hint("openai"), package="openai"
            ) from error
        http = openai.DefaultHttpxClient(**client_options(self.url))
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key.get_secret_value(), http_client=http)

    def replay(self, model: str, contexts: Sequence[Sequence[int]]) -> list[dict[int, float]]:
        """Return the five likeliest next tokens after each context, as token id → log-probability."""
        return self.replay_named(model, contexts).answers

    def replay_named(self, model: str, contexts: Sequence[Sequence[int]]) -> Replay:
        """Replay contexts like :meth:`replay`, and return the adapter and replica that the server reports."""
        response = self._http.request("POST", "/v1/completions", replay_request(model, contexts))
        body = response.json()
        return Replay(
            answers=replayed_logprobs(body),
            by=body.get("system_fingerprint"),
            replica=response.headers.get(REPLICA_HEADER),
        )

    def prove(
        self,
        fingerprint: Fingerprint,
        model: str,
        base: str | None = None,
        *,
        old: Sequence[Mapping[int, float]] | None = None,
    ) -> Verdict:
        """Return whether ``model`` answers as the fingerprint's adapter, and the base's name as its base.

        ``base`` is the base's public name, by default the parent that the server lists for ``model``; without
        one the base is not replayed. ``old`` holds the answers of the adapter that was served before a hot
        swap. Costs two small requests, of one token for each context, and two for the names and the dtype.
        """
        served = base or next((one.parent for one in self.models() if one.id == model), None)
        answers = self.replay(model, fingerprint.contexts)
        on_base = self.replay(served, fingerprint.contexts) if served else None
        return judge(fingerprint, answers, on_base, old=old, dtype=self.health().dtype)

    def _only_model(self) -> str:
        served = self.models()
        adapters = [model.id for model in served if model.parent]
        if len(adapters) == 1:
            return adapters[0]
        if not adapters and len(served) == 1:
            return served[0].id
        raise InvalidSettings(
            f"{self.url} serves several models, and the request names none.",
            next_step=f"name one: model={' or '.join(repr(model.id) for model in served)}",
        )
