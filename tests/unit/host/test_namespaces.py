"""Namespaces of a container's process, entered by children of the test."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostler.host import namespaces
from hostler.host.namespaces import View

ALLOWED = namespaces.trial()
needs_opt_ml = pytest.mark.skipif(bool(ALLOWED.opt_ml), reason=f"no mounts here: {ALLOWED.opt_ml}")
needs_isolation = pytest.mark.skipif(bool(ALLOWED.isolation), reason=f"no networks here: {ALLOWED.isolation}")


def inside(view: View, look: Callable[[], str], before: Callable[[], object] = lambda: None) -> str:
    """Return what `look` sees in a child that has entered, after `before`; the error's text if one raises OSError."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        try:
            before()
            namespaces.enter(view)
            answer = look()
        except OSError as error:
            answer = error.strerror or str(error)
        finally:
            os.write(writing, answer.encode())
            os._exit(0)
    os.close(writing)
    with open(reading) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return answer


def reached(address: tuple[str, int] | str) -> str:
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
        client.connect(address)
        return "reached"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "name").write_text("mine")
    return tmp_path / "own"


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


@needs_opt_ml
def test_the_folder_is_at_opt_ml_for_the_child_alone(folder: Path) -> None:
    before = sorted(os.listdir("/opt"))
    assert inside(View(str(folder)), Path("/opt/ml/model/name").read_text) == "mine"
    assert inside(View(str(folder)), lambda: str(sorted(os.listdir("/opt")))) == str(sorted({*before, "ml"}))
    assert sorted(os.listdir("/opt")) == before


@needs_opt_ml
def test_what_the_child_writes_is_in_the_folder_and_shared_artifacts_are_read_only(folder: Path) -> None:
    shared = folder.parent / "artifacts"
    shared.mkdir()
    (shared / "file").write_text("shared")
    view = View(str(folder), artifacts=str(shared))
    assert inside(view, (shared / "file").read_text) == "shared"
    assert inside(view, lambda: str((shared / "new").write_text("x"))) == "Read-only file system"
    assert inside(view, lambda: str(Path("/opt/ml/new").write_text("x"))) == "1"
    assert (folder / "new").read_text() == "x"


@needs_opt_ml
def test_artifacts_need_not_be_there_and_the_folder_must(folder: Path) -> None:
    assert inside(View(str(folder), artifacts="/no/such/folder"), lambda: "entered") == "entered"
    assert "No such file" in inside(View("/no/such/folder"), lambda: "entered")


def cover_opt() -> None:
    """Give this process an /opt of its own, which is empty."""
    namespaces._unshare(namespaces._CLONE_NEWNS)
    namespaces._mount(None, "/", None, namespaces._MS_REC | namespaces._MS_SLAVE)
    namespaces._cover("/opt", ())


@needs_opt_ml
@pytest.mark.parametrize(
    "make", [lambda: Path("/opt/ml").write_text("a file"), lambda: os.symlink("/no/such/folder", "/opt/ml")]
)
def test_what_lies_at_opt_ml_and_is_no_folder_is_covered(folder: Path, make: Callable[[], object]) -> None:
    assert inside(View(str(folder)), Path("/opt/ml/model/name").read_text, lambda: (cover_opt(), make())) == "mine"


@needs_opt_ml
def test_without_isolation_the_network_is_the_machines(folder: Path, listener: tuple[str, int]) -> None:
    assert inside(View(str(folder)), lambda: reached(listener)) == "reached"


@needs_isolation
def test_isolated_there_is_no_network_but_a_loopback_of_its_own(folder: Path, listener: tuple[str, int]) -> None:
    view = View(str(folder), isolated=True)
    assert inside(view, lambda: reached(listener)) == "Connection refused"
    assert inside(view, lambda: reached(("192.0.2.1", 80))) == "Network is unreachable"

    def talks_to_itself() -> str:
        with socket.create_server(("127.0.0.1", 0)) as own:
            return reached(own.getsockname())

    assert inside(view, talks_to_itself) == "reached"


@needs_isolation
def test_isolated_only_its_own_sockets_are_visible(folder: Path) -> None:
    run = folder.parent / "run"
    for name in ("own", "other"):
        (run / "c" / name).mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as own:
        for name, server in (("other", other), ("own", own)):
            server.bind(str(run / "c" / name / "s"))
            server.listen()
        view = View(str(folder), isolated=True, run=str(run), sockets=str(run / "c" / "own"))
        assert inside(view, lambda: reached(str(run / "c" / "own" / "s"))) == "reached"
        assert inside(view, lambda: reached(str(run / "c" / "other" / "s"))) == "No such file or directory"
        assert inside(view, lambda: " ".join(os.listdir("/run"))) in ("", "current-system")
        assert inside(View(str(folder)), lambda: reached(str(run / "c" / "other" / "s"))) == "reached"


@needs_isolation
def test_isolated_no_other_process_lends_its_network(folder: Path) -> None:
    def leave() -> str:
        libc = namespaces._libc
        parent = os.open(f"/proc/{os.getppid()}/ns/net", os.O_RDONLY)
        return "left" if libc.setns(parent, 0) == 0 else "stayed"

    assert inside(View(str(folder), isolated=True), leave) in ("stayed", "Permission denied")
