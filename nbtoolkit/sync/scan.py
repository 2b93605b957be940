"""Scan a folder for the files to send by its ignore rules, and refuse files that must not be sent.

``.nbtoolkitignore`` in the folder's root has gitignore syntax and is read after the defaults, so ``!name``
includes a file that they exclude. Secrets cannot be included: a line that includes one is an error, since
the user would otherwise believe that the file was sent. They belong in the app's secrets.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from nbtoolkit.errors import SyncRefused
from nbtoolkit.models.folder_names import cached_repository
from nbtoolkit.sync.name_rules import Problem

IGNORE_FILE = ".nbtoolkitignore"

SECRETS = (
    ".git",
    ".env",
    ".env.*",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
    "*.key",
    "*.pfx",
    "*.p12",
    "*.jks",
    "*.ppk",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "!*.pub",
    ".ssh/",
    ".aws/",
    ".azure/",
    ".gnupg/",
    ".netrc",
    ".pypirc",
    ".npmrc",
    ".git-credentials",
    "credentials.json",
)
"""Never sent, also if the ignore file includes them; matched case-insensitively."""

DEFAULTS = (
    *SECRETS,
    "*.pem",
    IGNORE_FILE,
    ".hg/",
    ".svn/",
    ".nbtoolkit/",
    ".nbtoolkit-*.part",
    "__pycache__/",
    "*.py[cod]",
    ".ipynb_checkpoints/",
    ".cache/",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".venv/",
    "venv/",
    "node_modules/",
    ".idea/",
    ".vscode/",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "optimizer.bin",
    "training_args.bin",
    "pytorch_model*.bin",
    "adapter_model.bin",
    "trainer_state.json",
    "rng_state*",
    "global_step*/",
    "events.out.tfevents*",
    "*.pkl",
    "*.pickle",
    "*.joblib",
    "*.ckpt",
    "*.pt",
    "*.pth",
)
"""Not sent unless the ignore file includes it."""


class IgnoreRules:
    """Decide by name which files are sent; names are posix and relative, a folder's name ends with /."""

    def __init__(self, lines: list[str], origin: Path | None = None) -> None:
        self._user = _parse(lines, origin)
        self._defaults = GitIgnoreSpec.from_lines(DEFAULTS)
        self._secrets = GitIgnoreSpec.from_lines(SECRETS)

    @classmethod
    def read(cls, folder: Path) -> IgnoreRules:
        """Read the folder's ignore file, if there is one; raises SyncRefused naming an invalid line."""
        file = folder / IGNORE_FILE
        try:
            text = file.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return cls([])
        except (OSError, UnicodeDecodeError) as error:
            raise SyncRefused(
                f"{file} cannot be read: {error}.",
                next_step=f"make {IGNORE_FILE} a UTF-8 text file, or delete it",
            ) from error
        return cls(text.splitlines(), file)

    def ignores(self, name: str) -> bool:
        """Return whether a file or folder is not sent; an ignored folder includes all below it."""
        included = self._user.check_file(name).include
        return self._defaults.match_file(name) if included is None else included

    def is_secret(self, name: str) -> bool:
        """Return whether a name must never be sent, so that it is an error if it is not ignored."""
        return self._secrets.match_file(name.lower())


