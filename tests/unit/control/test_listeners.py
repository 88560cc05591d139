"""Settings of the network that contradict each other, or would show tokens to others, are refused in one line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.responses import Response

from hostler.control import alone as control_alone
from hostler.control import listeners
from hostler.errors import UserError
from hostler.gateway import alone as gateway_alone
from hostler.settings import Settings

TLS = {"link_listen": "tls:0.0.0.0:7700", "api_listen": "tls:0.0.0.0:7701"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"link_listen": "tls:0.0.0.0:7700"}, "belong together"),
        ({"api_listen": "tls:0.0.0.0:7701"}, "belong together"),
        (TLS, "tls:0.0.0.0:7700 needs link_certificates"),
        ({"metrics_listen": "tls:0.0.0.0:7702"}, "tls:0.0.0.0:7702 needs link_certificates"),
        ({"link_listen": "tcp:0.0.0.0:7700", "api_listen": "tcp:127.0.0.1:7701"}, "would send tokens unencrypted"),
        ({"link_listen": "tcp:[::1]:7700", "api_listen": "tcp:control:7701"}, "tcp:control:7701 would send tokens"),
    ],
)
def test_control_refuses_a_network_that_is_not_whole_or_not_safe(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        listeners.check(Settings(**given))  # type: ignore[arg-type]


def test_control_takes_tls_with_certificates_loopback_and_none(tmp_path: Path) -> None:
    listeners.check(Settings())
    listeners.check(Settings(**TLS, link_certificates=str(tmp_path)))  # type: ignore[arg-type]
    listeners.check(Settings(metrics_listen="tcp:0.0.0.0:7702"))
    listeners.check(Settings(link_listen="tcp:127.0.0.1:7700", api_listen="tcp:[::1]:7701"))


def test_a_port_that_is_taken_is_said() -> None:
    taken = listeners.bind("tcp:127.0.0.1:0", "the API")
    assert taken is not None
    with taken.sock, pytest.raises(UserError, match=f"the metrics: {taken.address} cannot be listened on"):
        listeners.bind(taken.address, "the metrics")


async def test_a_large_body_that_is_answered_at_its_head_may_still_come_whole() -> None:
    bound = listeners.bind("tcp:127.0.0.1:0", "the API")
    assert bound is not None
    stop, body = asyncio.Event(), b"a" * 3_000_000
    answers = Response(b"no", 413)
    serving = asyncio.create_task(listeners.serve(stop, Settings(), answers, None, [(bound, answers)]))
    try:
        reader, writer = await asyncio.open_connection(*bound.sock.getsockname())
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413 ")
            assert await reader.readexactly(2) == b"no"
            writer.write(body)
            await writer.drain()
        writer.close()
    finally:
        stop.set()
        await serving


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({}, "hosts in a cluster, with engine = kubernetes"), ({"engine": "kubernetes"}, "needs link_listen")],
)
def test_hostler_control_says_what_it_needs(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        control_alone.run(Settings(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "needs control_address"),
        ({"control_address": "tls:control:7700"}, "link_certificates must name the folder with ca.crt"),
        ({"control_address": "tcp:control:7700"}, "would be sent the token unencrypted"),
        ({"control_address": "tcp:127.0.0.1:7700", "signatures": "verify"}, "needs keys_file"),
    ],
)
def test_hostler_gateway_says_what_it_needs(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        gateway_alone.way(Settings(**given))  # type: ignore[arg-type]
