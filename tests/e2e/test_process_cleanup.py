"""Whatever is killed, nothing is left running that should not, and everything else goes on. Real processes throughout.

The containers are stand-ins with a child, a grandchild and a daemon each (two forks and a session of its own).
"""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "containers"))
from hosts import SOURCE, Host, hosting, none_of, until
from standins import DESCENDANTS

from hostler.engines.engine import Seen
from hostler.engines.process import ProcessEngine
from hostler.processes.tree import descendants, parents

Result = TypeVar("Result")
KINDS = ("forked", "executed")


@pytest.fixture(params=["bubblewrap", "supervisor"])
def walls(request: pytest.FixtureRequest, require: Callable[..., None]) -> str:
    """The setting `bubblewrap`: executed containers under bubblewrap, or under our supervisor."""
    if request.param == "bubblewrap":
        require("bwrap")
        return "on"
    return "off"


@pytest.fixture
def host(tmp_path: Path, walls: str) -> Iterator[Host]:
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=walls) as host:
        yield host


def asking(host: Host, play: Callable[[ProcessEngine], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        engine = ProcessEngine(host.run)
        try:
            return await play(engine)
        finally:
            engine.close()
            await asyncio.sleep(0)

    return asyncio.run(asyncio.wait_for(run(), 60))


def listed(host: Host) -> dict[str, Seen]:
    return {seen.id: seen for seen in asking(host, lambda engine: engine.list())}


def start(host: Host, id: str, kind: str, **environment: str) -> set[int]:
    """A container with all its descendants; their pids."""
    launch = host.launch(id, kind, **environment)
    asking(host, lambda engine: engine.start(launch))
    until(f"{id} is up", (Path(launch.folder) / "environment").exists)
    pid = listed(host)[id].pid
    family = {pid, *descendants(pid)}
    assert len(family) > DESCENDANTS
    return family


def answering(host: Host) -> int:
    """The pid of the gateway that answers."""
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=10)
    connection.request("GET", "/")
    try:
        return int(connection.getresponse().read())
    finally:
        connection.close()


def zygote(host: Host) -> int:
    """Its pid. The containers forked from it have its command line."""
    containers = {seen.pid for seen in listed(host).values()}
    return next(pid for pid in host.pids_of("hostler.host.zygote") if pid not in containers)


def running(pids: set[int]) -> bool:
    return pids <= parents().keys()


def test_a_killed_host_leaves_nothing_and_the_next_one_starts_where_it_was(tmp_path: Path, walls: str) -> None:
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=walls) as host:
        for kind in KINDS:
            start(host, kind, kind, STANDIN_STUBBORN="1")
        family, run, port = host.family(), host.run, host.port
        host.process.kill()
        until("everything of the killed host is gone", lambda: none_of(family))
    assert run.is_dir()
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=walls, HOSTLER_PORT=str(port)) as second:
        assert not run.exists()
        assert not any((second.data / "containers").iterdir())
        assert second.port == port


def test_a_host_that_starts_at_once_after_a_kill_gets_the_port(tmp_path: Path) -> None:
    with hosting(tmp_path, HOSTLER_GATEWAYS="2") as host:
        port = host.port
        host.process.kill()
        host.process.wait()
        with hosting(tmp_path, HOSTLER_PORT=str(port)) as second:
            assert second.port == port


def test_a_killed_control_is_replaced_and_no_container_notices(host: Host) -> None:
    containers = {pid for kind in KINDS for pid in start(host, kind, kind)}
    before = listed(host)
    control = host.pid_of("standins.py control")
    os.kill(control, signal.SIGKILL)
    until("there is another control", lambda: host.pid_of("standins.py control") not in (0, control))
    assert running(containers)
    assert listed(host) == before


def test_a_killed_gateway_is_replaced_and_the_next_connection_is_served(host: Host) -> None:
    containers = {pid for kind in KINDS for pid in start(host, kind, kind)}
    gateway = answering(host)
    os.kill(gateway, signal.SIGKILL)
    until("it is dead", lambda: none_of({gateway}))
    assert answering(host) != gateway
    assert running(containers)


def test_control_can_have_a_gateway_ended_and_nothing_else(host: Host) -> None:
    gateway, control = answering(host), host.pid_of("standins.py control")

    async def play(engine: ProcessEngine) -> None:
        await engine.end_gateway(control)
        await engine.end_gateway(os.getpid())
        await engine.end_gateway(0)
        await engine.end_gateway(gateway)

    asking(host, play)
    until("it is dead", lambda: none_of({gateway}))
    assert answering(host) != gateway
    assert host.pid_of("standins.py control") == control


