"""The door: who is admitted, over which connections, and what a stranger gets."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates import CertificateAuthority
from hostler.errors import UserError
from hostler.wire import transport
from hostler.wire.door import KNOCK_BYTES, Door, Doorman, Knock, Peer, StaticTokenDoor, UnixDoor, Way
from hostler.wire.frames import Frames
from hostler.wire.transport import Certificates

GUARD = 30.0
TOKEN = "0123456789abcdef0123"


class Note(msgspec.Struct, tag=True):
    text: str


class Other(msgspec.Struct, tag=True):
    number: int


def encoded(message: msgspec.Struct) -> bytes:
    payload = msgspec.msgpack.encode(message)
    return len(payload).to_bytes(4, "big") + payload


class Visits:
    """A door that greets each peer by its name."""

    def __init__(self) -> None:
        self.address = ""
        self.peers: list[Peer] = []

    async def enter(self, peer: Peer, knock: Knock, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(peer)
        frames: Frames[Note] = Frames(reader, writer, Note)
        frames.send(Note(f"{peer.role} {peer.name}, version {knock.version}"))
        while (note := await frames.receive()) is not None:
            frames.send(note)


@asynccontextmanager
async def door(address: str, doorman: Doorman, certificates: Certificates | None = None) -> AsyncIterator[Visits]:
    visits = Visits()
    opened = Door({"gateway": visits.enter})
    visits.address = await opened.serve(address, doorman, certificates)
    try:
        yield visits
    finally:
        opened.close()


async def answer(way: Way, knock: Knock) -> Note | None:
    """The first message after a knock; None: the door was closed without a word."""
    reader, writer = await way.knock(knock)
    try:
        return await asyncio.wait_for(Frames[Note](reader, writer, Note).receive(), GUARD)
    finally:
        writer.close()


@pytest.fixture
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.touch(0o600)
    path.write_text(f'gateway = ["{"f" * 20}", "{TOKEN}"]\nagent = "{"a" * 20}"\n')
    return path


def way_with(tmp_path: Path, token: str, address: str, certificates: Certificates | None = None) -> Way:
    (tmp_path / "token").write_text(token + "\n")
    return Way(address, certificates, str(tmp_path / "token"))


@pytest.mark.usefixtures("either_loop")
async def test_on_a_unix_socket_the_rights_of_the_file_suffice(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'link.sock'}"
    async with door(address, UnixDoor()) as visits:
        assert await answer(Way(address), Knock("gateway", "g1", version=7)) == Note("gateway g1, version 7")
    async with door(address, UnixDoor()):  # the file of the one before is no obstacle
        assert await answer(Way(address), Knock("gateway", "g2")) is not None
    assert visits.peers == [Peer("gateway", "g1")]


@pytest.mark.usefixtures("either_loop")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_over_tls_a_peer_shows_its_token(
    tmp_path: Path, authority: CertificateAuthority, tokens: Path, host: str
) -> None:
    certificates = Certificates(authority.issue(tmp_path / "certificates", host))
    address = f"tls:{host}:0"
    async with door(address, StaticTokenDoor(tokens), certificates) as visits:
        way = way_with(tmp_path, TOKEN, visits.address, certificates)
        assert await answer(way, Knock("gateway", "g1")) == Note("gateway g1, version 0")
        (tmp_path / "token").write_text("f" * 20)  # read anew at each dial
        assert await answer(way, Knock("gateway", "g1")) is not None


def test_a_way_whose_token_or_certificate_cannot_be_read_is_a_wrong_setting(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    certificates = Certificates(authority.issue(tmp_path / "certificates", "127.0.0.1"))
    address, token = "tls:127.0.0.1:7700", tmp_path / "token"
    with pytest.raises(UserError, match="link_token must name the file"):
        Way(address, certificates).check()
    with pytest.raises(UserError, match=f"^link_token {token} cannot be read: No such file or directory$"):
        Way(address, certificates, str(token)).check()
    with pytest.raises(UserError, match=f"^link_token {token} is empty$"):
        way_with(tmp_path, "", address, certificates).check()
    with pytest.raises(UserError, match="link_certificates must name the folder"):
        way_with(tmp_path, TOKEN, address).check()
    with pytest.raises(UserError, match=f"^ca.crt in {tmp_path} cannot be used: No such file or directory$"):
        way_with(tmp_path, TOKEN, address, Certificates(tmp_path)).check()
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(UserError, match=f"^ca.crt in {tmp_path} cannot be used: "):
        way_with(tmp_path, TOKEN, address, Certificates(tmp_path)).check()
    way_with(tmp_path, TOKEN, address, certificates).check()


@pytest.mark.parametrize(
    "token", ["", "0123456789abcdef0124", "a" * 20, TOKEN[:-1]], ids=["none", "another", "an agent's", "a part of it"]
)
async def test_a_wrong_token_gets_no_word_and_one_line_without_the_token(
    tmp_path: Path, tokens: Path, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    address = "tcp:127.0.0.1:0"
    async with door(address, StaticTokenDoor(tokens)) as visits:
        for _ in range(3):
            assert await answer(way_with(tmp_path, token, visits.address), Knock("gateway", "g1")) is None
    assert not visits.peers
    assert caplog.text.count("gateway 'g1' is not admitted") == 1
    assert not token or token not in caplog.text


async def test_a_stranger_cannot_fill_the_log_by_other_names_and_malformed_messages(
    tmp_path: Path, tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with door("tcp:127.0.0.1:0", StaticTokenDoor(tokens)) as visits:
        for number in range(5):
            way = way_with(tmp_path, "wrong", visits.address)
            assert await answer(way, Knock("gateway", f"g{number}")) is None
            reader, writer = await transport.dial(visits.address)
            writer.write(b"\x00\x00\x00\x01x")
            assert await asyncio.wait_for(reader.read(), GUARD) == b""
            writer.close()
        said = [record.message for record in caplog.records]
        assert said[0] == "gateway 'g0' is not admitted: its token is not valid for that"
        assert said[1].startswith("a message cannot be read")
        assert len(said) == 2
        assert await answer(way_with(tmp_path, TOKEN, visits.address), Knock("gateway", "g1")) is not None
        assert await answer(way_with(tmp_path, "wrong", visits.address), Knock("gateway", "g2")) is None
        assert "gateway 'g2' is not admitted" in caplog.text, "it is said anew once somebody was admitted from there"


async def test_of_a_peer_that_is_not_expected_no_doorman_is_asked(
    tmp_path: Path, tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    visits = Visits()
    opened = Door({"gateway": visits.enter}, lambda knock: knock.name == "g1")
    address = await opened.serve("tcp:127.0.0.1:0", StaticTokenDoor(tokens))
    assert await answer(way_with(tmp_path, TOKEN, address), Knock("gateway", "g1")) is not None
    assert await answer(way_with(tmp_path, "wrong", address), Knock("gateway", "g2")) is None
    opened.close()
    assert not caplog.records


async def test_a_file_of_tokens_that_cannot_be_read_admits_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = "tcp:127.0.0.1:0"
    (tmp_path / "tokens").touch(0o600)
    (tmp_path / "tokens").write_text(f"gateway: {TOKEN}")
    async with door(address, StaticTokenDoor(tmp_path / "tokens")) as visits:
        assert await answer(way_with(tmp_path, TOKEN, visits.address), Knock("gateway", "g1")) is None
    assert "cannot be used, so nobody is admitted" in caplog.text
    assert TOKEN not in caplog.text
    (tmp_path / "tokens").write_text('gateway = "short"')
    async with door(address, StaticTokenDoor(tmp_path / "tokens")) as visits:
        assert await answer(way_with(tmp_path, "short", visits.address), Knock("gateway", "g1")) is None


def test_a_file_of_tokens_that_admits_nobody_is_a_wrong_setting(tmp_path: Path, tokens: Path) -> None:
    StaticTokenDoor(tokens).check()
    path = tmp_path / "others"
    with pytest.raises(UserError, match=f"^link_tokens {path} cannot be used: No such file or directory$"):
        StaticTokenDoor(path).check()
    for content, reason in (
        ("gateway: no TOML", "cannot be used: it is no TOML of role = token"),
        ('gateway = "short"', "holds no token of 16 characters or more"),
        (f'others = "{TOKEN}"', "holds no token of 16 characters or more"),
    ):
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(UserError, match=f"^link_tokens {path} {reason}$"):
            StaticTokenDoor(path).check()
    path.chmod(0o644)
    with pytest.raises(UserError, match=r"it is open to other users: chmod 600$"):
        StaticTokenDoor(path).check()


async def test_a_file_of_tokens_that_others_can_read_admits_nobody(
    tmp_path: Path, tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.chmod(tokens, 0o644)
    async with door("tcp:127.0.0.1:0", StaticTokenDoor(tokens)) as visits:
        assert await answer(way_with(tmp_path, TOKEN, visits.address), Knock("gateway", "g1")) is None
    assert "it is open to other users: chmod 600" in caplog.text


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        (KNOCK_BYTES + 1).to_bytes(4, "big") + b"x" * (KNOCK_BYTES + 1),
        b"\x00\x00\x00\x03\xc1\xc1\xc1",
        b"\x00\x00\x00\x00",
        b"\x00",
        b"\x00\x00\x01\x00" + b"\x81" * 256,
        b"\x00\x00\x00\x06\x81\xa4typeX",
    ],
    ids=["HTTP", "too long", "no msgpack", "empty", "cut", "deep", "wrong type"],
)
async def test_whoever_sends_no_knock_is_shown_out(
    tmp_path: Path, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"unix:{tmp_path / 'link.sock'}"
    async with door(address, UnixDoor()) as visits:
        reader, writer = await transport.dial(address)
        writer.write(sent)
        if len(sent) == 1:
            writer.write_eof()
        assert await asyncio.wait_for(reader.read(), GUARD) == b""
        writer.close()
        assert await answer(Way(address), Knock("gateway", "g1")) is not None
    assert [peer.name for peer in visits.peers] == ["g1"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.simulated
async def test_whoever_says_nothing_is_shown_out_in_time(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'link.sock'}"
    async with door(address, UnixDoor()):
        reader, writer = await transport.dial(address)
        assert await reader.read() == b""
        writer.close()


async def test_a_role_that_is_not_taken_here_is_shown_out(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'link.sock'}"
    async with door(address, UnixDoor()):
        assert await answer(Way(address), Knock("agent", "1.0.0")) is None
        assert await answer(Way(address), Knock("gateway", "")) is None


async def test_a_host_with_a_foreign_certificate_or_another_name_is_not_spoken_to(
    tmp_path: Path, authority: CertificateAuthority, tokens: Path
) -> None:
    certificates = Certificates(authority.issue(tmp_path / "certificates", "127.0.0.1"))
    foreign = Certificates(CertificateAuthority().issue(tmp_path / "foreign", "127.0.0.1"))
    address = "tls:127.0.0.1:0"
    async with door(address, StaticTokenDoor(tokens), certificates) as visits:
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await answer(way_with(tmp_path, TOKEN, visits.address, foreign), Knock("gateway", "g1"))
        other_name = way_with(tmp_path, TOKEN, visits.address.replace("127.0.0.1", "localhost"), certificates)
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await answer(other_name, Knock("gateway", "g1"))
        with pytest.raises(OSError):  # noqa: PT011 - by platform
            await answer(
                way_with(tmp_path, TOKEN, visits.address, Certificates(tmp_path / "none")), Knock("gateway", "g1")
            )
    assert not visits.peers


@pytest.mark.usefixtures("either_loop")
async def test_a_renewed_certificate_is_taken_without_a_restart(
    tmp_path: Path, authority: CertificateAuthority, tokens: Path
) -> None:
    certificates = Certificates(authority.issue(tmp_path / "certificates", "127.0.0.1"))
    address = "tls:127.0.0.1:0"
    async with door(address, StaticTokenDoor(tokens), certificates) as visits:
        way = way_with(tmp_path, TOKEN, visits.address, certificates)
        assert await answer(way, Knock("gateway", "g1")) is not None
        (tmp_path / "certificates/tls.key").write_text("half written")  # the one before serves
        assert await answer(way, Knock("gateway", "g1")) is not None
        CertificateAuthority().issue(tmp_path / "certificates", "127.0.0.1")
        assert await answer(way, Knock("gateway", "g1")) is not None


async def test_what_cannot_be_listened_on_is_said(tmp_path: Path) -> None:
    opened = Door({})
    with pytest.raises(UserError, match="needs certificates"):
        await opened.serve("tls:127.0.0.1:0", UnixDoor())
    with pytest.raises(UserError, match=r"tls.crt and tls.key in .*/none cannot be used"):
        await opened.serve("tls:127.0.0.1:0", UnixDoor(), Certificates(tmp_path / "none"))
    with pytest.raises(UserError, match=r"tcp:192\.0\.2\.1:0 cannot be listened on"):
        await opened.serve("tcp:192.0.2.1:0", UnixDoor())


@pytest.mark.skipif(sys.platform != "linux", reason="these options are Linux's")
async def test_a_link_ends_soon_after_its_other_end_is_gone_and_the_api_lets_a_peer_read_late() -> None:
    accepted: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    def options(sock: socket.socket) -> tuple[int, int]:
        """Whether a silent peer is asked, and the milliseconds that it may leave what is sent unread."""
        timeout = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), timeout

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: transport.Authenticated) -> None:
        accepted.put_nowait(options(writer.get_extra_info("socket")))
        writer.close()

    server = await transport.listen("tcp:127.0.0.1:0", accept)
    _, writer = await transport.dial(transport.listening(server, "tcp:127.0.0.1:0"))
    assert options(writer.get_extra_info("socket")) == (1, 2500)
    assert await asyncio.wait_for(accepted.get(), GUARD) == (1, 2500)
    writer.close()
    server.close()
    with transport.bind("tcp:127.0.0.1:0") as api, socket.create_connection(api.getsockname()):
        connection, _ = api.accept()
        with connection:
            assert options(connection) == (1, 0)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("unix:/run/a:b.sock", ("unix", "/run/a:b.sock", 0)),
        ("tcp:10.0.0.1:80", ("tcp", "10.0.0.1", 80)),
        ("tls:fd00::1:7700", ("tls", "fd00::1", 7700)),
        ("tls:[fd00::1]:7700", ("tls", "fd00::1", 7700)),
        ("tls:control.hostler.svc:7700", ("tls", "control.hostler.svc", 7700)),
    ],
)
def test_an_address_names_its_kind_its_host_and_its_port(address: str, parts: tuple[str, str, int]) -> None:
    assert transport.split(address) == parts


@pytest.mark.parametrize(
    "address", ["", "unix:", "tcp:80", "tcp::80", "tls:host", "tls:host:port", "udp:host:1", "tls:h:70000"]
)
def test_any_other_text_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        transport.split(address)


async def test_a_message_of_a_newer_version_is_skipped_and_a_malformed_one_ends_the_link(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = asyncio.StreamReader(), Sink()
    frames: Frames[Note | Other] = Frames(reader, writer, Note | Other)  # type: ignore[arg-type]
    sender: Frames[Note] = Frames(asyncio.StreamReader(), Feeder(reader), Note)  # type: ignore[arg-type]
    sender.send(Knock(name="someone"))
    sender.send(Note("after it"))
    assert await frames.receive() == Note("after it")
    assert not caplog.records
    sender.send(msgspec.defstruct("Other", [("number", str)], tag="Other")("no number"))
    sender.send(Note("never read"))
    assert await frames.receive() is None
    assert "a message cannot be read, so the link is closed" in caplog.text


@given(st.lists(st.binary(max_size=64) | st.just(encoded(Note("x"))) | st.just(encoded(Knock(name="g1"))), max_size=8))
async def test_whatever_comes_it_is_a_message_or_the_end_of_the_link(pieces: list[bytes]) -> None:
    reader = asyncio.StreamReader()
    frames: Frames[Note] = Frames(reader, Sink(), Note)  # type: ignore[arg-type]
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    while (message := await frames.receive()) is not None:
        assert isinstance(message, Note)


class Sink:
    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        pass


class Feeder:
    """What is written to it, a reader reads."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self._reader.feed_data(data)
