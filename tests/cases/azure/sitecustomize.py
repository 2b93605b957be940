"""Resolve the helper module of the cases to the copy here, also in child processes that put the cases' folder first."""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path


class HelperFinder:
    """A finder that comes before ``sys.path``."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(Path(__file__).parent)]) if name in ("lab", "srv") else None


sys.meta_path.insert(0, HelperFinder)  # type: ignore[arg-type]
