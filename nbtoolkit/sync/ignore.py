"""Ignore rules of a sync: secrets, caches, training state, and ``.nbtoolkitignore``.

``.nbtoolkitignore`` in the folder's root has gitignore syntax and is read after the defaults, so ``!name``
includes a file that they exclude. Secrets cannot be included: a line that includes one is an error, since
the user would otherwise believe that the file was sent. They belong in the app's secrets.
"""

from __future__ import annotations

from pathlib import Path

from pathspec import GitIgnoreSpec

from nbtoolkit.errors import SyncRefused

FILE = ".nbtoolkitignore"

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
    FILE,
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
        file = folder / FILE
        try:
            text = file.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return cls([])
        except (OSError, UnicodeDecodeError) as error:
            raise SyncRefused(
                f"{file} cannot be read: {error}.", next_step=f"make {FILE} a UTF-8 text file, or delete it"
            ) from error
        return cls(text.splitlines(), file)

    def ignores(self, name: str) -> bool:
        """Return whether a file or folder is not sent; an ignored folder includes all below it."""
        included = self._user.check_file(name).include
        return self._defaults.match_file(name) if included is None else included

    def is_secret(self, name: str) -> bool:
        """Return whether a name must never be sent, so that it is an error if it is not ignored."""
        return self._secrets.match_file(name.lower())


def holds_private_key(path: Path) -> bool:
    """Return whether a PEM file holds a private key; raises OSError."""
    with path.open("rb") as file:
        return b"PRIVATE KEY-----" in file.read(1 << 20)


def _parse(lines: list[str], origin: Path | None) -> GitIgnoreSpec:
    for number, line in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError as error:
            raise SyncRefused(
                f"{origin or FILE}, line {number}: {line!r} is not a gitignore pattern ({error}).",
                next_step="correct or delete that line",
            ) from error
    return GitIgnoreSpec.from_lines(lines)
