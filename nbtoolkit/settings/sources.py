"""Which names a notebook's parameters cell has set.

A parameters cell comes before the imports, so nothing of ours can watch it run. IPython keeps the source
of every executed cell, and a cell that holds nothing but plain assignments is taken for one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

_OWN_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}
_CONSTRUCTORS = {"float", "Path", "PurePath"}  # papermill writes float('inf')


def parameters(caller: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the names that the last parameters cells set, and those that only earlier ones did.

    Without IPython's record of executed cells the plain names of ``caller`` are the first, and the second
    is empty.
    """
    sources = caller.get("In") if _in_ipython() else None
    if not isinstance(sources, Sequence):
        return plain_names(caller), {}
    runs: list[list[str]] = [[]]
    for source in sources:
        names = assigned_names(source) if isinstance(source, str) and source.strip() else []
        if names is None:
            runs.append([])
        else:
            runs[-1] += names
    filled = [run for run in runs if run] or [[]]
    last = dict.fromkeys(filled[-1])
    earlier = {name: None for run in filled[:-1] for name in run if name not in last}
    return _values(last, caller), _values(earlier, caller)


def plain_names(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the public names of a namespace that hold plain data, such as numbers, texts and lists."""
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _OWN_NAMES and _is_plain(value)
    }


def assigned_names(source: str) -> list[str] | None:
    """Return the names that a cell assigns, [] for an empty cell; None if it does anything else as well."""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None  # a cell that could not run set nothing
    names: list[str] = []
    for index, statement in enumerate(statements):
        if isinstance(statement, ast.Import | ast.ImportFrom) and index < len(statements) - 1:
            continue  # `from pathlib import Path` before the parameters
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a text that explains the cell
        found = _assigned(statement)
        if found is None:
            return None
        names += found
    return names


def _assigned(statement: ast.stmt) -> list[str] | None:
    if isinstance(statement, ast.AnnAssign):
        targets: list[ast.expr] = [statement.target]
        value = statement.value
    elif isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    else:
        return None
    if value is None or not _is_literal(value):
        return None
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(targets) else None


def _is_literal(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return True
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return all(map(_is_literal, parts))
        case ast.Dict(keys=keys, values=values):
            return all(key is not None and _is_literal(key) for key in keys) and all(map(_is_literal, values))
        case ast.UnaryOp(operand=operand):
            return _is_literal(operand)
        case ast.BinOp(left=left, right=right):  # 4 * 1024, "a" + "b", Path("a") / "b"
            return _is_literal(left) and _is_literal(right)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return name in _CONSTRUCTORS and all(map(_is_literal, arguments))
        case _:
            return False


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, str | int | float | bool | PurePath):
        return True
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    return isinstance(value, dict) and all(_is_plain(k) and _is_plain(v) for k, v in value.items())


def _values(names: Mapping[str, None], caller: Mapping[str, Any]) -> dict[str, Any]:
    """Read the present values: a name that was deleted since is not set."""
    return {name: caller[name] for name in names if name in caller and not name.startswith("_")}


def _in_ipython() -> bool:
    ipython = sys.modules.get("IPython")  # not imported for this: a script has no cells
    return ipython is not None and ipython.get_ipython() is not None
