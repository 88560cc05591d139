"""A gateway without a host: it links with control over TLS, and serves on when control, or itself, is killed."""

from __future__ import annotations

import contextlib
import datetime
import signal
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import targets
from gateways_elsewhere import GatewayElsewhere, Network, gateway_elsewhere, through
from running import Hostler, eventually, hostler_up

TARGETS = 4


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return Network(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Iterator[Hostler]:
    with hostler_up(tmp_path_factory.mktemp("up"), **network.settings()) as hostler:
        for number in range(TARGETS + 1):
            hostler.put(f"elsewhere/{number}.tar.gz", targets.xgboost_target(number))
        hostler.create_endpoint("elsewhere", count=2)
        yield hostler


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, network: Network, hostler: Hostler) -> Iterator[GatewayElsewhere]:
    with gateway_elsewhere(tmp_path_factory.mktemp("gateway"), network) as gateway:
        yield gateway


def call_all(hostler: Hostler) -> None:
    for number in range(TARGETS):
        assert targets.number(hostler.invoke("elsewhere", f"{number}.tar.gz")) == number


def test_invocations_and_every_other_call_go_through_it(hostler: Hostler, gateway: GatewayElsewhere) -> None:
    there = through(hostler, gateway)
    call_all(there)
    there.put("elsewhere/large.bin", bytes(8 * 2**20))
    listed = there.client("s3").list_objects_v2(Bucket="models", Prefix="elsewhere/large")
    assert [each["Size"] for each in listed["Contents"]] == [8 * 2**20]
    assert there.client("sagemaker").describe_endpoint(EndpointName="elsewhere")["EndpointStatus"] == "InService"
    assert gateway.page() == (200, {"ready": True, "linked": True})


def test_while_control_is_dead_residents_are_served_and_other_calls_wait_for_it(
    hostler: Hostler, gateway: GatewayElsewhere
) -> None:
    there = through(hostler, gateway)
    call_all(there)
    killed = hostler.control
    killed.kill()
    call_all(there)
    eventually(lambda: not psutil.pid_exists(killed.pid), 30, "all its threads have ended, and its connections")
    assert there.client("sagemaker").describe_endpoint(EndpointName="elsewhere")["EndpointStatus"] == "InService"
    assert targets.number(there.invoke("elsewhere", f"{TARGETS}.tar.gz")) == TARGETS  # a miss
    eventually(lambda: gateway.page()[1]["linked"], 30, "it is linked again", gateway.tail)


def test_killed_while_control_hangs_it_serves_by_the_routes_that_it_knew(
    hostler: Hostler, gateway: GatewayElsewhere
) -> None:
    there = through(hostler, gateway)
    call_all(there)
    snapshot = next(gateway.folder.glob("data/gateways/*.snapshot"))
    assert snapshot.stat().st_mode & 0o777 == 0o600
    eventually(lambda: all(b"%d.tar.gz" % n in snapshot.read_bytes() for n in range(TARGETS)), 30, "it is written")
    control = hostler.control
    control.suspend()
    try:
        gateway.kill()
        gateway.start().wait_until_ready()
        call_all(there)
        assert gateway.page() == (200, {"ready": True, "linked": False})
    finally:
        control.resume()
    eventually(lambda: gateway.page()[1]["linked"], 60, "it is linked again", gateway.tail)
    call_all(there)


def test_a_gateway_that_shows_a_forged_token_knows_nothing_and_is_not_ready(
    tmp_path: Path, hostler: Hostler, network: Network
) -> None:
    forged = tmp_path / "forged"
    forged.write_text("a token that somebody has made up")
    gateway = GatewayElsewhere(tmp_path / "stranger", network, link_token=forged).start()
    try:
        eventually(lambda: gateway.page()[0] == 503, 60, "it listens", gateway.tail)
        eventually(lambda: "'stranger' is not admitted" in hostler.output.read_text(), 60, "control says so")
        assert gateway.page()[0] == 503
        assert forged.read_text() not in hostler.output.read_text()
    finally:
        gateway.stop()


