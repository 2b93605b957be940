"""The compiled deployment template: what ``infra/provision/inference.bicep`` says, as Azure takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PACKAGED = Path(__file__).with_name("inference.json")
_CHECKOUT = Path(__file__).parents[3] / "infra" / "provision" / "inference.json"


def template() -> dict[str, Any]:
    """Return the template, freshly read: out of the installed package, or the checkout's."""
    path = _PACKAGED if _PACKAGED.exists() else _CHECKOUT
    return json.loads(path.read_text(encoding="utf-8"))
