"""A served release as a client sees it: an address and a key."""

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
from nbtoolkit.serving.fingerprint import Fingerprint, Verdict, judge

if TYPE_CHECKING:
    import openai

Messages = Sequence[Mapping[str, Any]]
"""OpenAI chat messages: ``[{"role": "user", "content": "..."}]``."""


class Health(BaseModel):
    """What the front says about itself; further facts are kept as attributes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    phase: str
    release: str | None = None
    adapters: dict[str, str] = {}
    pending: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None
    last_error: str | None = None
    engine: dict[str, Any] = {}

    @property
    def engine_starts(self) -> int | None:
        """How often this replica started its engine; None where it does not say."""
        return self.engine.get("starts")


class ServedModel(BaseModel):
    """A public name; ``parent`` is the base's name for an adapter and None for the base."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    parent: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        what = f"adapter of {self.parent}" if self.parent else "base model"
        return f"{self.id} ({what}{f', sha256 {self.sha256[:16]}…' if self.sha256 else ''})"

    def __repr__(self) -> str:
        return f"ServedModel({self})"


class Replay(BaseModel):
    """The likeliest next tokens after each context, and which adapter the server says it used."""

    model_config = ConfigDict(frozen=True)

    answers: list[dict[int, float]]
    by: str | None = None
    """First 16 digits of the adapter's sha256, or ``"base"``."""


class Endpoint:
    """An address and a key; ``key`` never appears in ``repr``, logs or errors."""

    def __init__(self, url: str, key: SecretStr | str, *, release: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidSettings(
                f"The endpoint's address is {url!r}; wanted is one that starts with http:// or https://.",
                next_step="give the whole address, such as https://myapp.region.azurecontainerapps.io",
            )
        self.url = url.rstrip("/")
        self.key = key if isinstance(key, SecretStr) else SecretStr(key)
        self.release = release
        self._wire = HttpClient(self.url, self.key)

    def __repr__(self) -> str:
        release = f", release={self.release!r}" if self.release else ""
        return f"Endpoint({self.url!r}, key=**********{release})"

    def _repr_html_(self) -> str:
        url = escape(self.url, quote=True)
        release = f" serves <code>{escape(self.release)}</code>" if self.release else ""
        return f'<p><a href="{url}" target="_blank" rel="noopener">{url}</a>{release}</p>'

    def wait(self, timeout: float = 600, progress: Progress | None = None) -> Endpoint:
        """Return this endpoint once it is ready to answer.

        ``timeout`` is in seconds. It wakes an app that sleeps. While waiting, the reason is noted in
        ``progress``; raises :class:`NotReady` with the last one, and after a minute where waiting is of no
        use, as for a stopped app.
        """
        progress = progress or SILENT()
        progress.phase(f"Waiting for {self.url}")
        wait_ready(self._not_ready_because, self.url, timeout, progress)
        return self

    def _not_ready_because(self) -> str:
        """Return why the server cannot answer yet, an empty text where it can."""
        health = self.health()
        return "" if health.phase == "ready" else f"the server is {health.phase}"

    def health(self) -> Health:
        """Return what the server says about itself; needs no key.

        Raises :class:`NotReady` where nothing answers, :class:`RequestRefused` where it is no server of ours.
        """
        response = self._wire.get_open("/health")
        self._wire.check_gateway(response)
        try:
            found = response.json()
            return Health.model_validate(found)
        except ValueError as error:  # no JSON, or not ours: an ingress page, the user's own server
            raise RequestRefused(
                f"{self.url}/health answered {response.status_code} with something that is no health report.",
                next_step="check the address; a server of your own has no /health like ours",
                status=response.status_code,
                code=None,
            ) from error

    def reachable(self) -> bool:
        """Tell whether any web server answers at this address, whatever it says."""
        try:
            self._wire.get_open("/")
        except NotReady:
            return False
        return True

    def models(self) -> list[ServedModel]:
        """Return the names that requests may use: the base, and every adapter with its parent."""
        found = self._wire.send("GET", "/v1/models")
        return [ServedModel.model_validate(one) for one in found["data"]]

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
        """Ask and return the answer: its pieces as they come, or with ``stream=False`` the whole text.

        ``prompt`` is a text or OpenAI messages; ``model`` is a public name and may be left out where one
        adapter is served. ``sampling`` goes into the request (``max_tokens``, ``temperature``, ...). Raises
        :class:`RequestRefused` with status, code and next step; closing the iterator ends the answer.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        body = {"model": model or self._only_model(), "messages": messages, "stream": stream, **sampling}
        if stream:
            return self._wire.stream_text("/v1/chat/completions", body)
        found = self._wire.send("POST", "/v1/chat/completions", body)
        return found["choices"][0]["message"]["content"] or ""

    def openai(self) -> openai.OpenAI:
        """Return the official client, ready to use; needs the package ``openai``."""
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
        """Replay contexts as :meth:`replay` does, and tell which adapter the server says it used."""
        body = {
            "model": model,
            "prompt": [list(context) for context in contexts],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 5,
            "return_tokens_as_token_ids": True,
        }
        found = self._wire.send("POST", "/v1/completions", body)
        choices = sorted(found["choices"], key=lambda choice: choice["index"])
        tops = [choice["logprobs"]["top_logprobs"][0] for choice in choices]
        answers = [{int(k.removeprefix("token_id:")): float(v) for k, v in top.items()} for top in tops]
        return Replay(answers=answers, by=found.get("system_fingerprint"))

    def prove(
        self, fingerprint: Fingerprint, model: str, *, old: Sequence[Mapping[int, float]] | None = None
    ) -> Verdict:
        """Tell whether what answers to ``model`` is the fingerprint's adapter; costs one small request.

        ``old`` are the answers of the adapter that was served before, in a swap.
        """
        return judge(fingerprint, self.replay(model, fingerprint.contexts), old)

    def _only_model(self) -> str:
        served = self.models()
        adapters = [model.id for model in served if model.parent]
        if len(adapters) == 1:
            return adapters[0]
        if not adapters and len(served) == 1:
            return served[0].id
        raise InvalidSettings(
            f"{self.url} serves several models and none was named.",
            next_step=f"name one: model={' or '.join(repr(model.id) for model in served)}",
        )
