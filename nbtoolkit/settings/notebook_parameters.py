"""Find the settings that a notebook's cells have assigned.

A parameters cell runs before the imports, so nbtoolkit cannot observe it. IPython keeps the source of every
executed cell, which tells what assigned a name; the value is always the one in the kernel's namespace.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from types import FrameType, ModuleType
from typing import Any, NamedTuple

from nbtoolkit.settings.cells import ASSIGNED, Binding, Cell, parse

_OWN_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}
_CLOSE = 0.75
"""Similarity from which a name counts as a misspelt setting, as in :func:`difflib.get_close_matches`."""


@dataclass
class Parameters:
    """The ``values`` of settings that the cells have set, and the names that must be refused."""

    values: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    """Names that are not settings and are likely misspelt ones."""
    stale: dict[str, Any] = field(default_factory=dict)
    """Settings that an earlier run of the parameters cell set and the last run did not."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Settings whose value cannot be read, with the reason as the end of a sentence."""
    places: dict[str, str] = field(default_factory=dict)
    """Name → the cell and line that assigned it."""
    computed: set[str] = field(default_factory=set)
    """Names whose value is not a literal in the notebook's source."""


class _Assigned(NamedTuple):
    cell: Cell
    binding: Binding


def parameters(caller: FrameType | None, fields: Collection[str], elsewhere: Collection[str]) -> Parameters:
    """Return which of the settings ``fields`` the calling notebook has set.

    ``elsewhere`` are the names of settings that belong to other steps. Without IPython's record of executed
    cells the plain names of the caller's globals count.
    """
    namespace = caller.f_globals if caller else {}
    sources = namespace.get("In") if _in_ipython() else None
    if caller is None or not isinstance(sources, Sequence):
        names = plain_names(namespace)
        return Parameters(names, [name for name in names if name not in {*fields, *elsewhere}])
    return _Notebook(namespace, _cells(caller, list(map(str, sources))), fields, elsewhere).parameters()


