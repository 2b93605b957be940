"""The same prompts asked of several models, as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.progress import SILENT, Progress

if TYPE_CHECKING:
    from nbtoolkit.endpoint import Endpoint

_WORKERS = 8
_TEXT_WIDTH = 110  # of the plain table, in characters


@dataclass(frozen=True)
class Comparison:
    """What each model answered to each prompt; ``answers[i][j]`` is model ``j``'s answer to prompt ``i``.

    Prints as a table, and shows as one in a notebook.
    """

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]

    def of(self, model: str) -> tuple[str, ...]:
        """Return one model's answers, in the order of the prompts."""
        return tuple(row[self.models.index(model)] for row in self.answers)

    @property
    def different(self) -> int:
        """Number of prompts to which not all models gave the same answer."""
        return sum(len(set(row)) > 1 for row in self.answers)

    def __str__(self) -> str:
        columns = ("prompt", *self.models)
        width = max(12, (_TEXT_WIDTH - 2 * len(columns)) // len(columns))
        rule = "  ".join("─" * width for _ in columns)
        blocks = [columns, *((prompt, *row) for prompt, row in zip(self.prompts, self.answers, strict=True))]
        return f"\n{rule}\n".join("\n".join(_lines(block, width)) for block in blocks)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        cell = (
            "text-align:left;vertical-align:top;padding:4px 16px 4px 0;white-space:pre-wrap;max-width:360px"
        )
        line = "border-bottom:1px solid var(--jp-border-color2,#cccccc)"

        def row(tag: str, cells: Sequence[str]) -> str:
            return "".join(f'<{tag} style="{cell};{line}">{escape(text)}</{tag}>' for text in cells)

        body = "".join(
            f"<tr>{row('td', (prompt, *answers))}</tr>"
            for prompt, answers in zip(self.prompts, self.answers, strict=True)
        )
        head = row("th", ("prompt", *self.models))
        return f'<table style="border-collapse:collapse"><tr>{head}</tr>{body}</table>'


def _lines(cells: Sequence[str], width: int) -> Iterator[str]:
    wrapped = [
        [line for part in cell.splitlines() for line in textwrap.wrap(part, width) or [""]] or [""]
        for cell in cells
    ]
    for i in range(max(map(len, wrapped))):
        yield "  ".join((column[i] if i < len(column) else "").ljust(width) for column in wrapped).rstrip()


def compare(
    endpoint: Endpoint,
    prompts: Sequence[str],
    models: Sequence[str] | None = None,
    *,
    progress: Progress | None = None,
    **sampling: Any,
) -> Comparison:
    """Ask every prompt of every model and return the answers side by side.

    ``models`` are all that the endpoint serves, the base first, unless given. ``sampling`` goes into the
    requests; greedy answers of at most 64 tokens unless it says otherwise. Costs one request for each pair.
    Raises what the endpoint raises.
    """
    if isinstance(prompts, str) or not prompts:
        raise InvalidSettings(
            f"There is nothing to compare: prompts is {prompts!r}.",
            next_step="give a list of prompts, such as ['I lost my dog yesterday.']",
        )
    progress = progress or SILENT()
    progress.phase("Comparing answers")
    served = sorted(endpoint.models(), key=lambda model: model.parent is not None)
    names = tuple(models) if models is not None else tuple(model.id for model in served)
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 64, **sampling}

    def ask(prompt: str, model: str) -> str:
        return endpoint.chat(prompt, model, stream=False, **options).strip()

    pool = ThreadPoolExecutor(_WORKERS)
    try:
        asked = [[pool.submit(ask, prompt, name) for name in names] for prompt in prompts]
        _wait_for([future for row in asked for future in row], progress)
        answers = tuple(tuple(future.result() for future in row) for row in asked)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return Comparison(names, tuple(prompts), answers)


def _wait_for(futures: list[Future[str]], progress: Progress) -> None:
    """Wait for all, or for the first that failed; every second is a chance to cancel."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
        progress.advance(len(futures) - len(waiting), len(futures), "answers")
        for future in done:
            future.result()
