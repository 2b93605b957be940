"""Find the settings that the cells of a notebook have assigned.

A parameters cell runs before the imports, so nbtoolkit cannot observe it. IPython records the source of every
executed cell, which shows the cell that assigned a name; the value is read from the kernel's namespace.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from types import FrameType, ModuleType
from typing import Any, NamedTuple

from nbtoolkit.settings.cell_parser import ASSIGNED, Binding, Cell, parse_cell

_IPYTHON_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}
_MISSPELT_SIMILARITY = 0.75
"""Similarity from which a name counts as a misspelt setting, as in :func:`difflib.get_close_matches`."""


@dataclass
class Parameters:
    """The ``values`` of settings that the cells have assigned, and the names that must be rejected."""

    values: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    """Names that are not settings and are probably misspelt."""
    stale: dict[str, Any] = field(default_factory=dict)
    """Settings that an earlier run of the parameters cell assigned and the last run did not."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Settings whose value cannot be read, with the reason as the end of a sentence."""
    lines: dict[str, str] = field(default_factory=dict)
    """Name → the cell and line that assigned it."""
    computed: set[str] = field(default_factory=set)
    """Names whose value is not a literal in the source of the notebook."""


class _LastBinding(NamedTuple):
    cell: Cell
    binding: Binding

    def __str__(self) -> str:
        return f"cell In[{self.cell.number}], line {self.binding.line}"


def read_parameters(
    source: FrameType | Mapping[str, Any], fields: Collection[str], other_fields: Collection[str]
) -> Parameters:
    """Return which of the settings ``fields`` the calling notebook has assigned.

    ``source`` is the caller's frame, or a namespace. ``other_fields`` are the settings of other steps.
    Outside of IPython, which records executed cells, the plain names of the caller's globals, or of the
    namespace, count.
    """
    namespace = source.f_globals if isinstance(source, FrameType) else source
    sources = namespace.get("In") if _in_ipython() else None
    if not isinstance(source, FrameType) or not isinstance(sources, Sequence):
        names = plain_names(namespace)
        return Parameters(names, [name for name in names if name not in {*fields, *other_fields}])
    cells = _executed_cells(source, list(map(str, sources)))
    return _ExecutedNotebook(namespace, cells, fields, other_fields).parameters()


