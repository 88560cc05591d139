"""After any kill no orphan runs, and everything else serves on. All processes are real.

The containers are stand-ins, each with a child, a grandchild and a daemon (two forks and its own session).
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

from hostler.engines.host_client import HostClient
from hostler.host import namespaces
from hostler.processes.tree import descendants, parents
from hostler.wire.host_messages import Child

Result = TypeVar("Result")
KINDS = ("forked", "executed")


@pytest.fixture(params=["bubblewrap", "shim"])
def bubblewrap(request: pytest.FixtureRequest, require: Callable[..., None]) -> str:
    """The setting `bubblewrap`: executed containers under bubblewrap, or under hostler's shim."""
    if request.param == "bubblewrap":
        require("bwrap")
        return "on"
    return "off"


@pytest.fixture
def host(tmp_path: Path, bubblewrap: str) -> Iterator[Host]:
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=bubblewrap) as host:
        yield host


def with_client(host: Host, use: Callable[[HostClient], Awaitable[Result]]) -> Result:
    """Connect a client to the host and return what `use` returns."""

    async def run() -> Result:
        client = HostClient(host.run)
        try:
            return await use(client)
        finally:
            client.close()
            await asyncio.sleep(0)

    return asyncio.run(asyncio.wait_for(run(), 60))


def listed(host: Host) -> dict[str, Child]:
    return {child.id: child for child in with_client(host, lambda client: client.list())}


def start(host: Host, id: str, kind: str, *, isolated: bool = False, **environment: str) -> set[int]:
    """Start a container with descendants of every kind; return their pids."""
    spawn = msgspec.structs.replace(host.spawn(id, kind, **environment), isolated=isolated)
    with_client(host, lambda client: client.start(spawn))
    until(f"{id} is up", (Path(spawn.folder) / "environment").exists)
    pid = listed(host)[id].pid
    family = {pid, *descendants(pid)}
    assert len(family) > DESCENDANTS
    return family


def gateway_pid(host: Host) -> int:
    """Send a request and return the pid of the gateway that answers."""
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=60)
    connection.request("GET", "/")
    try:
        return int(connection.getresponse().read())
    finally:
        connection.close()


def zygote_pid(host: Host) -> int:
    """Return the zygote's pid. The containers forked from it have its command line, too."""
    containers = {child.pid for child in listed(host).values()}
    return next(pid for pid in host.pids_of("hostler.host.zygote") if pid not in containers)


def running(pids: set[int]) -> bool:
    return pids <= parents().keys()


def test_a_killed_host_leaves_no_process_and_the_next_one_starts_on_the_same_port(
    tmp_path: Path, bubblewrap: str
) -> None:
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=bubblewrap) as host:
        for kind in KINDS:
            start(host, kind, kind, STANDIN_STUBBORN="1")
        family, run, port = host.family(), host.run, host.port
        host.process.kill()
        until("all processes of the killed host have ended", lambda: none_of(family))
    assert run.is_dir()
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=bubblewrap, HOSTLER_PORT=str(port)) as second:
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


def test_a_killed_control_is_replaced_and_every_container_runs_on(host: Host) -> None:
    containers = {pid for kind in KINDS for pid in start(host, kind, kind)}
    before = listed(host)
    control = host.pid_of("standins.py control")
    os.kill(control, signal.SIGKILL)
    until("a new control runs", lambda: host.pid_of("standins.py control") not in (0, control))
    assert running(containers)
    assert listed(host) == before


def test_a_killed_gateway_is_replaced_and_the_next_connection_is_served(host: Host) -> None:
    containers = {pid for kind in KINDS for pid in start(host, kind, kind)}
    gateway = gateway_pid(host)
    os.kill(gateway, signal.SIGKILL)
    until("it has ended", lambda: none_of({gateway}))
    assert gateway_pid(host) != gateway
    assert running(containers)


def test_control_can_end_a_gateway_and_no_other_process(host: Host) -> None:
    gateway, control = gateway_pid(host), host.pid_of("standins.py control")

    async def end_gateways(client: HostClient) -> None:
        await client.end_gateway(control)
        await client.end_gateway(os.getpid())
        await client.end_gateway(0)
        await client.end_gateway(gateway)

    with_client(host, end_gateways)
    until("it has ended", lambda: none_of({gateway}))
    assert gateway_pid(host) != gateway
    assert host.pid_of("standins.py control") == control


