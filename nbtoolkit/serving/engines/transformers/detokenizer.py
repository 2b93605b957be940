"""Incremental text of generated tokens, and stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from tokenizers.pre_tokenizers import ByteLevel

_CONTEXT = 6
"""Prompt tokens that the decoder gets first: some decoders drop a space at the very beginning."""


class Detokenizer:
    """Turn one answer's tokens into text, each character as soon as its last token is known."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._prefix = list(prompt[-_CONTEXT:])
        self._stream = self._new_stream()
        self._pending: list[int] = []

    def step(self, token: int) -> str:
        """Return the text that ``token`` completes; empty while a character is unfinished."""
        self._pending.append(token)
        try:
            text = self._stream.step(self._tokenizer, token)
        except Exception:  # noqa: BLE001 - the library raises no narrower one; the bytes are not valid text
            return self._flush_pending()
        if text is None:
            return ""
        self._prefix = self._pending[-_CONTEXT:]
        self._pending = []
        return text

    def finish(self) -> str:
        """Return the remaining text, with a replacement character for an incomplete character."""
        return self._flush_pending() if self._pending else ""

    def _new_stream(self) -> DecodeStream:
        return DecodeStream(ids=list(self._prefix), skip_special_tokens=True)

    def _flush_pending(self) -> str:
        """Decode the pending tokens separately and continue after them."""
        text = self._tokenizer.decode(self._pending, skip_special_tokens=True)
        self._prefix, self._pending = [], []
        self._stream = self._new_stream()
        return text


class StopFilter:
    """Pass text through, except for stop strings and what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    @property
    def is_holding(self) -> bool:
        """Whether text is held back that may be the beginning of a stop string."""
        return bool(self._held)

    def push(self, text: str) -> str:
        """Return the text that can be shown; sets ``stopped`` when a stop string is found."""
        if not self._stops:
            return text
        self._held += text
        places = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if places:
            self.stopped = True
            shown, self._held = self._held[: min(places)[0]], ""
            return shown
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """Return the text that is still held back."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of ``text`` that begins ``stop``."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(stop[:length])), 0)


class TokenNames:
    """Names of tokens in log-probabilities: text, bytes, or ``token_id:N``."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # A character of a byte-level token stands for one byte; both alphabets have the same order.
        printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
        others = [byte for byte in range(256) if byte not in printable]
        self._bytes = {chr(byte): byte for byte in printable}
        self._bytes |= {chr(256 + at): byte for at, byte in enumerate(others)}
        self._byte_level = type(tokenizer.decoder).__name__ == "ByteLevel" and set(self._bytes) == set(
            ByteLevel.alphabet()
        )
        self.raw = lru_cache(maxsize=65536)(self._raw)

    def text(self, token: int, *, as_id: bool = False) -> str:
        """Return the token's name."""
        return f"token_id:{token}" if as_id else self.raw(token).decode("utf-8", errors="replace")

    def _raw(self, token: int) -> bytes:
        piece = self._tokenizer.id_to_token(token)
        if piece is None:
            return b""
        if self._byte_level and all(character in self._bytes for character in piece):
            return bytes(self._bytes[character] for character in piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return text.encode()