def plain_names(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the public names of a namespace that hold plain data, such as numbers, texts and lists."""
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _IPYTHON_NAMES and _is_plain(value)
    }


class _ExecutedNotebook:
    """The executed cells of a notebook; the last one calls ``from_notebook``."""

    def __init__(
        self,
        namespace: Mapping[str, Any],
        cells: Sequence[Cell],
        fields: Collection[str],
        other_fields: Collection[str],
    ) -> None:
        self._namespace = namespace
        self._cells = cells
        self._fields = fields
        self._all_fields = {*fields, *other_fields}
        self._read_names = {name for cell in cells for name in cell.reads}
        self._last = {b.name: _LastBinding(cell, b) for cell in cells for b in cell.bindings}
        self._runs = self._parameter_runs()

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
        found.lines = {name: str(last) for name, last in self._last.items()}
        found.computed = {
            name for name, last in self._last.items() if last.binding.kind not in ("literal", "deleted")
        }
        return found

    def _parameter_runs(self) -> list[list[Cell]]:
        """Return the runs of parameters cells: papermill's cell follows the cell with the defaults."""
        runs: list[list[Cell]] = [[]]
        for cell in self._cells[:-1]:
            if self._is_parameters(cell):
                runs[-1].append(cell)
            elif not cell.empty:
                runs.append([])
        return [run for run in runs if run]

    def _is_parameters(self, cell: Cell) -> bool:
        """Return whether a cell only assigns settings and takes no value from other cells."""
        if not cell.assigns_only or any(self._is_data(name) for name in cell.external):
            return False
        return cell.injected or any(n in self._all_fields or self._nearest_field(n) for n in cell.assigned)

    def _is_data(self, name: str) -> bool:
        value = self._namespace.get(name)
        return not (isinstance(value, ModuleType | type) or callable(value))

    def _is_user_data(self, name: str) -> bool:
        return _is_plain(self._namespace[name]) and not _is_hidden(name, self._namespace[name])

    def _is_other_object(self, name: str) -> bool:
        """Return whether the name of a setting is bound to another object, such as by ``import secrets``."""
        value, (cell, binding) = self._namespace[name], self._last[name]
        if _is_plain(value) or self._is_parameters(cell):
            return binding.kind == "definition" and not _is_plain(value)
        # such as a report or a target
        is_nbtoolkit_object = type(value).__module__.partition(".")[0] == __name__.partition(".")[0]
        return is_nbtoolkit_object or binding.kind in ("block", "definition")

    def _unreadable(self, name: str) -> str | None:
        last = self._last[name]
        cell, binding = last
        is_calling_cell = cell is self._cells[-1]
        has_user_data = name in self._namespace and self._is_user_data(name)
        if binding.kind == "block" and not is_calling_cell and has_user_data:
            return f"has a value that a loop or with statement left there ({last})"
        if cell.broken:
            return f"is assigned in a cell that is not valid Python and did not run ({last})"
        if binding.kind not in ("literal", "computed") or is_calling_cell:
            return None
        if name not in self._namespace:
            return f"is assigned in a cell that did not run up to that line ({last})"
        if cell.number in _failed_cells() and self._is_parameters(cell):
            return f"may have an older value, because the cell that assigns it failed ({last})"
        return None

    def _stale(self) -> list[str]:
        """Return the settings of an earlier run that the later run of the cell did not assign again."""
        stale: list[str] = []
        for index, run in enumerate(self._runs[:-1]):
            names = list(dict.fromkeys(name for cell in run for name in cell.assigned))
            later = {name for other in self._runs[index + 1 :] for cell in other for name in cell.assigned}
            end, start = run[-1].number, self._runs[-1][0].number
            called = any(cell.calls_from_notebook for cell in self._cells if end < cell.number < start)
            if called or later.intersection(names):
                stale += [name for name in names if name in self._last and self._last[name].cell in run]
        return stale

    def _unknown(self) -> list[str]:
        last_run = dict.fromkeys(name for run in self._runs[-1:] for cell in run for name in cell.assigned)
        # a name that another cell reads is a variable of the notebook, not a misspelt setting
        unknown = [name for name in last_run if self._is_unknown(name) and name not in self._read_names]
        for name in plain_names(self._namespace):
            if name in unknown or not self._is_unknown(name):
                continue
            if name in self._last and self._last[name].binding.kind not in ASSIGNED:
                continue
            nearest = self._nearest_field(name)
            plural = nearest is not None and nearest.removesuffix("s") == name.removesuffix("s")
            if nearest and nearest not in self._namespace and not (plural and name in self._read_names):
                unknown.append(name)
        return unknown

    def _is_unknown(self, name: str) -> bool:
        return (
            not name.startswith("_")
            and name not in self._all_fields
            and name in self._namespace
            and _is_plain(self._namespace[name])
            and (name in self._last or not _is_hidden(name, self._namespace[name]))
        )

    def _nearest_field(self, name: str) -> str | None:
        matches = difflib.get_close_matches(name, self._all_fields, n=1, cutoff=_MISSPELT_SIMILARITY)
        return next(iter(matches), None)


def _executed_cells(caller: FrameType, sources: list[str]) -> list[Cell]:
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
        blank = len(original) - len(original.lstrip())  # IPython removes leading blank lines
        first = original.count("\n", 0, blank) + 1 if not source[:1].isspace() else 1
        before = line if number == len(sources) - 1 else None
        cells.append(parse_cell(number, source, before_line=before, first_line=first))
    return cells


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, str | int | float | bool | PurePath):
        return True
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    return isinstance(value, dict) and all(_is_plain(k) and _is_plain(v) for k, v in value.items())


def _is_hidden(name: str, value: Any) -> bool:
    """Return whether IPython or a startup file defined the name before the first cell."""
    return name in _IPYTHON_NAMES or _shell().user_ns_hidden.get(name, _shell) is value


def _failed_cells() -> Collection[int]:
    """Return the numbers of the cells that raised; IPython before 9 does not record them."""
    return getattr(_shell().history_manager, "exceptions", {})


def _shell() -> Any:
    return sys.modules["IPython"].get_ipython()


def _in_ipython() -> bool:
    ipython = sys.modules.get("IPython")  # not imported here: a script has no cells
    return ipython is not None and ipython.get_ipython() is not None
