"""Request bodies of the OpenAI API, as far as they are served.

Unknown fields are ignored, as in other servers. A known field that would change the answer and is not
supported is refused: without it, the answer would be to another request.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from ...openai_format import ApiError
from .sequence import SamplingParams

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "modalities": (["text"],),
    "audio": (),
    "prompt_logprobs": (),
    "use_beam_search": (False,),
}
"""Fields that change an answer and are not supported, with their values that change nothing."""

Tokens = Annotated[int, Field(ge=1)]
MAX_ANSWERS = 256
"""Maximum number of answers per request: prompts times ``n``."""


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


class Request(BaseModel):
    """The common part of chat and plain completions."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model: str
    stream: StrictBool = False  # strict, because the gateway streams only for a JSON true
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=64)
    temperature: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool = False
    return_tokens_as_token_ids: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unserved(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given: dict[str, Any] = {k: v for k, v in data.items() if v is not None}  # null counts as absent
        for name in _NEUTRAL.keys() & given.keys():
            if given[name] not in _NEUTRAL[name]:
                raise ApiError(
                    f"`{name}` is not supported by this server.", param=name, code="unsupported_parameter"
                )
        return given

    @model_validator(mode="after")
    def _check_stream_options(self) -> Request:
        if self.stream_options and not self.stream:
            raise ApiError("`stream_options` needs `stream: true`.", param="stream_options")
        return self

    @property
    def stops(self) -> list[str]:
        """The stop strings."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    def sampling(self, logprobs: int | None, choice: int) -> SamplingParams:
        """Return how the ``choice``-th answer is sampled; each has its own seed."""
        return SamplingParams(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=max(self.top_k or 0, 0),
            logprobs=logprobs,
            seed=None if self.seed is None else self.seed + choice,
        )


class TextPart(BaseModel):
    """A text part of a message."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: str
    content: str | list[TextPart] | None = None

    def plain(self) -> dict[str, str]:
        """Return the message as chat templates expect it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class ChatRequest(Request):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _check_logprobs(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ApiError("`top_logprobs` needs `logprobs: true`.", param="top_logprobs")
        return self


class CompletionRequest(Request):
    """``POST /v1/completions``; a prompt is text or token ids, one or several."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: Tokens = 16
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _check_answers(self) -> CompletionRequest:
        count = len(self.prompts) * self.n
        if count > MAX_ANSWERS:
            raise ApiError(
                f"This request asks for {count} answers ({len(self.prompts)} prompts, n = {self.n}); "
                f"at most {MAX_ANSWERS} come in one. Send several requests.",
                param="n" if len(self.prompts) <= MAX_ANSWERS else "prompt",
            )
        return self

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts as a list."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return self.prompt  # type: ignore[return-value]


class UnloadAdapter(BaseModel):
    """``POST /v1/unload_lora_adapter``."""

    lora_name: str = Field(min_length=1)


class LoadAdapter(UnloadAdapter):
    """``POST /v1/load_lora_adapter``."""

    lora_path: str = Field(min_length=1)
