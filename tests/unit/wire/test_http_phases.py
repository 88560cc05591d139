"""Every event in every phase of a server's connection has its answer. No sockets: the transport takes notes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hostler.wire import http_phases
from hostler.wire.http_phases import BODY, CLOSING, ENDING, HANDLING, HEAD, IDLE, LINGERING, LOST, NAMES
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request
from hostler.wire.http_server import Server, _Connection, plain_refusal

TIMES = {IDLE: 75.0, HEAD: 10.0, BODY: 30.0, LINGERING: 7.0, CLOSING: 7.0}
LIMITS = ConnectionLimits(idle_time=75.0, header_time=10.0, body_time=30.0, linger_time=7.0, body=None)
REQUEST = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
IN_HEAD, IN_BODY = REQUEST[:20], REQUEST.index(b"ab")


class Transport:
    """Takes everything, and notes what it is asked for."""

    def __init__(self) -> None:
        self.written = b""
        self.asked: list[str] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.asked.append("eof")

    def close(self) -> None:
        self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")

    def get_write_buffer_size(self) -> int:
        return 0


class Peer:
    """A connection, with the bytes of its request that were not sent yet."""

    def __init__(self, limits: ConnectionLimits = LIMITS) -> None:
        self.taken: list[Request] = []
        self.server = Server(self.taken.append, limits, plain_refusal)
        self.connection = _Connection(self.server)
        self.transport = Transport()
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        self.left = REQUEST

    @property
    def phase(self) -> int:
        return self.connection.phase

    def send(self, size: int) -> None:
        data, self.left = self.left[:size], self.left[size:]
        self.connection.data_received(data)
        self.left = self.left or REQUEST

    def more(self) -> None:
        """One more byte of the request."""
        self.send(1)

    def whole(self) -> None:
        self.send(len(self.left))

    def bad(self) -> None:
        """Bytes that are no HTTP/1.1, wherever they come."""
        self.connection.data_received(b"\0\r\n\r\n")

    def answer(self) -> None:
        self.taken.pop(0).answer(200)

    def expire(self) -> None:
        self.server.now = self.connection.deadline + 1 if self.connection.deadline < math.inf else self.server.now
        self.connection.expired()

    def close(self) -> None:
        self.connection.close_when_idle()

    def leave(self) -> None:
        self.connection.connection_lost(None)

    def into(self, phase: int) -> None:
        """Bring a new connection into this phase."""
        if phase == HEAD:
            self.send(len(IN_HEAD))
        elif phase == BODY:
            self.send(IN_BODY)
        elif phase in (HANDLING, ENDING):
            self.whole()
        if phase in (ENDING, LINGERING):
            self.bad()
        elif phase == CLOSING:
            self.close()
        elif phase == LOST:
            self.leave()
        assert self.phase == phase
        self.transport.asked.clear()
        self.transport.written = b""


EVENTS = ("more", "whole", "bad", "expire", "close", "leave")
# phase -> the phase after each of EVENTS.
AFTER = {
    IDLE: (HEAD, HANDLING, LINGERING, CLOSING, CLOSING, LOST),
    HEAD: (HEAD, HANDLING, LINGERING, LINGERING, HEAD, LOST),
    BODY: (BODY, HANDLING, LINGERING, LINGERING, BODY, LOST),
    HANDLING: (HANDLING, HANDLING, ENDING, HANDLING, HANDLING, LOST),
    ENDING: (ENDING, ENDING, ENDING, ENDING, ENDING, LOST),
    LINGERING: (LINGERING, LINGERING, LINGERING, LINGERING, LINGERING, LOST),
    CLOSING: (CLOSING, CLOSING, CLOSING, CLOSING, CLOSING, LOST),
    LOST: (LOST, LOST, LOST, LOST, LOST, LOST),
}
# What the peer is answered with, or what is done to its connection, where that is not nothing.
DONE = {
    (IDLE, "bad"): "400", (HEAD, "bad"): "400", (BODY, "bad"): "400",
    (HEAD, "expire"): "408", (BODY, "expire"): "408",
    (IDLE, "expire"): "close", (IDLE, "close"): "close",
    (LINGERING, "expire"): "abort", (CLOSING, "expire"): "abort", (LOST, "expire"): "abort",
}  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("phase", AFTER, ids=NAMES)
async def test_every_event_in_every_phase_has_its_answer(phase: int, event: str) -> None:
    peer = Peer()
    peer.into(phase)
    getattr(peer, event)()
    assert NAMES[peer.phase] == NAMES[AFTER[phase][EVENTS.index(event)]]
    done = peer.transport.written.decode().partition(" ")[2][:3] or " ".join(
        asked for asked in peer.transport.asked if asked != "eof"
    )
    assert done == DONE.get((phase, event), "")


@pytest.mark.parametrize("phase", TIMES, ids=NAMES.__getitem__)
async def test_a_phase_has_its_time_from_its_begin(phase: int) -> None:
    peer = Peer()
    peer.server.now = 1000.0
    if phase == IDLE:
        peer.whole()
        peer.answer()
    else:
        peer.into(phase)
    assert peer.connection.deadline == 1000.0 + TIMES[phase]
    if phase in (HEAD, BODY):  # more bytes, but few, give it no more time
        peer.server.now = 1005.0
        peer.more()
        assert peer.connection.deadline == 1000.0 + TIMES[phase]


async def test_a_peer_waits_for_the_handler_without_a_time() -> None:
    peer = Peer()
    peer.into(HANDLING)
    peer.expire()
    assert peer.connection.deadline == math.inf
    peer.answer()
    assert peer.phase == IDLE
    assert peer.connection.deadline == peer.server.now + TIMES[IDLE]


@pytest.mark.parametrize(
    ("sent", "after"), [(0, IDLE), (len(IN_HEAD), HEAD), (IN_BODY, BODY), (len(REQUEST), HANDLING)]
)
async def test_after_an_answer_the_phase_is_that_of_what_has_come_since(sent: int, after: int) -> None:
    peer = Peer()
    peer.into(HANDLING)
    if sent:
        peer.send(sent)
    assert peer.phase == HANDLING
    peer.server.now = 1000.0
    peer.answer()
    assert NAMES[peer.phase] == NAMES[after]
    if after in TIMES:
        assert peer.connection.deadline == 1000.0 + TIMES[after]


async def test_the_last_answer_ends_the_connection() -> None:
    refused = Peer()
    refused.into(ENDING)
    refused.answer()
    assert refused.phase == LINGERING
    assert refused.transport.written.count(b"HTTP/1.1 200") == refused.transport.written.count(b"HTTP/1.1 400") == 1
    asked_for = Peer()
    asked_for.left = REQUEST.replace(b"Host", b"Connection: close\r\nHost")
    asked_for.whole()
    assert asked_for.phase == ENDING  # no request may follow
    asked_for.answer()
    assert (asked_for.phase, asked_for.transport.asked) == (CLOSING, ["close"])
    closing = Peer()
    closing.into(HANDLING)
    closing.close()
    closing.answer()
    assert (closing.phase, closing.transport.asked) == (CLOSING, ["close"])


async def test_an_idle_connection_of_a_server_that_closes_may_have_a_last_time() -> None:
    peer = Peer(ConnectionLimits(closing_time=0.5))
    peer.close()
    assert peer.phase == IDLE
    assert peer.connection.deadline == peer.server.now + 0.5
    peer.expire()
    assert peer.phase == CLOSING


class Streamed(Peer):
    """A request whose body is longer than the buffer: the handler has it while it arrives."""

    def __init__(self) -> None:
        super().__init__(ConnectionLimits(body=None, buffer=10, body_time=30.0, linger_time=7.0))
        self.left = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)
        self.send(60)
        self.pieces: list[bytes] = []
        self.ended = False
        [self.request] = self.taken

    def stream(self) -> None:
        self.request.stream(self.pieces.append, self._end)

    def _end(self) -> None:
        self.ended = True


async def test_a_body_that_the_handler_reads_has_a_time_and_one_that_it_has_paused_has_none() -> None:
    peer = Streamed()
    assert peer.phase == BODY  # the handler has it, and more may come
    peer.send(20)
    assert (peer.phase, peer.transport.asked) == (HANDLING, ["pause"])  # more than the buffer: the handler's turn
    peer.expire()
    assert peer.phase == HANDLING
    peer.server.now = 1000.0
    peer.stream()
    assert (peer.phase, peer.transport.asked) == (BODY, ["pause", "resume"])
    assert peer.connection.deadline == 1030.0
    peer.request.pause()
    assert peer.phase == HANDLING
    peer.request.resume()
    assert peer.phase == BODY
    peer.whole()
    assert (peer.phase, peer.ended, sum(map(len, peer.pieces))) == (HANDLING, True, 1000)
    peer.answer()
    assert peer.phase == IDLE


async def test_a_body_that_comes_too_slowly_ends_what_the_handler_does_with_it() -> None:
    left: list[str] = []
    peer = Streamed()
    peer.request.on_disconnect = lambda: left.append("left")
    peer.stream()
    peer.expire()
    assert (peer.phase, left, peer.transport.written[:12]) == (LINGERING, ["left"], b"HTTP/1.1 408")


async def test_an_answer_before_the_whole_body_throws_what_follows_away() -> None:
    peer = Streamed()
    peer.answer()
    assert peer.phase == LINGERING
    peer.send(100)
    assert peer.phase == LINGERING
    peer.expire()
    assert peer.transport.asked[-1] == "abort"


async def test_a_peer_that_does_not_read_is_dropped_in_any_phase() -> None:
    for phase in (HANDLING, ENDING, LINGERING):
        peer = Peer()
        peer.into(phase)
        peer.connection.pause_writing()
        peer.server.now = peer.connection.write_deadline + 1
        peer.connection.expired()
        assert peer.transport.asked == ["abort"]


def test_each_phase_has_a_name_and_a_line_in_the_table() -> None:
    numbers: dict[str, Any] = {name: value for name, value in vars(http_phases).items() if isinstance(value, int)}
    assert [name.lower() for name, _ in sorted(numbers.items(), key=lambda item: item[1])] == [*NAMES]
    assert all(f"| {name} |" in (http_phases.__doc__ or "") for name in numbers)
