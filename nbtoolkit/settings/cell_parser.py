"""Parse the cells of a notebook: the names that each cell assigns and reads, with line numbers."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

_INJECTED = "# Parameters"
"""The first line of the cell that papermill inserts."""
_PYTHON_MAGICS = {"time", "capture", "prun"}
"""Cell magics whose body is Python in the namespace of the notebook."""
_LITERAL_CALLS = {"float", "Path", "PurePath"}  # papermill writes float('inf')
_BUILTINS = {*dir(builtins), "get_ipython", "display"}
_ASSIGNMENT = re.compile(r"^([A-Za-z]\w*)[ \t]*(?::[^=\n]+)?=(?!=)", re.M)

Kind = Literal["literal", "computed", "conditional", "block", "definition", "deleted"]
ASSIGNED: tuple[Kind, ...] = ("literal", "computed", "conditional")


class Binding(NamedTuple):
    """A statement that binds a name.

    ``conditional`` is an assignment in a compound statement; ``block`` is a target of ``for`` or ``with``;
    ``definition`` is an import, a function or a class.
    """

    name: str
    line: int
    kind: Kind


@dataclass
class Cell:
    """One executed cell, with its number as in ``In[3]``."""

    number: int
    bindings: list[Binding] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    assigns_only: bool = True
    """Whether the cell contains only assignments, imports, magics and calls that use none of its names."""
    external: set[str] = field(default_factory=set)
    """The names that the cell reads before it binds them."""
    injected: bool = False
    empty: bool = False
    calls_from_notebook: bool = False
    broken: bool = False
    """Whether the cell is not valid Python, so it never ran."""

    @property
    def assigned(self) -> list[str]:
        """The names that the cell assigns, in order."""
        return list(dict.fromkeys(b.name for b in self.bindings if b.kind in ASSIGNED))


def parse_cell(number: int, source: str, *, before_line: int | None = None, first_line: int = 1) -> Cell:
    """Return the parsed cell; with ``before_line``, only the statements that start before that line."""
    cell = Cell(number, injected=source.lstrip().startswith(_INJECTED))
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        cell.broken, cell.assigns_only = True, False
        for found in _ASSIGNMENT.finditer(source):
            line = source.count("\n", 0, found.start(1)) + first_line
            cell.bindings.append(Binding(found[1], line, "computed"))
        return cell
    if len(statements) == 1 and (body := _magic_body(statements[0])) is not None:
        return parse_cell(number, body, first_line=first_line + 1)
    cell.empty = not statements
    cell.calls_from_notebook = any(
        isinstance(n, ast.Attribute) and n.attr == "from_notebook" for s in statements for n in ast.walk(s)
    )
    if before_line is not None:
        statements = [statement for statement in statements if statement.lineno < before_line]
    bound: set[str] = set()
    for statement in statements:
        loads = _loads(statement)
        cell.reads |= loads
        cell.external |= loads - bound - _BUILTINS
        cell.assigns_only = cell.assigns_only and _is_parameter_statement(statement, set(cell.assigned))
        found = [b._replace(line=b.line + first_line - 1) for b in _bindings(statement, "")]
        cell.bindings += found
        bound |= {binding.name for binding in found}
    return cell


def _magic_body(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(attr="run_cell_magic"),
                args=[ast.Constant(value=str(magic)), ast.Constant(), ast.Constant(value=str(body))],
            )
        ) if magic in _PYTHON_MAGICS:
            return body
        case _:
            return None


def _loads(node: ast.AST) -> set[str]:
    """Return the names that a statement reads, without the variables of lambdas and comprehensions."""
    names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    local = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    for part in ast.walk(node):
        if isinstance(part, ast.comprehension):
            local |= set(_targets(part.target))
    # an augmented assignment also reads its target, whose context is Store
    modified = set(_targets(node.target)) if isinstance(node, ast.AugAssign) else set[str]()
    return ({name.id for name in names if isinstance(name.ctx, ast.Load)} - local) | modified


def _is_parameter_statement(statement: ast.stmt, assigned: Collection[str]) -> bool:
    """Return whether a parameters cell that assigned these names before may contain the statement."""
    match statement:
        case ast.Assign() | ast.AnnAssign() | ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Delete():
            return True
        case ast.Expr():
            return not _loads(statement) & set(assigned)
        case ast.If() | ast.Try():
            return all(_is_parameter_statement(part, assigned) for part in _children(statement))
        case _:
            return False


def _bindings(statement: ast.stmt, inside: Kind | Literal[""]) -> Iterator[Binding]:
    """Yield what a statement binds; ``inside`` is the kind of assignments in a compound statement."""
    targets: list[ast.expr] = []
    names: list[str] = []
    kind: Kind = inside or "computed"
    match statement:
        case ast.Assign(targets=targets, value=value):
            kind = inside or ("literal" if _is_literal(value) else "computed")
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            targets, kind = [target], inside or ("literal" if _is_literal(value) else "computed")
        case ast.AugAssign(target=target):
            targets = [target]
        case ast.Delete(targets=targets):
            kind = "deleted"
        case ast.For(target=target) | ast.AsyncFor(target=target):
            targets, kind = [target], "block"
        case ast.With(items=items) | ast.AsyncWith(items=items):
            targets, kind = [item.optional_vars for item in items if item.optional_vars], "block"
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            names, kind = [one.asname or one.name.partition(".")[0] for one in aliases], "definition"
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield Binding(name, statement.lineno, "definition")
            return  # the body binds no name of the notebook
        case _:
            pass
    names += [name for target in targets for name in _targets(target)]
    yield from (Binding(name, statement.lineno, kind) for name in names)
    for part in _children(statement):
        yield from _bindings(part, "conditional")


def _children(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Yield the statements directly inside a compound statement."""
    for node in ast.iter_child_nodes(statement):
        if isinstance(node, ast.stmt):
            yield node
        elif isinstance(node, ast.ExceptHandler | ast.match_case):
            yield from node.body


def _targets(target: ast.expr) -> list[str]:
    """Return the names in an assignment target; an attribute or ``os.environ["A"]`` has none."""
    match target:
        case ast.Name(id=name):
            return [name]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [name for part in parts for name in _targets(part)]
        case ast.Starred(value=value):
            return _targets(value)
        case _:
            return []


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
            return name in _LITERAL_CALLS and all(map(_is_literal, arguments))
        case _:
            return False
