"""What others do to hostler's containers behind its back, containers that will not end, and a Docker that hangs.

The dockerd is the test's own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from dockerds import Dockerd
from hop_endpoints import create_endpoint, create_model, hop_names, variant
from hop_load import Load, under_load
from running import Hostler, eventually, hostler_up

from hostler.testing.process import HostlerProcess

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "cli"))
from click_runner import RUNNER

from hostler.cli.main import main
from hostler.engines.docker.client import connect, disconnect

pytestmark = pytest.mark.docker

STUBBORN = """FROM {hop}
ENTRYPOINT ["sh", "-c", "trap '' TERM; setsid sh -c 'sleep 1000 & sleep 1001 &'; exec python3 /hop.py hop $0"]
"""


def stubborn(own: Dockerd) -> str:
    """Return an image whose processes ignore SIGTERM, and fork away."""
    own.docker("build", "--tag", "stubborn", "-", stdin=STUBBORN.format(hop=own.image("hop")).encode())
    return "stubborn"


def deploy(hostler: Hostler, image: str, name: str = "hops", count: int = 1) -> None:
    create_model(hostler, name, [{"Image": image}])
    create_endpoint(hostler, name, variant(name, count=count))


def answer(hostler: Hostler, name: str = "hops") -> list[str]:
    body = hostler.runtime.invoke_endpoint(EndpointName=name, Body=b"a body", ContentType="text/csv")["Body"].read()
    return hop_names(body)


def gc(own: Dockerd, *words: str) -> Result:
    return RUNNER.invoke(main, ["gc", *words], env={"HOSTLER_DOCKER_HOST": own.address})


def replaced(hostler: Hostler, own: Dockerd, old: str) -> None:
    """Wait until one container, which is another one, is all that there is, and the endpoint answers."""
    eventually(
        lambda: len(own.containers()) == 1 and [*own.running()] not in ([old], []), 60, "it is replaced",
        lambda: f"{own.docker('ps', '--all')}\n{hostler.tail()}",
    )  # fmt: skip
    eventually(lambda: answers(hostler), 60, "the endpoint answers")


def answers(hostler: Hostler) -> bool:
    try:
        return answer(hostler) == ["hop"]
    except hostler.runtime.exceptions.ClientError:
        return False


@pytest.mark.slow
def test_whatever_others_do_to_a_container_it_is_replaced_and_removed(own: Dockerd, tmp_path: Path) -> None:
    with hostler_up(tmp_path, **own.settings) as hostler:
        deploy(hostler, own.image("hop"))
        for words in (
            ["rm", "--force"],
            ["stop", "--time", "1"],
            ["pause"],
            ["network", "disconnect", "--force", "hostler"],
        ):
            [old] = [*own.running()]
            own.docker(*words, old)
            replaced(hostler, own, old)
        # Docker has given it another process, perhaps at another address.
        [old] = [*own.running()]
        own.docker("restart", "--time", "1", old)
        eventually(lambda: answers(hostler), 60, "the endpoint answers", hostler.tail)
        # An image that is removed by force runs on, and so does its container.
        [old] = [*own.running()]
        image, name = own.inspect(old)["Image"], own.image("hop")
        own.docker("rmi", "--force", "--no-prune", name)
        try:
            assert answer(hostler) == ["hop"]
        finally:
            own.docker("tag", image, name)
    own.assert_nothing_is_left()


@pytest.mark.slow
def test_a_network_that_was_removed_is_made_again(own: Dockerd, tmp_path: Path) -> None:
    with hostler_up(tmp_path, **own.settings) as hostler:
        deploy(hostler, own.image("hop"))
        hostler.sm.delete_endpoint(EndpointName="hops")
        eventually(lambda: own.containers() == [], 60, "the endpoint is deleted")
        own.docker("network", "rm", "hostler")
        hostler.sm.create_endpoint(EndpointName="hops", EndpointConfigName="hops")
        hostler.wait_in_service("hops")
        assert answer(hostler) == ["hop"]
    own.assert_nothing_is_left()


async def make_network(own: Dockerd) -> None:
    """Make hostler's network, also if there is one of its name."""
    docker = connect(own.address)
    try:
        label = {"hostler.network": "1"}
        await docker.networks.create({"Name": "hostler", "CheckDuplicate": False, "Labels": label})
    finally:
        await disconnect(docker)


@pytest.mark.slow
def test_of_two_networks_that_hostlers_made_at_once_one_goes(own: Dockerd, tmp_path: Path) -> None:
    """Docker starts no container in either as long as there are two."""
    with hostler_up(tmp_path, **own.settings) as hostler:
        asyncio.run(make_network(own))
        asyncio.run(make_network(own))
        deploy(hostler, own.image("hop"))
        hostler.wait_in_service("hops")
        asyncio.run(make_network(own))
        deploy(hostler, own.image("hop"), "more")
        hostler.wait_in_service("more")
        assert answer(hostler) == answer(hostler, "more") == ["hop"]
        assert own.docker("network", "ls", "--filter", "label=hostler.network", "--format", "{{.Name}}") == "hostler"
    own.assert_nothing_is_left()


