"""The name of the installed distribution, and the command that adds an extra to it.

The distribution is named ``nbtoolkit-lora`` because the PyPI name ``nbtoolkit`` belongs to another project.
It is installed from a checkout only.
"""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

DISTRIBUTION = "nbtoolkit-lora"
_ROOT = Path(__file__).parents[1]


def install_hint(*extras: str, root: Path = _ROOT) -> str:
    """Return the command that installs extras, for the next step of an error.

    The command names the checkout's path if ``root``, the folder that holds this package, is a checkout.
    """
    wanted = f"[{','.join(extras)}]"
    if _is_checkout(root):
        return f"pip install -e {shlex.quote(f'{root}{wanted}')}"
    return f"in nbtoolkit's checkout: pip install -e '.{wanted}'"


def _is_checkout(root: Path) -> bool:
    try:
        with (root / "pyproject.toml").open("rb") as file:
            return tomllib.load(file)["project"]["name"] == DISTRIBUTION
    except (OSError, ValueError, KeyError):
        return False  # site-packages, which may hold the pyproject.toml of another project
