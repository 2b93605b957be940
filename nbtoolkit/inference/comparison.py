"""Compare the answers of several models to the same prompts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.utils.threads import CANCEL_POLL, DaemonPool

if TYPE_CHECKING:
    from nbtoolkit.endpoint import Endpoint

_WORKERS = 8
_TEXT_WIDTH = 110  # of the plain table, in characters


@dataclass(frozen=True)
class Comparison:
    """The answers of models to prompts; ``answers[i][j]`` is the answer of model ``j`` to prompt ``i``.

    Prints as a table, also in a notebook.
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
        return f"\n{rule}\n".join("\n".join(_table_lines(block, width)) for block in blocks)

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


def _table_lines(cells: Sequence[str], width: int) -> Iterator[str]:
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
    """Send every prompt to every model and return the answers side by side.

    ``models`` defaults to all served models, the base first. ``sampling`` goes into the requests; the default
    is greedy decoding of at most 64 tokens. Costs one request per prompt and model. A cancel, or the first
    error, which is raised, abandons the requests that still run. Raises what :meth:`Endpoint.chat` raises.
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

    pool = DaemonPool(_WORKERS)
    rows = [[pool.submit(lambda p=prompt, n=name: ask(p, n)) for name in names] for prompt in prompts]
    futures = [future for row in rows for future in row]
    try:
        progress.wait_until(lambda: _all_done(futures, progress), interval=CANCEL_POLL)
        answers = tuple(tuple(future.result() for future in row) for row in rows)
    finally:
        for future in futures:
            future.cancel()
        pool.close()
    return Comparison(names, tuple(prompts), answers)


def _all_done(futures: Sequence[Future[str]], progress: Progress) -> bool:
    """Report the number of finished requests; raises the first error."""
    done = [future for future in futures if future.done()]
    progress.advance(len(done), len(futures), "answers")
    for future in done:
        future.result()
    return len(done) == len(futures)