def scan_folder(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by posix name, without ignored ones; reads no content.

    Links inside the folder are followed, and those of a snapshot in the hub cache to its blobs. Raises
    SyncRefused with the full list of problems: links that leave the folder, are broken or circular, special
    files, secrets that the ignore file includes.
    """
    if not folder.is_dir():
        raise SyncRefused(
            f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}.",
            next_step="give the folder that is to be sent",
        )
    walk = _FolderScan(folder)
    walk.visit(folder, "", (os.path.realpath(folder),))
    refuse_problems(walk.problems, folder)
    return walk.files


def check_files(files: Mapping[str, Path], folder: Path) -> None:
    """Check files that were chosen by name, as :func:`scan_folder` checks the files of a folder."""
    walk = _FolderScan(folder)
    for name, path in files.items():
        walk.add_file(path, name)
    refuse_problems(walk.problems, folder)


def refuse_problems(problems: list[Problem], folder: Path | str) -> None:
    """Raise SyncRefused with all problems, if there are any."""
    if not problems:
        return
    listing = "\n".join(f"  {name!r}: {reason}" for name, reason in problems)
    count = "one name" if len(problems) == 1 else f"{len(problems)} names"
    raise SyncRefused(
        f"{folder} was not sent because of {count}:\n{listing}",
        next_step="rename or remove these, or list them in .nbtoolkitignore; then run the step again",
        problems=tuple(problems),
    )


class _FolderScan:
    def __init__(self, folder: Path) -> None:
        self._root = os.path.realpath(folder)
        repository = cached_repository(folder.absolute())
        self._blobs = Path(os.path.realpath(repository / "blobs")) if repository else None
        self._rules = IgnoreRules.read(folder)
        self._real = lru_cache(_real)  # each file of a folder resolves the folder
        self.files: dict[str, Path] = {}
        self.problems: list[Problem] = []

    def visit(self, folder: Path, inside: str, ancestors: tuple[str, ...]) -> None:
        """Scan a folder named ``inside`` below the root; ``ancestors`` are the real paths above it."""
        try:
            items = sorted(folder.iterdir())
        except OSError as error:
            self.problems.append((inside or ".", f"cannot be listed: {error.strerror}"))
            return
        for item in items:
            name = f"{inside}{item.name}"
            is_folder = item.is_dir()
            if self._rules.ignores(f"{name}/" if is_folder else name):
                continue
            if not is_folder:
                self.add_file(item, name)
                continue
            real = os.path.realpath(item)
            if real in ancestors:
                self.problems.append((f"{name}/", f"is a circular link, to {real}"))
            elif self._may_follow(item, f"{name}/"):
                self.visit(item, f"{name}/", (*ancestors, real))

    def add_file(self, path: Path, name: str) -> None:
        """Add a file, or record why it is refused."""
        if not self._may_follow(path, name):
            return
        try:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                self.problems.append(
                    (name, "is a special file (a pipe, socket or device), not a regular file")
                )
            elif name.lower().endswith(".pem") and _holds_private_key(path):
                self.problems.append((name, "holds a private key, which is never sent"))
            else:
                self.files[name] = path
        except OSError as error:
            self.problems.append((name, f"cannot be read: {error.strerror}"))

    def _may_follow(self, path: Path, name: str) -> bool:
        """Return whether a name may be sent and is inside the root; record why not."""
        if self._rules.is_secret(name):
            self.problems.append((name, "is a secret by its name, which is never sent: add it to the app"))
            return False
        real = _real(path)
        inside = real.is_relative_to(self._root) or real.parent == self._blobs
        # Compare the target too: Python 3.11 does not report a Windows junction as a link.
        if inside and not path.is_symlink() and real == self._real(path.parent) / path.name:
            return True
        if not os.path.lexists(real):
            self.problems.append((name, f"is a broken link, to {real}"))
        elif real.is_symlink():
            self.problems.append((name, f"is a circular link, to {real}"))
        elif not inside:
            self.problems.append((name, f"is a link that leaves the folder, to {real}; put a copy there"))
        else:
            target = os.path.relpath(real, self._root).replace(os.sep, "/")
            target += "/" if name.endswith("/") else ""
            if not self._rules.is_secret(target):
                return True
            self.problems.append((name, f"is a link to a secret, {target}, which is never sent"))
        return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _holds_private_key(path: Path) -> bool:
    """Return whether a PEM file holds a private key; raises OSError."""
    with path.open("rb") as file:
        return b"PRIVATE KEY-----" in file.read(1 << 20)


def _parse(lines: list[str], origin: Path | None) -> GitIgnoreSpec:
    for number, line in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError as error:
            raise SyncRefused(
                f"{origin or IGNORE_FILE}, line {number}: {line!r} is not a gitignore pattern ({error}).",
                next_step="correct or delete that line",
            ) from error
    return GitIgnoreSpec.from_lines(lines)