def test_a_killed_zygote_ends_no_container_and_its_successor_forks(host: Host) -> None:
    containers = {pid for kind in KINDS for pid in start(host, kind, kind)}
    for _ in range(2):
        os.kill(zygote(host), signal.SIGKILL)
        start(host, "after", "forked")
        asking(host, lambda engine: engine.stop("after", 5))
    assert running(containers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_container_takes_its_descendants_along_and_nobody_else(host: Host, kind: str) -> None:
    other = start(host, "other", "forked")
    family = start(host, "killed", kind)
    os.kill(listed(host)["killed"].pid, signal.SIGKILL)  # for an executed one: bubblewrap, or the supervisor
    until("its descendants are gone", lambda: none_of(family))
    until("its end is seen", lambda: listed(host)["killed"].exit == -signal.SIGKILL)
    assert running(other)


def test_a_command_that_is_killed_inside_its_walls_is_seen_as_killed(host: Host) -> None:
    family = start(host, "inner", "executed")
    command = next(pid for pid in descendants(listed(host)["inner"].pid) if _is_command(pid))
    os.kill(command, signal.SIGKILL)
    until("its end is seen", lambda: listed(host)["inner"].exit == -signal.SIGKILL)
    until("its descendants are gone", lambda: none_of(family))


def _is_command(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return words[0].endswith(b"python") and b"standins.py" in words[1]


def test_a_host_that_is_told_to_stop_leaves_no_process_and_no_folder(tmp_path: Path, walls: str) -> None:
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=walls, HOSTLER_GATEWAYS="2") as host:
        for kind in KINDS:
            start(host, kind, kind)
        family, run = host.family(), host.run
        code, _, _ = host.end(signal.SIGTERM)
        assert code == 0
        assert none_of(family)
        assert not run.exists()
        assert not (host.data / "url").exists()


def test_a_second_signal_ends_at_once_what_would_have_been_given_time(tmp_path: Path, walls: str) -> None:
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=walls) as host:
        for kind in KINDS:
            start(host, kind, kind, STANDIN_STUBBORN="1")
        family, run, gateway = host.family(), host.run, host.pid_of("standins.py gateway")
        host.process.send_signal(signal.SIGTERM)
        until("it is stopping", lambda: none_of({gateway}))
        assert host.end(signal.SIGTERM)[0] == 0
        assert none_of(family)
        assert not run.exists()


def test_a_container_has_nothing_of_the_hosts_environment_and_files(host: Host) -> None:
    for kind in KINDS:
        start(host, kind, kind, OWN="own")
        text = (host.data / "containers" / kind / "environment").read_text()
        assert "OWN=own\n" in text
        assert "SECRET_OF_THE_HOST" not in text
        assert "HOSTLER_DATA" not in text
        base = listed(host)[kind].base
        assert f"SAGEMAKER_BASE_DIR={base}\n" in text
        pid = max(pid for pid in descendants(listed(host)[kind].pid))
        open_files = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        assert not any(name.endswith("/lock") for name in open_files)


def test_two_commands_get_ports_and_ranges_of_their_own_and_paths_as_they_see_them(host: Host) -> None:
    folders = [Path(host.launch(id, "executed").folder) for id in ("one", "two")]
    for folder in folders:
        start(host, folder.name, "executed", CODE=f"{folder}/code", BESIDE=f"{folder}-beside")
    found = [
        dict(line.split("=", 1) for line in (folder / "environment").read_text().splitlines()) for folder in folders
    ]
    used: set[int] = set()
    for environment, folder in zip(found, folders, strict=True):
        first, last = map(int, environment["SAGEMAKER_SAFE_PORT_RANGE"].split("-"))
        ports = {int(environment["SAGEMAKER_BIND_TO_PORT"]), *range(first, last + 1)}
        assert len(ports) == last - first + 2
        assert not ports & used
        used |= ports
        assert environment["CODE"] == environment["SAGEMAKER_BASE_DIR"] + "/code"
        assert environment["BESIDE"] == f"{folder}-beside"
        with socket.create_connection(("127.0.0.1", int(environment["SAGEMAKER_BIND_TO_PORT"])), timeout=10):
            pass


