"""Measure the structure of src/, and compare it with its budgets.

    python tools/structure.py

Exit code 1: a value is over its budget and not in EXCEPTIONS, an exception is no longer needed, or code below the API
reads AWS's shapes. Complexity is McCabe's, as ruff's rule C901 counts it.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGE = "hostler"
BUDGETS = {"lines of a file": 500, "methods of a class": 25, "lines of a class": 250, "complexity of a function": 12}
CYCLE = "import cycle"
ANYS = 3.0  # budget of `Any` per 1,000 lines below the API

# The packages of the APIs and of their clients: they read and write AWS's shapes, whose members only AWS's schema
# types. Everything else is below the API: it has types, and no member's name of AWS's as a key.
API = ("control", "aws", "cli", "s3", "testing")
LIFT = "store/documents.py"  # lifts documents into specs, so it alone below the API knows the members' names
_MEMBER = re.compile(r"[A-Z][a-z0-9]+([A-Z][A-Za-z0-9]*)?").fullmatch

# (measure, location) -> why it may be over its budget. A cycle's location is its modules, with commas between.
_EVENTS = "one state machine: a method for each event of a target, each decision and each move, over one ledger"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("methods of a class", "hostler/core/targets/model_cache.py: ModelCache"): _EVENTS,
    ("lines of a class", "hostler/core/targets/model_cache.py: ModelCache"): _EVENTS,
}


@dataclass(frozen=True)
class Module:
    """A module of the package: its dotted name, its path below `src`, its text and its syntax tree."""

    name: str
    path: str
    text: str
    tree: ast.Module


@dataclass
class Measures:
    """`values`: measure -> location -> value. `cycles`: of imports at load; `late`: those that later imports close."""

    values: dict[str, dict[str, int]] = field(default_factory=dict)
    cycles: list[tuple[str, ...]] = field(default_factory=list)
    late: list[tuple[str, ...]] = field(default_factory=list)

    def over(self) -> dict[tuple[str, str], int]:
        """Return the values over their budgets by (measure, location); for a cycle the number of its modules."""
        over = {
            (measure, location): value
            for measure, budget in BUDGETS.items()
            for location, value in self.values[measure].items()
            if value > budget
        }
        return over | {(CYCLE, ", ".join(cycle)): len(cycle) for cycle in self.cycles}


def main() -> int:
    modules = read(SOURCE, PACKAGE)
    measured = measure(modules, complexities(SOURCE, modules))
    print("\n".join([*table(measured, EXCEPTIONS), *notes(modules, measured)]))
    faults = complaints(measured, EXCEPTIONS) + lapses(modules)
    print("\n".join(faults) or "structure: within its budgets")
    return 1 if faults else 0


def read(source: Path, package: str) -> list[Module]:
    modules = []
    for path in sorted((source / package).rglob("*.py")):
        relative = path.relative_to(source)
        name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text()
        modules.append(Module(name, str(relative), text, ast.parse(text)))
    return modules


def measure(modules: Sequence[Module], complexity: Mapping[str, int]) -> Measures:
    """Return all measures of the modules. `complexity`: location -> value, of every function."""
    measures = Measures({name: {} for name in (*BUDGETS, "lines of a function", "arguments of a function")})
    measures.values["complexity of a function"].update(complexity)
    for module in modules:
        measures.values["lines of a file"][module.path] = len(module.text.splitlines())
        for location, node in definitions(module):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) for child in node.body)
                measures.values["methods of a class"][location] = methods
                measures.values["lines of a class"][location] = lines
            else:
                measures.values["lines of a function"][location] = lines
                measures.values["arguments of a function"][location] = _arguments(node)
    measures.cycles = cycles({module.name: imports(module, modules, late=False) for module in modules})
    late = cycles({module.name: imports(module, modules, late=True) for module in modules})
    measures.late = [cycle for cycle in late if cycle not in measures.cycles]
    return measures


# --- definitions --------------------------------------------------------------------------------------------------

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(module: Module) -> Iterator[tuple[str, Definition]]:
    """Yield each function and class with its location, `path: Class.method`."""

    def below(node: ast.AST, outer: str) -> Iterator[tuple[str, Definition]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition):
                yield f"{module.path}: {outer}{child.name}", child
                yield from below(child, f"{outer}{child.name}.")
            else:
                yield from below(child, outer)

    return below(module.tree, "")


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the arguments without self and cls."""
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def complexities(source: Path, modules: Iterable[Module]) -> dict[str, int]:
    """Return location -> complexity, by ruff."""
    command = [
        sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "C901", "--ignore-noqa",
        "--config", "lint.mccabe.max-complexity=0", "--output-format", "json", "--exit-zero", str(source),
    ]  # fmt: skip
    locations = {
        (str(source / module.path), node.lineno): location
        for module in modules
        for location, node in definitions(module)
    }
    complexities: dict[str, int] = {}
    for finding in json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout):
        if (line := (finding["filename"], finding["location"]["row"])) in locations:
            value = re.search(r"\((\d+) > 0\)", finding["message"])
            assert value, finding["message"]
            complexities[locations[line]] = int(value[1])
    return complexities