def test_a_killed_zygote_ends_no_container_and_its_successor_forks(host: Host) -> None:
    containers = {pid for kind in KINDS for pid in start(host, kind, kind)}
    for _ in range(2):
        os.kill(zygote_pid(host), signal.SIGKILL)
        start(host, "after", "forked")
        with_client(host, lambda client: client.stop("after", 5))
    assert running(containers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_container_ends_with_its_descendants_and_no_others(host: Host, kind: str) -> None:
    other = start(host, "other", "forked")
    family = start(host, "killed", kind)
    os.kill(listed(host)["killed"].pid, signal.SIGKILL)  # for an executed one: bubblewrap, or the shim
    until("its descendants have ended", lambda: none_of(family))
    until("its exit is reported", lambda: listed(host)["killed"].exit == -signal.SIGKILL)
    assert running(other)


def test_a_command_that_is_killed_inside_its_sandbox_is_reported_as_killed(host: Host) -> None:
    family = start(host, "inner", "executed")
    command = next(pid for pid in descendants(listed(host)["inner"].pid) if _is_command(pid))
    os.kill(command, signal.SIGKILL)
    until("its exit is reported", lambda: listed(host)["inner"].exit == -signal.SIGKILL)
    until("its descendants have ended", lambda: none_of(family))


def _is_command(pid: int) -> bool:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return command[0].endswith(b"python") and b"standins.py" in command[1]


def test_isolated_containers_end_like_all_others_and_with_a_killed_host(
    tmp_path: Path, require: Callable[..., None]
) -> None:
    require("bwrap")
    if refused := namespaces.trial().isolation:
        pytest.skip(f"this machine allows no network namespaces: {refused}")
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP="on") as host:
        for kind in KINDS:
            family = start(host, f"stopped-{kind}", kind, isolated=True)
            # SIGTERM reaches it: else this would hang.
            with_client(host, lambda client, id=f"stopped-{kind}": client.stop(id, 600.0))  # type: ignore[misc]
            assert none_of(family)
        family = start(host, "inner", "executed", isolated=True)
        inside = descendants(listed(host)["inner"].pid)
        os.kill(next(pid for pid in inside if _is_command(pid)), signal.SIGKILL)
        until("its exit is reported", lambda: listed(host)["inner"].exit == -signal.SIGKILL)
        until("its descendants have ended", lambda: none_of(family))
        for kind in KINDS:
            start(host, kind, kind, isolated=True, STANDIN_STUBBORN="1")
        family = host.family()
        host.process.kill()
        until("all processes of the killed host have ended", lambda: none_of(family))


def test_a_host_that_gets_sigterm_leaves_no_process_and_no_run_folder(tmp_path: Path, bubblewrap: str) -> None:
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=bubblewrap, HOSTLER_GATEWAYS="2") as host:
        for kind in KINDS:
            start(host, kind, kind)
        family, run = host.family(), host.run
        code, _, _ = host.end(signal.SIGTERM)
        assert code == 0
        assert none_of(family)
        assert not run.exists()
        assert not (host.data / "url").exists()


def test_a_second_sigterm_kills_stubborn_containers_without_their_grace_period(tmp_path: Path, bubblewrap: str) -> None:
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP=bubblewrap) as host:
        for kind in KINDS:
            start(host, kind, kind, STANDIN_STUBBORN="1")
        family, run, gateway = host.family(), host.run, host.pid_of("standins.py gateway")
        host.process.send_signal(signal.SIGTERM)
        until("it is stopping", lambda: none_of({gateway}))
        assert host.end(signal.SIGTERM)[0] == 0
        assert none_of(family)
        assert not run.exists()


def test_a_container_inherits_no_variable_and_no_open_file_of_the_host(host: Host) -> None:
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


def test_two_commands_get_separate_ports_and_paths_inside_their_sandbox(host: Host) -> None:
    folders = [Path(host.spawn(id, "executed").folder) for id in ("one", "two")]
    for folder in folders:
        start(host, folder.name, "executed", CODE=f"{folder}/code", BESIDE=f"{folder}-beside")
    environments = [
        dict(line.split("=", 1) for line in (folder / "environment").read_text().splitlines()) for folder in folders
    ]
    used: set[int] = set()
    for environment, folder in zip(environments, folders, strict=True):
        first, last = map(int, environment["SAGEMAKER_SAFE_PORT_RANGE"].split("-"))
        ports = {int(environment["SAGEMAKER_BIND_TO_PORT"]), *range(first, last + 1)}
        assert len(ports) == last - first + 2
        assert not ports & used
        used |= ports
        assert environment["CODE"] == environment["SAGEMAKER_BASE_DIR"] + "/code"
        assert environment["BESIDE"] == f"{folder}-beside"
        with socket.create_connection(("127.0.0.1", int(environment["SAGEMAKER_BIND_TO_PORT"])), timeout=60):
            pass