@pytest.mark.slow
def test_a_name_that_a_stranger_has_costs_an_attempt_and_the_stranger_is_left_alone(
    own: Dockerd, tmp_path: Path
) -> None:
    with hostler_up(tmp_path, **own.settings) as hostler:
        deploy(hostler, own.image("hop"))
        [name], [old] = own.containers(), [*own.running()]
        first, dash, position = name.rpartition("-")
        instance, dot, attempt = first.rpartition(".")
        taken = f"{instance}{dot}{int(attempt) + 1}{dash}{position}"
        own.docker("create", "--name", taken, own.image("hop"))
        own.docker("rm", "--force", old)
        eventually(lambda: [*own.running()] != [], 60, "it is replaced", hostler.tail)
        eventually(lambda: answers(hostler), 60, "the endpoint answers")
        assert taken in own.containers()
        assert f"another container has the name {taken}" in hostler.tail()
        own.docker("rm", taken)
    own.assert_nothing_is_left()


@pytest.mark.slow
def test_a_container_that_ignores_sigterm_and_forks_away_ends_with_hostler(own: Dockerd, tmp_path: Path) -> None:
    with hostler_up(tmp_path, **own.settings) as hostler:
        deploy(hostler, stubborn(own))
        [container] = [*own.running()]
        pids = own.docker("top", container, "-eo", "pid").split()[1:]
        assert len(pids) >= 3
        hostler.stop()
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    own.assert_nothing_is_left()


@pytest.mark.slow
def test_a_second_signal_ends_stubborn_containers_at_once(own: Dockerd, tmp_path: Path) -> None:
    hostler = Hostler(tmp_path, own.settings)
    try:
        hostler.start()
        deploy(hostler, stubborn(own))
        hostler.host.send_signal(signal.SIGINT)
        eventually(lambda: "stopping" in hostler.output.read_text(), 60, "it is stopping")
        hostler.host.send_signal(signal.SIGINT)
        assert hostler._popen.wait(40) == 0
        hostler.assert_no_remains()
        own.assert_nothing_is_left()
    finally:
        hostler.destroy()


@pytest.mark.slow
@pytest.mark.parametrize("dead", ["control", "nothing"])
def test_with_a_docker_that_hangs_hostler_ends_and_says_what_removes_the_rest(
    own: Dockerd, tmp_path: Path, dead: str
) -> None:
    hostler = Hostler(tmp_path, own.settings)
    try:
        hostler.start()
        deploy(hostler, own.image("hop"))
        own.signal(signal.SIGSTOP)
        try:
            hostler.host.send_signal(signal.SIGTERM)
            if dead == "control":
                hostler.control.kill()
            assert hostler._popen.wait(60) == 0
        finally:
            own.signal(signal.SIGCONT)
        [line] = [line for line in hostler.output.read_text().splitlines() if "hostler gc" in line]
        assert "containers may be left in Docker, which `hostler gc` removes: Docker" in line
        hostler.assert_no_remains()
        assert len(own.containers()) == 1
        assert gc(own).exit_code == 0
        own.assert_nothing_is_left()
    finally:
        hostler.destroy()


@pytest.mark.slow
def test_a_temporary_hostler_leaves_nothing_when_the_process_ends_with_which_it_ends(
    own: Dockerd, tmp_path: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path),
            **{f"HOSTLER_{name.upper()}": str(value) for name, value in own.settings.items()},
        }  # fmt: skip
        up = [sys.executable, "-m", "hostler.cli", "up", "--port", "0", "--temporary", "--end-with", str(other.pid)]
        started = HostlerProcess(up, environment, tmp_path, tmp_path / "output.txt")
        try:
            hostler = Hostler(tmp_path, {})
            hostler.url = started.wait_until_ready(30)
            deploy(hostler, own.image("hop"))
            assert len(own.running()) == 1
            other.kill()
            assert started.popen.wait(60) == 0
        finally:
            started.popen.kill()
    own.assert_nothing_is_left()
    assert not list(tmp_path.glob("hostler-*"))


@pytest.mark.slow
def test_two_hostlers_on_one_docker_with_the_same_endpoint_do_not_touch_each_others_containers(
    own: Dockerd, tmp_path: Path
) -> None:
    with hostler_up(tmp_path / "one", **own.settings) as one:
        with hostler_up(tmp_path / "two", **own.settings) as two:
            deploy(one, own.image("hop"))
            of_one = [*own.running()]
            deploy(two, own.image("hop"), count=2)
            assert len([*own.running()]) == 3

            async def stop(load: Load) -> None:
                two.stop()

            load = under_load(one, "hops", stop)
            assert load.failed() == []
            assert [*own.running()] == of_one
        assert len(own.containers()) == 1
    own.assert_nothing_is_left()
