"""Above the engines nothing knows where or how a container runs: stated over the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hostler

SOURCE = Path(hostler.__file__).parent
ABOVE = sorted(
    path.relative_to(SOURCE).as_posix()
    for package in ("control", "core", "gateway", "hosting", "store")
    for path in (SOURCE / package).rglob("*.py")
)
WIRING = {"control/main.py", "control/alone.py", "control/station.py"}  # they choose the engine
SHARED = {"engine", "log_files", "log_stream", "sockets"}  # of engines/: what others may import
# They know gateways' pids, which the host asks for.
GATEWAYS = {"hosting/gateway_links.py", "gateway/control_link.py", "hosting/reconciler.py"}
# The Host header of a server on TCP; control's own sockets.
TRANSPORT = {"gateway/routes.py", "gateway/main.py", "control/listeners.py"}


def nodes(file: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((SOURCE / file).read_text()))


def texts(file: str) -> set[str]:
    """Return the text constants of a file, but for its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse((SOURCE / file).read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }


def imported(file: str) -> set[str]:
    """Return the modules that a file imports."""
    modules = set()
    for node in nodes(file):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


@pytest.mark.parametrize("file", ABOVE)
def test_no_pid_no_local_path_and_no_guess_by_address_above_the_engines(file: str) -> None:
    attributes = {node.attr for node in nodes(file) if isinstance(node, ast.Attribute)}
    assert not attributes & {"pid", "getpid"} or file in GATEWAYS
    constants = texts(file)
    assert not [text for text in constants if text.startswith(("tcp:", "unix:"))] or file in TRANSPORT
    assert not [text for text in constants if text.startswith("/proc")]
    folders = {
        node.right.value
        for node in nodes(file)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant)
    }
    assert "containers" not in folders


@pytest.mark.parametrize("file", ABOVE)
def test_what_is_above_the_engines_imports_their_protocol_and_no_engine(file: str) -> None:
    modules = imported(file)
    engines = {module.split(".")[2] for module in modules if module.startswith("hostler.engines.")}
    assert engines <= SHARED or file in WIRING
    assert not modules & {"hostler.artifacts.cache", "hostler.artifacts.storage.LocalStorage"} or file in WIRING
    assert not [module for module in modules if module.startswith(("hostler.host.", "hostler.processes.tree"))]
    assert not modules & {"hostler.contract.BASE_DIR", "hostler.contract.ENV_ARTIFACTS"}