def test_inside_bubblewrap_a_container_writes_only_what_is_its_own(
    tmp_path: Path, require: Callable[..., None]
) -> None:
    require("bwrap")
    mine = ["/etc/sagemaker-mms.properties", "/opt/of-a-test", "/tmp/of-a-test", "/opt/ml/model.txt", "/var/tmp/x"]
    not_mine = ["/etc/hostname", "/usr/of-a-test", "/proc/sys/kernel/hostname", str(Path(__file__).parent / "x")]
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP="on") as host:
        before = {path: os.path.exists(path) for path in mine}
        hidden = [str(host.data), str(host.data / "lock"), str(host.run / "host.sock"), "/run/systemd/private"]
        start(host, "walls", "executed", STANDIN_WRITE=":".join(mine + not_mine), STANDIN_SEE=":".join(hidden))
        said = (host.data / "logs" / "walls.log").read_text().splitlines()
        assert {path: os.path.exists(path) for path in mine} == before
        assert (host.data / "containers" / "walls" / "model.txt").exists()
    assert [line for line in said if line.startswith("may write")] == [f"may write {path}" for path in mine]
    assert [line for line in said if line.startswith("sees ")] == []


def test_a_program_below_tmp_is_seen_inside_bubblewrap_and_the_data_beside_it_is_not(
    require: Callable[..., None],
) -> None:
    require("bwrap")
    with tempfile.TemporaryDirectory(dir="/tmp") as name, hosting(Path(name), HOSTLER_BUBBLEWRAP="on") as host:
        program = Path(name) / "bin" / "program"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\ncat {program}\ntouch {program} || echo not mine\nls {host.data}; exit 3\n")
        program.chmod(0o700)
        launch = msgspec.structs.replace(host.launch("below", "executed"), command=(str(program),))
        asking(host, lambda engine: engine.start(launch))
        until("it has ended", lambda: listed(host)["below"].exit == 3)
        said = Path(launch.log).read_text()
        assert said.startswith(program.read_text())
        assert said.endswith("not mine\n")


def test_a_command_that_is_not_there_ends_and_its_log_says_so(host: Host) -> None:
    launch = msgspec.structs.replace(host.launch("absent", "executed"), command=("/not/there",))
    asking(host, lambda engine: engine.start(launch))
    until("it has ended", lambda: listed(host)["absent"].exit not in (None, 0))
    assert "/not/there" in Path(launch.log).read_text()
    assert "No such file" in Path(launch.log).read_text()


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\5hello", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\x80", b"\0\0"]
)
def test_garbage_on_the_host_link_ends_that_link_and_nothing_else(host: Host, garbage: bytes) -> None:
    family = start(host, "steady", "forked")
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(20)
        link.connect(str(host.run / "host.sock"))
        link.sendall(garbage)
        link.shutdown(socket.SHUT_WR)
        assert link.recv(1) == b""
    assert running(family)
    assert listed(host)["steady"].exit is None


def refused(folder: Path, **environment: str) -> str:
    """The one line with which a host refuses to start."""
    host = Host(folder, **environment)
    code, out, err = host.ended()
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    return err


def test_a_data_folder_in_use_and_a_taken_port_are_one_clear_line_each(tmp_path: Path) -> None:
    with hosting(tmp_path) as host:
        assert refused(tmp_path) == (
            f"hostler: the data folder {host.data} is in use by another hostler (process {host.pid})\n"
        )
        (tmp_path / "other").mkdir()
        taken = refused(tmp_path / "other", HOSTLER_PORT=str(host.port))
        assert taken == f"hostler: port {host.port} on 127.0.0.1 is taken; choose another with --port\n"


def test_a_data_folder_with_something_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "containers").write_text("in the way")
    assert refused(tmp_path) == f"hostler: {tmp_path}/data/containers cannot be used: File exists\n"
    assert (tmp_path / "data" / "containers").read_text() == "in the way"


def test_an_address_that_others_can_reach_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    assert "--allow-remote-access-without-authentication" in refused(tmp_path, HOSTLER_HOST="0.0.0.0")


def test_a_control_that_can_never_start_ends_the_host(tmp_path: Path) -> None:
    for code in ("1", "2"):
        host = Host(tmp_path, STANDIN_CONTROL_EXIT=code)
        code, _, err = host.ended()
        assert code == 1
        assert "control cannot be started" in err
        assert "Traceback" not in err


def test_the_hosts_own_program_says_why_it_does_not_start(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "hostler.host.main"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "HOSTLER_DATA": str(blocked)},
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2, f"hostler: the data folder {blocked} cannot be used: File exists\n",
    )  # fmt: skip
