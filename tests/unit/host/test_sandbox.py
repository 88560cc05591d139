"""How a mapped command becomes a container, but for the processes (those are in tests/e2e/test_process_cleanup.py)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostler.host import sandbox
from hostler.host.ports import Ports, ports_environment
from hostler.host.sandbox import Walls


def test_serve_is_appended_once() -> None:
    assert sandbox.with_serve(("python", "a.py")) == ["python", "a.py", "serve"]
    assert sandbox.with_serve(("program", "serve")) == ["program", "serve"]


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Ports that no hostler uses: a container of another test shall find its own free."""
    ports = Ports(first=10_000, blocks=40)
    yield ports
    for port in range(10_000, 12_000, 50):
        ports.release(port)


def test_every_container_has_a_block_of_ports_of_its_own_and_ports_in_use_are_passed_over(ports: Ports) -> None:
    first = ports.take()
    ports.release(first)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # beside TIME_WAIT of an earlier container
        taken.bind(("127.0.0.1", first))
        taken.listen()
        others = [ports.take() for _ in range(39)]
        assert first not in others
        with pytest.raises(OSError, match="no free port"):
            ports.take()
    assert abs(others[1] - others[0]) >= 50
    assert ports_environment(first) == {
        "SAGEMAKER_BIND_TO_PORT": str(first),
        "SAGEMAKER_SAFE_PORT_RANGE": f"{first + 1}-{first + 49}",
    }


def test_a_block_that_another_hostler_has_taken_is_passed_over_before_any_server_binds_its_port(ports: Ports) -> None:
    others = Ports(first=10_000, blocks=40)
    theirs = {others.take() for _ in range(20)}
    mine = {ports.take() for _ in range(20)}
    assert not mine & theirs
    with pytest.raises(OSError, match="no free port"):
        ports.take()
    for port in theirs:
        others.release(port)
    assert ports.take() in theirs


def test_ports_that_were_given_back_are_used_again_only_when_they_must_be(ports: Ports) -> None:
    first = ports.take()
    ports.release(first)
    later = set()
    while (port := ports.take()) != first:
        assert port not in later
        later.add(port)
    assert len(later) == 39


def test_when_all_ports_are_taken_that_is_an_error(ports: Ports) -> None:
    with pytest.raises(OSError, match="no free port"):
        [ports.take() for _ in range(1000)]


def test_no_container_binds_a_port_in_anothers_safe_range(ports: Ports) -> None:
    told = [ports_environment(ports.take()) for _ in range(15)]
    bound = {int(one["SAGEMAKER_BIND_TO_PORT"]) for one in told}
    assert len(bound) == 15
    for one in told:
        first, last = map(int, one["SAGEMAKER_SAFE_PORT_RANGE"].split("-"))
        assert not bound & {*range(first, last + 1)}


def test_a_container_finds_itself_among_the_hosts() -> None:
    assert sandbox.hosts_file("second").endswith("\n127.0.0.1\tsecond\n")
    assert "localhost" in sandbox.hosts_file()


@pytest.mark.parametrize(("code", "end"), [(0, 0), (1, 1), (128, 128), (137, -9), (143, -15), (255, 255)])
def test_a_signal_inside_bubblewrap_is_distinguished_from_an_exit_code(code: int, end: int) -> None:
    assert sandbox.wrapped_exit(code) == end


def mounts(options: list[str]) -> dict[str, str]:
    """Destination -> kind of mount, the last one winning."""
    return {
        destination: kind
        for kind, _, destination in zip(options, options[1:], options[2:], strict=False)
        if kind in ("--bind", "--ro-bind-try", "--symlink")
    }


def test_the_container_gets_its_own_folder_and_sees_the_machine_read_only(tmp_path: Path) -> None:
    walls = Walls(tmp_path, (tmp_path / "not",))
    found = mounts(sandbox.bubblewrap_options(walls, ("/tmp/program/bin/run", "/usr/bin/x", "--flag")))
    assert {to for to, kind in found.items() if kind == "--bind"} == {"/opt/ml", "/tmp", "/var/tmp"}
    assert "/usr" in found
    assert found["/tmp/program"] == "--ro-bind-try"
    assert not {"/", "/tmp/program/bin/run", "/run", "/etc", "/opt"} & found.keys()
    assert (tmp_path / "tmp").is_dir()


def test_the_data_folder_is_covered_only_where_it_could_be_seen(tmp_path: Path) -> None:
    data = Path("/usr/lib")  # some folder that is there, and not in a place that a container does not see
    options = sandbox.bubblewrap_options(Walls(tmp_path, (data,)), ())
    assert options[options.index("--tmpfs") + 1] == str(data)
    assert "--tmpfs" not in sandbox.bubblewrap_options(Walls(tmp_path, (data / "not there",)), ())
    beside = Path("/tmp") / tmp_path.relative_to("/tmp") if tmp_path.is_relative_to("/tmp") else None
    if beside:
        assert "--tmpfs" not in sandbox.bubblewrap_options(Walls(tmp_path, (beside,)), ())
        assert "--tmpfs" in sandbox.bubblewrap_options(Walls(tmp_path, (beside,)), (str(beside / "program"),))


def test_a_folder_of_its_own_covers_the_machines_or_is_made_in_a_parent_that_is_built_anew(tmp_path: Path) -> None:
    options = sandbox.bubblewrap_options(Walls(tmp_path, tmpfs=("/usr/lib", "/usr/share/no-such/folder")), ())
    assert options[options.index("--tmpfs") + 1] == "/usr/lib"
    parent = options.index("--tmpfs", options.index("--tmpfs") + 1)
    assert options[parent + 1] == "/usr/share"
    assert {str(path) for path in list(Path("/usr/share").iterdir())[:5]} <= {*options[parent:]}
    assert options[options.index("/usr/share/no-such/folder") - 1] == "--dir"


def test_the_data_folder_stays_covered_where_a_folder_beside_it_is_made(tmp_path: Path) -> None:
    options = sandbox.bubblewrap_options(Walls(tmp_path, hidden=(Path("/usr/lib"),), tmpfs=("/usr/no-such",)), ())
    places = [place for place, word in enumerate(options) if word == "/usr/lib"]
    assert options[places[-1] - 1] == "--tmpfs"


def test_an_isolated_container_sees_no_resolvers_socket(tmp_path: Path) -> None:
    relay = sandbox.Relay(listener=3, port=8080, lifeline=4)
    assert "/run/systemd/resolve" not in sandbox.bubblewrap_options(Walls(tmp_path, relay=relay), ())
    assert "/run/systemd/resolve" in sandbox.bubblewrap_options(Walls(tmp_path), ())
