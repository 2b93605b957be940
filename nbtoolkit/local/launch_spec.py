"""Build the launch specification of a release's server: its command, environment and key."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from nbtoolkit.local import custom_server, log
from nbtoolkit.local.launcher import LaunchSpec
from nbtoolkit.local.processes import HOST
from nbtoolkit.local.state_files import StateFiles
from nbtoolkit.progress import Progress
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.release import Release

REPLICA = "local"
POLL = "0.5"
"""Seconds between two polls of the server for a new release."""

_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSW|CREDENTIAL|CONNECTION_STRING|SIGNATURE|_SAS)", re.IGNORECASE)
_KERNEL_VARIABLE = re.compile(r"(NBTOOLKIT|JPY|JUPYTER|IPY|PAPERMILL|PYDEVD)_?", re.IGNORECASE)
_PYTHON = {"PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "MPLBACKEND", "__PYVENV_LAUNCHER__"}
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Secrets that a custom server may need; on Azure they are secrets of the app."""


def launch_spec_for(
    files: StateFiles,
    release: Release,
    extra: Mapping[str, str],
    progress: Progress,
    *,
    log_bytes: int = log.FILE_BYTES,
) -> Callable[[int], LaunchSpec]:
    """Return a function that maps a port to the specification; ``extra`` is added to the environment."""
    build = _custom if release.code.kind == "own" else _built_in
    command_for, env = build(files, release, progress)
    env = {**env, "PYTHONUNBUFFERED": "1", **extra}
    masked = [ensure_api_key(files.key), *_secret_values(env)]

    def spec(port: int) -> LaunchSpec:
        return LaunchSpec(
            command=command_for(port),
            cwd=str(files.work),
            env={"PORT": str(port), "GRADIO_SERVER_PORT": str(port), **env},
            kind=release.code.kind,
            port=port,
            code=release.code.sha256,
            secrets=masked,
            log_bytes=log_bytes,
        )

    return spec


_CommandAndEnvironment = tuple[Callable[[int], list[str]], dict[str, str]]


def _built_in(files: StateFiles, release: Release, _: Progress) -> _CommandAndEnvironment:
    """Run the share's copy of nbtoolkit's server, like the container, without this checkout."""
    program = [sys.executable, "-P", "-m", share_layout.CODE_PACKAGE, "--mount", str(files.share), "--port"]
    env = _clean_environment() | {
        "PYTHONPATH": str(files.share / share_layout.code_path(release.code.sha256)),
        "PYTHONDONTWRITEBYTECODE": "1",  # the folder's name is the hash of its content
        "NBTOOLKIT_API_KEY_FILE": str(files.key),
        "NBTOOLKIT_BIND": HOST,
        "NBTOOLKIT_POLL": POLL,
        "CONTAINER_APP_REPLICA_NAME": REPLICA,
    }
    return lambda port: [*program, str(port)], env


def _custom(files: StateFiles, release: Release, progress: Progress) -> _CommandAndEnvironment:
    """Run the start commands in one shell, with a virtual environment that they may install packages into."""
    commands = custom_server.replace_mount(release.code.commands, files.share)
    programs = custom_server.create_environment(files.root / "own-python", progress)
    env = _clean_environment(keep=HUB_TOKENS)
    env |= {
        "PATH": f"{programs}:{env.get('PATH', '')}",
        "NBTOOLKIT_MOUNT": str(files.share),
        "GRADIO_SERVER_NAME": HOST,
    }
    return lambda _: [custom_server.shell(), "-c", custom_server.start_script(commands)], env


def _clean_environment(keep: tuple[str, ...] = ()) -> dict[str, str]:
    """Return this process's environment without secrets and variables of the notebook's kernel.

    A server needs neither, and cannot log a secret that it does not have. ``keep`` names exceptions.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in keep or not (_SECRET.search(name) or _KERNEL_VARIABLE.match(name) or name in _PYTHON)
    }


def _secret_values(environment: Mapping[str, str]) -> list[str]:
    """Return the values in an environment that must not reach a log."""
    return [value for name, value in environment.items() if _SECRET.search(name) and len(value) >= 8]


def ensure_api_key(path: Path) -> str:
    """Return the key in a file with mode 0600, created on first use; safe if two processes create it."""
    with contextlib.suppress(FileNotFoundError):
        if key := path.read_text(encoding="utf-8").strip():
            return key
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"nbt-{secrets.token_urlsafe(32)}\n")
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)  # unlike a rename, it keeps the key of another process
    finally:
        scratch.unlink()
    return path.read_text(encoding="utf-8").strip()
