"""Run the user's own server: the start commands of the AI Toolkit's parameter file, on this machine."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from nbtoolkit.errors import InvalidSettings, ServerFailed
from nbtoolkit.progress import Progress

_MOUNT = re.compile(r"(?<![\w./-])/mount(?![\w.-])")
_PLAIN_PATH = re.compile(r"[\w./+@%,:=-]+")


def start_script(commands: Sequence[str]) -> str:
    """Return one shell script that runs commands in order and ends at the first that fails.

    They share one shell, so that ``cd`` and ``export`` count for what follows. Which command failed is said
    on standard error.
    """
    lines = ["set -e", f"trap {_QUOTED_TRAP.format(count=len(commands))} EXIT"]
    for number, command in enumerate(commands, start=1):
        # `set -e` lets a failing list such as `a && b` pass where it does not end with the failure
        lines += [
            f"nbtoolkit_step={number}",
            command,
            "nbtoolkit_code=$?; [ $nbtoolkit_code -eq 0 ] || exit 1",
        ]
    return "\n".join(lines)


_QUOTED_TRAP = (
    "'nbtoolkit_code=$?; [ $nbtoolkit_code -eq 0 ] || "
    'echo "nbtoolkit: start command $nbtoolkit_step of {count} failed with exit code $nbtoolkit_code" >&2\''
)


def replace_mount(commands: Sequence[str], share: Path) -> tuple[str, ...]:
    """Return commands with the container's ``/mount`` replaced by the folder that is the share here.

    Only the commands are changed, where ``/mount`` stands as a whole name; code that names ``/mount`` itself
    should read the variable NBTOOLKIT_MOUNT instead. Raises :class:`InvalidSettings` where the folder's name
    would have to be quoted.
    """
    if any(_MOUNT.search(command) for command in commands) and not _PLAIN_PATH.fullmatch(str(share)):
        raise InvalidSettings(
            f"The share lies in {str(share)!r}, which shell commands cannot name without quotes.",
            next_step="choose a folder without spaces: LocalTarget(root='/path/to/folder')",
        )
    return tuple(_MOUNT.sub(lambda _: str(share), command) for command in commands)


def shell() -> str:
    """Return the shell that runs the commands: bash as in the container, else sh."""
    found = shutil.which("bash") or shutil.which("sh")
    if found is None:
        raise ServerFailed(
            "There is no shell on this machine to run the start commands.",
            next_step="install bash, or deploy with server='nbtoolkit'",
        )
    return found


def create_environment(folder: Path, progress: Progress) -> Path:
    """Return the folder of the programs of a Python of the server's own; making it takes some seconds, once.

    It sees the packages of this environment, and ``pip install`` among the commands does not change them.
    """
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    done = folder / "complete"
    if done.exists():
        return programs
    progress.phase("Making a Python environment for your own server")
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise ServerFailed(
            f"No Python environment could be made in {folder}: {(made.stderr or made.stdout).strip()[-500:]}",
            next_step="repair `python -m venv` on this machine (on Debian: apt install python3-venv)",
        )
    inside = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    seen = [path for path in (*site.getsitepackages(), site.getusersitepackages()) if Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in seen]
    (Path(inside) / "of-the-notebook.pth").write_text("\n".join(lines), encoding="utf-8")
    done.touch()
    return programs