def test_inside_bubblewrap_a_container_writes_only_its_own_files(tmp_path: Path, require: Callable[..., None]) -> None:
    require("bwrap")
    writable = ["/etc/sagemaker-mms.properties", "/opt/of-a-test", "/tmp/of-a-test", "/opt/ml/model.txt", "/var/tmp/x"]
    read_only = ["/etc/hostname", "/usr/of-a-test", "/proc/sys/kernel/hostname", str(Path(__file__).parent / "x")]
    with hosting(tmp_path, HOSTLER_BUBBLEWRAP="on") as host:
        before = {path: os.path.exists(path) for path in writable}
        hidden = [str(host.data), str(host.data / "lock"), str(host.run / "host.sock"), "/run/systemd/private"]
        start(host, "walls", "executed", STANDIN_WRITE=":".join(writable + read_only), STANDIN_SEE=":".join(hidden))
        log = (host.data / "logs" / "walls.log").read_text().splitlines()
        assert {path: os.path.exists(path) for path in writable} == before
        assert (host.data / "containers" / "walls" / "model.txt").exists()
    assert [line for line in log if line.startswith("may write")] == [f"may write {path}" for path in writable]
    assert [line for line in log if line.startswith("sees ")] == []


def test_a_program_below_tmp_is_visible_inside_bubblewrap_and_the_data_folder_beside_it_is_not(
    require: Callable[..., None],
) -> None:
    require("bwrap")
    with tempfile.TemporaryDirectory(dir="/tmp") as name, hosting(Path(name), HOSTLER_BUBBLEWRAP="on") as host:
        program = Path(name) / "bin" / "program"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\ncat {program}\ntouch {program} || echo not mine\nls {host.data}; exit 3\n")
        program.chmod(0o700)
        spawn = msgspec.structs.replace(host.spawn("below", "executed"), command=(str(program),))
        with_client(host, lambda client: client.start(spawn))
        until("it has ended", lambda: listed(host)["below"].exit == 3)
        log = Path(spawn.log).read_text()
        assert log.startswith(program.read_text())
        assert log.endswith("not mine\n")


def test_a_missing_command_ends_and_is_named_in_its_log(host: Host) -> None:
    spawn = msgspec.structs.replace(host.spawn("absent", "executed"), command=("/not/there",))
    with_client(host, lambda client: client.start(spawn))
    until("it has ended", lambda: listed(host)["absent"].exit not in (None, 0))
    assert "/not/there" in Path(spawn.log).read_text()
    assert "No such file" in Path(spawn.log).read_text()


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\5hello", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\x80", b"\0\0"]
)
def test_garbage_on_the_control_socket_closes_that_connection_and_no_other_effect(host: Host, garbage: bytes) -> None:
    family = start(host, "steady", "forked")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(host.run / "host.sock"))
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert running(family)
    assert listed(host)["steady"].exit is None


def refused(folder: Path, **environment: str) -> str:
    """Start a host that must refuse; return the line with its reason."""
    host = Host(folder, **environment)
    code, out, err = host.ended()
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    return err


def test_a_data_folder_in_use_and_a_port_in_use_are_each_one_clear_line(tmp_path: Path) -> None:
    with hosting(tmp_path) as host:
        assert refused(tmp_path) == (
            f"hostler: the data folder {host.data} is in use by another hostler (process {host.pid})\n"
        )
        (tmp_path / "other").mkdir()
        taken = refused(tmp_path / "other", HOSTLER_PORT=str(host.port))
        assert taken == f"hostler: port {host.port} on 127.0.0.1 is taken; choose another with --port\n"


def test_a_file_in_place_of_a_data_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "containers").write_text("in the way")
    assert refused(tmp_path) == f"hostler: {tmp_path}/data/containers cannot be used: File exists\n"
    assert (tmp_path / "data" / "containers").read_text() == "in the way"


def test_an_address_that_other_machines_reach_is_refused_unless_allowed(tmp_path: Path) -> None:
    assert "--allow-remote-access-without-authentication" in refused(tmp_path, HOSTLER_HOST="0.0.0.0")


def test_a_control_that_can_never_start_ends_the_host(tmp_path: Path) -> None:
    for code in ("1", "2"):
        host = Host(tmp_path, STANDIN_CONTROL_EXIT=code)
        code, _, err = host.ended()
        assert code == 1
        assert "control cannot be started" in err
        assert "Traceback" not in err


def test_the_hosts_own_program_prints_why_it_does_not_start(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "hostler.host.main"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "HOSTLER_DATA": str(blocked)},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2, f"hostler: the data folder {blocked} cannot be used: File exists\n",
    )  # fmt: skip