def plain_names(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the public names of a namespace that hold plain data, such as numbers, texts and lists."""
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _OWN_NAMES and _is_plain(value)
    }


class _Notebook:
    """The executed cells of a notebook, of which the last calls ``from_notebook``."""

    def __init__(
        self,
        namespace: Mapping[str, Any],
        cells: Sequence[Cell],
        fields: Collection[str],
        elsewhere: Collection[str],
    ) -> None:
        self._namespace = namespace
        self._cells = cells
        self._fields = fields
        self._known = {*fields, *elsewhere}
        self._read = {name for cell in cells for name in cell.reads}
        self._last = {b.name: _Assigned(cell, b) for cell in cells for b in cell.bindings}
        self._runs = self._runs_of_parameters()

    def parameters(self) -> Parameters:
        found = Parameters()
        for name in self._fields:
            if name not in self._last or self._last[name].binding.kind == "deleted":
                if name in self._namespace and self._is_user_data(name):  # from `%run`, `import *`, exec
                    found.values[name] = self._namespace[name]
                continue
            if reason := self._unreadable(name):
                found.unreadable[name] = reason
            elif name in self._namespace and not self._is_other_object(name):
                found.values[name] = self._namespace[name]
        found.stale = {name: found.values.pop(name) for name in self._stale() if name in found.values}
        found.unknown = self._unknown()
        found.places = {name: _place(assigned) for name, assigned in self._last.items()}
        found.computed = {
            name for name, a in self._last.items() if a.binding.kind not in ("literal", "deleted")
        }
        return found

    def _runs_of_parameters(self) -> list[list[Cell]]:
        """Return the runs of parameters cells: papermill's cell follows the one with the defaults."""
        runs: list[list[Cell]] = [[]]
        for cell in self._cells[:-1]:
            if self._is_parameters(cell):
                runs[-1].append(cell)
            elif not cell.empty:
                runs.append([])
        return [run for run in runs if run]

    def _is_parameters(self, cell: Cell) -> bool:
        """Tell whether a cell assigns settings, does nothing else, and takes no value from other cells."""
        if not cell.assigns_only or any(self._is_data(name) for name in cell.outside):
            return False
        return cell.injected or any(n in self._known or self._close(n) for n in cell.assigned)

    def _is_data(self, name: str) -> bool:
        value = self._namespace.get(name)
        return not (isinstance(value, ModuleType | type) or callable(value))

    def _is_user_data(self, name: str) -> bool:
        return _is_plain(self._namespace[name]) and not _is_hidden(name, self._namespace[name])

    def _is_other_object(self, name: str) -> bool:
        """Tell whether a setting's name is bound to an object that cannot be one, as ``import secrets``."""
        value, (cell, binding) = self._namespace[name], self._last[name]
        if _is_plain(value) or self._is_parameters(cell):
            return binding.kind == "definition" and not _is_plain(value)
        own = type(value).__module__.partition(".")[0] == __name__.partition(".")[0]  # a report, a target
        return own or binding.kind in ("block", "definition")

    def _unreadable(self, name: str) -> str | None:
        cell, binding = self._last[name]
        place, calling = _place(self._last[name]), cell is self._cells[-1]
        if binding.kind == "block" and not calling and name in self._namespace and self._is_user_data(name):
            return f"holds a value that a loop or with statement left there ({place})"
        if cell.broken:
            return f"is assigned in a cell that is not valid Python and did not run ({place})"
        if binding.kind not in ("literal", "computed") or calling:
            return None
        if name not in self._namespace:
            return f"is assigned in a cell that did not run up to that line ({place})"
        if cell.number in _failed_cells() and self._is_parameters(cell):
            return f"may have an older value, because the cell that assigns it failed ({place})"
        return None

    def _stale(self) -> list[str]:
        """Return the settings of an earlier run that were not set again when the cell was run again."""
        stale: list[str] = []
        for index, run in enumerate(self._runs[:-1]):
            names = list(dict.fromkeys(name for cell in run for name in cell.assigned))
            later = {name for other in self._runs[index + 1 :] for cell in other for name in cell.assigned}
            end, begin = run[-1].number, self._runs[-1][0].number
            called = any(cell.calls_from_notebook for cell in self._cells if end < cell.number < begin)
            if called or later.intersection(names):
                stale += [name for name in names if name in self._last and self._last[name].cell in run]
        return stale

    def _unknown(self) -> list[str]:
        last = [name for cell in self._runs[-1:] for part in cell for name in part.assigned]
        # what is read elsewhere is a variable of the notebook's own code, not a misspelt setting
        wrong = [name for name in dict.fromkeys(last) if self._is_unknown(name) and name not in self._read]
        for name in plain_names(self._namespace):
            if name in wrong or not self._is_unknown(name):
                continue
            if name in self._last and self._last[name].binding.kind not in ASSIGNED:
                continue
            close = self._close(name)
            plural = close is not None and close.removesuffix("s") == name.removesuffix("s")
            if close and close not in self._namespace and not (plural and name in self._read):
                wrong.append(name)
        return wrong

    def _is_unknown(self, name: str) -> bool:
        return (
            not name.startswith("_")
            and name not in self._known
            and name in self._namespace
            and _is_plain(self._namespace[name])
            and (name in self._last or not _is_hidden(name, self._namespace[name]))
        )

    def _close(self, name: str) -> str | None:
        return next(iter(difflib.get_close_matches(name, self._known, n=1, cutoff=_CLOSE)), None)


def _cells(caller: FrameType, sources: list[str]) -> list[Cell]:
    """Parse the executed cells; of the calling cell, only the statements before the call."""
    line, frame = caller.f_lineno, caller.f_back
    while frame is not None:
        if frame.f_globals is caller.f_globals:
            line = frame.f_lineno
        frame = frame.f_back
    history: Any = _shell().history_manager
    raw: Sequence[str] = history.input_hist_raw if history is not None else sources
    cells: list[Cell] = []
    for number, source in enumerate(sources):
        original = raw[number] if number < len(raw) else source
        blank = len(original) - len(original.lstrip())  # IPython drops leading blank lines
        first = original.count("\n", 0, blank) + 1 if not source[:1].isspace() else 1
        before = line if number == len(sources) - 1 else None
        cells.append(parse(number, source, before_line=before, first_line=first))
    return cells


def _place(assigned: _Assigned) -> str:
    return f"cell In[{assigned.cell.number}], line {assigned.binding.line}"


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, str | int | float | bool | PurePath):
        return True
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    return isinstance(value, dict) and all(_is_plain(k) and _is_plain(v) for k, v in value.items())


def _is_hidden(name: str, value: Any) -> bool:
    """Tell whether IPython or a startup file defined the name before the first cell."""
    return name in _OWN_NAMES or _shell().user_ns_hidden.get(name, _shell) is value


def _failed_cells() -> Collection[int]:
    """Return the numbers of the cells that raised; IPython before 9 does not record them."""
    return getattr(_shell().history_manager, "exceptions", {})


def _shell() -> Any:
    return sys.modules["IPython"].get_ipython()


def _in_ipython() -> bool:
    ipython = sys.modules.get("IPython")  # not imported for this: a script has no cells
    return ipython is not None and ipython.get_ipython() is not None