def test_the_api_of_control_is_for_gateways_alone(hostler: Hostler, network: Network) -> None:
    _, host, port = network.api.split(":")
    trusted = ssl.create_default_context(cafile=str(network.certificates / "ca.crt"))

    def status(path: str, **headers: str) -> int:
        request = urllib.request.Request(f"https://{host}:{port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status("/_hostler/health") == 200
    assert status("/_hostler/endpoints") == 403
    assert status("/_hostler/endpoints", **{"X-Hostler-Passkey": "forged"}) == 403
    assert status("/_hostler/artifacts/models/elsewhere/0.tar.gz", **{"X-Hostler-Passkey": "forged"}) == 404
    assert status("/models/elsewhere/0.tar.gz") == 403


def test_strangers_hold_no_connection_of_controls_api_and_reach_nothing_by_other_protocols(
    hostler: Hostler, network: Network
) -> None:
    _, host, port = network.api.split(":")
    trusted = ssl.create_default_context(cafile=str(network.certificates / "ca.crt"))
    start = b"GET /_hostler/endpoints HTTP/1.1\r\nHost: x\r\n"
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    with contextlib.ExitStack() as stack:

        def stranger(sent: bytes) -> ssl.SSLSocket:
            plain = stack.enter_context(socket.create_connection((host, int(port)), 60))
            connection = stack.enter_context(trusted.wrap_socket(plain, server_hostname=host))
            connection.sendall(sent)
            return connection

        answered = stranger(start + b"\r\n")
        answer = b""
        while not answer.endswith(b"call here.\n"):
            answer += answered.recv(65_536)
        answered.sendall(start)
        held = [answered, *(stranger(sent) for sent in (b"", start, start + b"X: "))]
        endless = stranger(start)
        with contextlib.suppress(OSError):  # it is closed meanwhile
            for _ in range(64):
                endless.sendall(b"X: " + bytes(100_000).replace(b"\0", b"y") + b"\r\n")
        assert stranger(start + upgrade + b"dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").recv(12) == b"HTTP/1.1 403"
        for connection in (*held, endless):
            with contextlib.suppress(ConnectionError):
                while connection.recv(65_536):
                    pass
    assert "Traceback" not in hostler.output.read_text()


def test_it_ends_by_sigterm_and_leaves_its_name_free(hostler: Hostler, gateway: GatewayElsewhere) -> None:
    gateway.popen.send_signal(signal.SIGTERM)
    assert gateway.popen.wait(60) == 0
    gateway.start().wait_until_ready()
    call_all(through(hostler, gateway))


def test_what_it_answered_is_among_the_metrics_of_cloudwatch_also_what_it_answered_last(
    hostler: Hostler, gateway: GatewayElsewhere
) -> None:
    there = through(hostler, gateway)

    def invocations() -> float:
        """The sum of all minutes."""
        now = datetime.datetime.now(datetime.UTC)
        points = hostler.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName="Invocations",
            Dimensions=[
                {"Name": "EndpointName", "Value": "elsewhere"}, {"Name": "VariantName", "Value": "AllTraffic"},
            ],
            StartTime=now - datetime.timedelta(hours=1),
            EndTime=now + datetime.timedelta(minutes=2),
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]  # fmt: skip
        return sum(point["Sum"] for point in points)

    gateway.stop()  # so that it has sent all of before
    gateway.start().wait_until_ready()
    before = invocations()
    call_all(there)
    eventually(lambda: invocations() == before + TARGETS, 60, "they are counted", lambda: f"{before}: {invocations()}")
    control = hostler.control
    control.suspend()
    log = next(gateway.folder.glob("data/logs/access/*.log"))
    logged = log.read_bytes().count(b"\n")
    call_all(there)
    eventually(lambda: log.read_bytes().count(b"\n") == logged + TARGETS, 30, "they are written")
    gateway.kill()  # what it has not sent yet is in its folder
    control.resume()
    gateway.start().wait_until_ready()
    call_all(there)
    gateway.stop()
    eventually(
        lambda: invocations() == before + 3 * TARGETS, 60, "each is counted once", lambda: f"{before}: {invocations()}"
    )
    gateway.start().wait_until_ready()
