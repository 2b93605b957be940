"""Models on the Hugging Face hub: their names and URLs, and downloads of selected files."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import BeforeValidator

from nbtoolkit.errors import InvalidAdapter, InvalidBase, MissingDependency, NbtoolkitError
from nbtoolkit.installation import install_hint
from nbtoolkit.progress import Progress

_ID = r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)"
_NAME = re.compile(rf"{_ID}(@(?P<revision>[\w./-]+))?")
_HF_PATH = re.compile(rf"hf://{_ID}(@(?P<revision>[^/]+))?(/(?P<folder>.*))?")
_PAGE = re.compile(
    rf"(https?://)?(www\.)?(huggingface\.co|hf\.co)/{_ID}"
    r"(/(tree|blob|resolve|raw|commit|commits|blame)/(?P<revision>[^/?#]+)(/(?P<folder>[^?#]*))?)?/?([?#].*)?"
)
_FILE = re.compile(r"/?[^/]+\.(safetensors|json|md|bin)$")


ModelPath = Annotated[
    str, BeforeValidator(lambda value: str(value) if isinstance(value, PurePath) else value)
]
"""A setting that names a model: a folder, a path on the share, or a name or URL of the hub."""


@dataclass(frozen=True)
class HubName:
    """A repository of the hub, optionally with a revision and a folder inside it.

    ``is_url`` is True if it was written as a URL, so that it cannot be the path of a folder.
    """

    id: str
    revision: str | None = None
    folder: str = ""
    is_url: bool = False

    @classmethod
    def parse(cls, text: str) -> HubName | None:
        """Parse ``org/name``, ``org/name@revision``, ``hf://org/name@revision/folder`` or a page's URL."""
        text = text.strip()
        if match := _NAME.fullmatch(text):
            return cls(match["id"], match["revision"])
        endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
        if endpoint and text.startswith(f"{endpoint}/"):
            text = f"https://huggingface.co/{text.removeprefix(f'{endpoint}/')}"
        match = _HF_PATH.fullmatch(text) or _PAGE.fullmatch(text)
        if match is None:
            return None
        folder = _FILE.sub("", unquote(match["folder"] or "")).strip("/")
        revision = match["revision"]
        return cls(
            match["id"].removesuffix(".git"), unquote(revision) if revision else None, folder, is_url=True
        )

    @property
    def name(self) -> str:
        """The repository's name without its organisation."""
        return self.id.rpartition("/")[2]

    def __str__(self) -> str:
        return (
            self.id
            + (f"@{self.revision}" if self.revision else "")
            + (f"/{self.folder}" if self.folder else "")
        )


def hub_snapshot(
    hub: HubName,
    files: Sequence[str],
    progress: Progress,
    *,
    invalid: type[InvalidBase] | type[InvalidAdapter],
    download: bool,
) -> Path | None:
    """Return the folder of a repository in the local hub cache, named by its commit.

    With ``download`` the missing ones of ``files`` (patterns) are downloaded first; a named commit that is
    complete in the cache costs no request. Without it, returns None if the repository is not cached. A token
    is read from ``HF_TOKEN``. Raises ``invalid`` with the cause and :class:`MissingDependency`.
    """
    kind = "base model" if invalid is InvalidBase else "adapter"
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependency(
            f"The {kind} {hub.id!r} is a hub name, and huggingface_hub is not installed.",
            next_step=f"{install_hint('model')}, or give the folder of a local copy",
            package="huggingface_hub",
        ) from error
    patterns = [f"{hub.folder}/{name}" if hub.folder else name for name in files]
    try:
        if not download:
            cached = huggingface_hub.snapshot_download(
                hub.id, revision=hub.revision, allow_patterns=patterns, local_files_only=True
            )
            return Path(cached) / hub.folder
        progress.phase(f"Downloading {hub} from the hub")
        snapshot = huggingface_hub.snapshot_download(
            hub.id, revision=hub.revision, allow_patterns=patterns, tqdm_class=_progress_bar(progress)
        )
        return Path(snapshot) / hub.folder
    except LocalEntryNotFoundError as error:
        if download:
            raise _failed(hub, kind, error, invalid) from None
        return None
    except NbtoolkitError:
        raise
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _failed(hub, kind, error, invalid) from None


def repository_files(hub: HubName, commit: str) -> list[str]:
    """Return the names of all files of a commit; empty if the hub does not answer. One request."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return huggingface_hub.list_repo_files(hub.id, revision=commit)
    except (HfHubHTTPError, OSError, ValueError):
        return []


def _failed(
    hub: HubName, kind: str, error: Exception, invalid: type[InvalidBase] | type[InvalidAdapter]
) -> InvalidBase | InvalidAdapter:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    next_step = "check the name and the network; for a private or gated model set HF_TOKEN"
    if constants.HF_HUB_OFFLINE:
        first = "HF_HUB_OFFLINE is set, and it is not completely in the local cache"
        next_step = "unset HF_HUB_OFFLINE and restart the kernel, or give the folder of a local copy"
    elif isinstance(error, GatedRepoError):
        first = f"it is gated, and {_token()} has no access to it"
        next_step = (
            f"request access at https://huggingface.co/{hub.id}, and set HF_TOKEN to a token of that account"
        )
    elif isinstance(error, RevisionNotFoundError):
        first = f"it has no revision {hub.revision!r}"
        next_step = "name a branch, a tag or a commit of this repository"
    return invalid(
        f"The {kind} {str(hub)!r} could not be downloaded from the hub: {first}", next_step=next_step
    )


def _token() -> str:
    """Return which token was sent, without its value."""
    return "the token in HF_TOKEN" if os.environ.get("HF_TOKEN") else "no token, or the stored one,"


def _progress_bar(progress: Progress) -> type[Any]:
    """Return a tqdm class that reports to ``progress`` and prints nothing; a cancel ends the download."""
    from tqdm import tqdm

    lock = threading.Lock()
    bars: list[Any] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        """One of the bars of a download; the sum of those that count bytes is reported."""

        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            options["disable"] = True
            self.counts_bytes = options.get("unit") == "B"
            self.done = float(options.get("initial") or 0)
            super().__init__(*args, **options)
            with lock:
                bars.append(self)

        def update(self, n: float | None = 1) -> None:
            """Report the bytes so far."""
            progress.check()
            self.done += n or 0
            if self.counts_bytes:
                with lock:
                    byte_bars = [bar for bar in bars if bar.counts_bytes]
                progress.advance(
                    sum(bar.done for bar in byte_bars), sum(bar.total or 0 for bar in byte_bars) or None, "B"
                )

    return Bar
