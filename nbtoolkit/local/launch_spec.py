"""Build the launch specification of a server, built-in or custom: its command, environment and key."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nbtoolkit.errors import InvalidSettings, ServerFailed
from nbtoolkit.local.launcher import LaunchSpec
from nbtoolkit.local.server_state import HOST, StateFiles
from nbtoolkit.progress import Progress
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.release import Release

REPLICA = "local"
POLL = "0.5"
"""Seconds between two polls of the server for a new release."""

_MOUNT = re.compile(r"(?<![\w./-])/mount(?![\w.-])")
_PLAIN_PATH = re.compile(r"[\w./+@%,:=-]+")
_QUOTED_TRAP = (
    "'nbtoolkit_code=$?; [ $nbtoolkit_code -eq 0 ] || "
    'echo "nbtoolkit: start command $nbtoolkit_step of {count} failed with exit code $nbtoolkit_code" >&2\''
)
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSW|CREDENTIAL|CONNECTION_STRING|SIGNATURE|_SAS)", re.IGNORECASE)
_KERNEL_VARIABLE = re.compile(r"(NBTOOLKIT|JPY|JUPYTER|IPY|PAPERMILL|PYDEVD)_?", re.IGNORECASE)
_PYTHON = {"PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "MPLBACKEND", "__PYVENV_LAUNCHER__"}
_HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Secrets that a custom server may need; on Azure they are secrets of the app."""


def launch_spec_for(
    files: StateFiles, release: Release, extra: Mapping[str, str], log_bytes: int, progress: Progress
) -> Callable[[int], LaunchSpec]:
    """Return a function from a port to the specification of the release's server.

    ``extra`` is added to the environment. What takes seconds, such as creating a custom server's virtual
    environment, is done here: a port that is free is to be used at once.
    """
    own = release.code.kind == "own"
    command, base_env = _custom(files, release, progress) if own else _built_in(files, release)

    def at(port: int) -> LaunchSpec:
        ports = {"PORT": str(port), "GRADIO_SERVER_PORT": str(port)}
        env = {**ports, **base_env, "PYTHONUNBUFFERED": "1", **extra}
        # the values in the environment that must not reach a log
        secret_values = [value for name, value in env.items() if _SECRET.search(name) and len(value) >= 8]
        return LaunchSpec(
            command=command if own else [*command, str(port)],
            cwd=str(files.work),
            env=env,
            kind=release.code.kind,
            port=port,
            code=release.code.sha256,
            secrets=[ensure_api_key(files.key), *secret_values],
            log_bytes=log_bytes,
        )

    return at


def _built_in(files: StateFiles, release: Release) -> tuple[list[str], dict[str, str]]:
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
    return program, env


def _custom(files: StateFiles, release: Release, progress: Progress) -> tuple[list[str], dict[str, str]]:
    """Run the start commands in one shell, with a virtual environment that they may install packages into."""
    commands = replace_mount(release.code.commands, files.share)
    programs = create_environment(files.root / "own-python", progress)
    env = _clean_environment(keep=_HUB_TOKENS)
    env |= {
        "PATH": f"{programs}:{env.get('PATH', '')}",
        "NBTOOLKIT_MOUNT": str(files.share),
        "GRADIO_SERVER_NAME": HOST,
    }
    return [shell(), "-c", start_script(commands)], env


def _clean_environment(keep: tuple[str, ...] = ()) -> dict[str, str]:
    """Return this process's environment without secrets and variables of the notebook's kernel.

    A server needs neither, and cannot log a secret that it does not have. ``keep`` names exceptions.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in keep or not (_SECRET.search(name) or _KERNEL_VARIABLE.match(name) or name in _PYTHON)
    }


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


def start_script(commands: Sequence[str]) -> str:
    """Return one shell script that runs commands in order and ends at the first that fails.

    They share one shell, so that ``cd`` and ``export`` affect later commands. The failed command is reported
    on standard error.
    """
    lines = ["set -e", f"trap {_QUOTED_TRAP.format(count=len(commands))} EXIT"]
    for number, command in enumerate(commands, start=1):
        # `set -e` ignores a failure inside a list such as `a && b` except in its last command
        lines += [
            f"nbtoolkit_step={number}",
            command,
            "nbtoolkit_code=$?; [ $nbtoolkit_code -eq 0 ] || exit 1",
        ]
    return "\n".join(lines)


def replace_mount(commands: Sequence[str], share: Path) -> tuple[str, ...]:
    """Return commands with the container's ``/mount`` replaced by the share's folder on this machine.

    Only the commands are changed, and only whole path names; code must read the variable NBTOOLKIT_MOUNT
    instead of using ``/mount``. Raises :class:`InvalidSettings` if the folder's name needs quotes.
    """
    if any(_MOUNT.search(command) for command in commands) and not _PLAIN_PATH.fullmatch(str(share)):
        raise InvalidSettings(
            f"The share lies in {str(share)!r}, which shell commands cannot name without quotes.",
            next_step="choose a folder without spaces: LocalTarget(root='/path/to/folder')",
        )
    return tuple(_MOUNT.sub(lambda _: str(share), command) for command in commands)


def shell() -> str:
    """Return the shell for the commands: bash as in the container, else sh."""
    found = shutil.which("bash") or shutil.which("sh")
    if found is None:
        raise ServerFailed(
            "This machine has no shell for the start commands: neither bash nor sh is on the PATH.",
            next_step="install bash, or deploy with server='nbtoolkit'",
        )
    return found


def create_environment(folder: Path, progress: Progress) -> Path:
    """Create a virtual environment for a custom server and return its folder of programs.

    It includes the packages of this environment; ``pip install`` in the commands does not change these. The
    first call takes some seconds.
    """
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    done = folder / "complete"
    if done.exists():
        return programs
    progress.phase("Creating a virtual environment for your own server")
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    created = subprocess.run(command, capture_output=True, text=True, check=False)
    if created.returncode:
        output = (created.stderr or created.stdout).strip()[-500:]
        raise ServerFailed(
            f"The virtual environment {folder} could not be created: {output}",
            next_step="repair `python -m venv` on this machine (on Debian: apt install python3-venv)",
        )
    site_packages = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    paths = [path for path in (*site.getsitepackages(), site.getusersitepackages()) if Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in paths]
    (Path(site_packages) / "of-the-notebook.pth").write_text("\n".join(lines), encoding="utf-8")
    done.touch()
    return programs