# --- imports ------------------------------------------------------------------------------------------------------


def imports(module: Module, modules: Sequence[Module], *, late: bool) -> set[str]:
    """Return the package's modules that a module imports at load.

    With `late` also those that it imports in functions, or for type checkers only.
    """
    names = {other.name for other in modules}
    package = module.name if module.path.endswith("__init__.py") else module.name.rpartition(".")[0]
    imported: set[str] = set()
    for node in ast.walk(module.tree) if late else _at_load(module.tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inside = f"{base}.{alias.name}"
                imported.add(inside if inside in names else base)
    return (imported & names) - {module.name}


def _at_load(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when the module loads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _at_load(child)


def cycles(graph: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Return the groups of modules that import each other, directly or through others."""
    reached = {name: _reached(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return sorted(groups)


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += graph[name]
    return reached


# --- below the API ------------------------------------------------------------------------------------------------


def below_api(modules: Iterable[Module]) -> list[Module]:
    return [module for module in modules if module.path.split("/")[1] not in API]


def anys(modules: Iterable[Module]) -> float:
    """Return how often `Any` stands in 1,000 lines."""
    lines = sum(len(module.text.splitlines()) for module in modules)
    return 1000 * sum(_is_any(node) for module in modules for node in ast.walk(module.tree)) / max(1, lines)


def _is_any(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "Any"


def member_keys(module: Module) -> list[int]:
    """Return the lines in which a text that looks like a member's name of AWS's is a key."""
    keys: list[ast.expr] = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Subscript):
            keys.append(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
            keys += node.args[:1]
    return [
        key.lineno
        for key in keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and _MEMBER(key.value)
    ]


def lapses(modules: Sequence[Module]) -> list[str]:
    """Return a line if there is too much `Any` below the API, and one for each key that is a member's name."""
    below = below_api(modules)
    lines = [f"Any below the API: {anys(below):.1f} per 1,000 lines, more than {ANYS:g}"] if anys(below) > ANYS else []
    for module in below:
        if not module.path.endswith(LIFT):
            lines += [f"a member's name is a key: {module.path}, line {line}" for line in member_keys(module)]
    return lines


# --- report -------------------------------------------------------------------------------------------------------


def table(measures: Measures, exceptions: Mapping[tuple[str, str], str]) -> list[str]:
    """Return for each measure its median, 90th percentile, maximum and budget, and the number of values over it."""
    over = measures.over()
    rows: list[tuple[str, ...]] = [("", "median", "p90", "max", "budget", "over", "excepted", "the largest")]
    for name, values in measures.values.items():
        ordered = sorted(values.values())
        above = [location for measure, location in over if measure == name]
        rows.append((
            name, *(str(_quantile(ordered, part)) for part in (0.5, 0.9, 1.0)), str(BUDGETS.get(name, "")),
            str(len(above)) if name in BUDGETS else "",
            str(sum((name, location) in exceptions for location in above) or ""),
            max(values, key=lambda location: values[location], default=""),
        ))  # fmt: skip
    rows.append((CYCLE, "", "", "", "0", str(len(measures.cycles)), "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = "<>>>>>><"
    return ["  ".join(f"{t:{side}{w}}" for t, side, w in zip(row, sides, widths, strict=True)).rstrip() for row in rows]


def _quantile(ordered: Sequence[int], part: float) -> int:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0


def notes(modules: Sequence[Module], measures: Measures) -> list[str]:
    """Return further figures: Any, broad excepts, comments, and cycles that later imports close."""
    lines = sum(len(module.text.splitlines()) for module in modules)
    nodes = [node for module in modules for node in ast.walk(module.tree)]
    broad = sum(_is_broad(node) for node in nodes)
    comments = sum(line.lstrip().startswith("#") for module in modules for line in module.text.splitlines())
    return [
        f"{len(modules)} files, {lines:,} lines; per 1,000 lines: {anys(modules):.1f} Any"
        f" ({anys(below_api(modules)):.1f} below the API), {comments / lines * 1000:.1f} full-line comments;"
        f" {broad} broad excepts",
        *(f"closed by an import in a function or for type checkers: {', '.join(cycle)}" for cycle in measures.late),
    ]


def _is_broad(node: ast.AST) -> bool:
    """Return whether the node catches, or suppresses, any exception."""
    if isinstance(node, ast.ExceptHandler):
        kinds: list[ast.expr | None] = [node.type]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
        kinds = [*node.args]
    else:
        return False
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def complaints(measures: Measures, exceptions: Mapping[tuple[str, str], str]) -> list[str]:
    """Return a line for each value over its budget without an exception, and each exception without need or reason."""
    over = measures.over()
    lines = [f"{key[0]}: {value} in {key[1]}" for key, value in over.items() if key not in exceptions]
    for (name, location), reason in exceptions.items():
        if (name, location) not in over:
            lines.append(f"{name}: {location} is within its budget, or does not exist: remove its exception")
        elif not reason.strip():
            lines.append(f"{name}: the exception of {location} has no reason")
    return lines


if __name__ == "__main__":
    sys.exit(main())
