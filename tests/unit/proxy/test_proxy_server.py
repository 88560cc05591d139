"""The proxy's connections: over real sockets, with a socket of this test in the place of the gateways'."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from free_ports import free_port
from hostler.proxy import folder, upstream
from hostler.proxy.authority import open_authority
from hostler.proxy.certificates import Certificates, utc_now
from hostler.proxy.relay import End
from hostler.proxy.server import ProxyServer

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
STS = "sts.us-east-1.amazonaws.com"
GUARD = 120  # seconds, against hanging


class Stage:
    """A proxy, the gateways' socket behind it, which echoes in capitals, and clients of it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = 0
        self.offline = False
        self.hosted: list[Streams] = []
        self.callers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Stage]:
        loop = asyncio.get_running_loop()
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        path = str(self.data / "aws.sock")
        self.proxy = ProxyServer(self.data, path, self.offline, Certificates(self.data), sock.getsockname())
        gateway = await asyncio.start_unix_server(self._host, path)
        listener = await loop.create_server(self.proxy.client, sock=sock)
        try:
            yield self
        finally:
            listener.close()
            gateway.close()
            self.proxy.close()
            for writer in (*self.callers, *(writer for _, writer in self.hosted)):
                writer.transport.abort()
            await until(lambda: not self.proxy.clients)
            await asyncio.sleep(0.01)  # until the streams' tasks have ended

    async def _host(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hosted.append((reader, writer))
        while data := await reader.read(65_536):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    async def connect(self) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.callers.append(writer)
        return reader, writer

    async def ask(self, head: str, then: bytes = b"") -> tuple[str, Streams]:
        """Send a head; return the answer's first line, and the connection."""
        reader, writer = await self.connect()
        writer.write(head.encode() + b"\r\n\r\n" + then)
        async with asyncio.timeout(GUARD):
            line = await reader.readline()
            if b" 200 " in line:
                await reader.readuntil(b"\r\n")
        return line.decode().strip(), (reader, writer)

    async def refusal(self, head: str, then: bytes = b"") -> str:
        """Send a head that is refused; return the answer's first line. Its body repeats the sentence."""
        line, (reader, writer) = await self.ask(head, then)
        async with asyncio.timeout(GUARD):
            answer = (await reader.read()).decode()
        assert answer.endswith(f"\r\n\r\n{line.split(' ', 2)[2]}.\n")
        writer.close()
        return line

    async def tls(self, name: str | None, host: str = STS, alpn: tuple[str, ...] = ()) -> ssl.SSLObject:
        """CONNECT to a host of AWS's, and shake hands with this name in the hello."""
        line, (_, writer) = await self.ask(f"CONNECT {host}:443 HTTP/1.1")
        assert line.split()[1] == "200", line
        client = ssl.create_default_context(cadata=open_authority(self.data, utc_now()).pem.decode())
        client.check_hostname = name is not None
        if alpn:
            client.set_alpn_protocols([*alpn])
        async with asyncio.timeout(GUARD):
            await writer.start_tls(client, server_hostname=name or "")
        found = writer.get_extra_info("ssl_object")
        assert isinstance(found, ssl.SSLObject)
        self.last = writer
        return found


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(GUARD):
        while not look():  # noqa: ASYNC110 (it is another connection's state)
            await asyncio.sleep(0.001)


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.uvloop)])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    """On either loop."""
    return Stage(tmp_path)


@contextlib.asynccontextmanager
async def remote(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Serve on a free port; yields host:port."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


# --- AWS's names ------------------------------------------------------------------------------------------------------


async def test_a_client_of_awss_names_talks_to_the_gateways_over_tls(stage: Stage) -> None:
    async with stage.running():
        tls = await stage.tls(STS, alpn=("h2", "http/1.1"))
        assert tls.selected_alpn_protocol() == "http/1.1"
        assert tls.version() in ("TLSv1.2", "TLSv1.3")
        assert len(stage.hosted) == 1


async def test_bytes_of_any_number_pass_both_ways(stage: Stage) -> None:
    async with stage.running():
        line, (reader, writer) = await stage.ask(f"CONNECT {STS}:443 HTTP/1.1")
        assert line == "HTTP/1.1 200 Connection established"
        context = ssl.create_default_context(cadata=open_authority(stage.data, utc_now()).pem.decode())
        await writer.start_tls(context, server_hostname=STS)
        sent = b"abcdefgh" * 500_000

        async def send() -> None:
            writer.write(sent)
            await writer.drain()

        async with asyncio.timeout(GUARD):
            _, received = await asyncio.gather(send(), reader.readexactly(len(sent)))
        assert received == sent.upper()
        writer.close()


async def test_without_a_name_in_the_hello_the_host_of_the_connect_has_its_certificate(stage: Stage) -> None:
    async with stage.running():
        certificate = (await stage.tls(None)).getpeercert()
        assert certificate
        assert certificate["subjectAltName"] == (("DNS", STS),)


@pytest.mark.parametrize("name", ["iam.amazonaws.com", "example.org", "b.s3.amazonaws.com"])
async def test_a_name_in_the_hello_that_is_not_the_host_of_the_connect_is_refused(stage: Stage, name: str) -> None:
    async with stage.running():
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await stage.tls(name)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await stage.tls(name, "s3.amazonaws.com")
        assert (await stage.tls(STS)).getpeercert()


async def test_a_gateway_that_closes_closes_the_clients_connection_and_the_other_way_round(stage: Stage) -> None:
    async with stage.running():
        await stage.tls(STS)
        stage.hosted[0][1].close()
        async with asyncio.timeout(GUARD):
            await stage.last.wait_closed()
        await stage.tls(STS)
        stage.last.close()
        await until(stage.hosted[1][0].at_eof)


async def test_a_client_that_does_not_trust_the_authority_leaves_nothing(stage: Stage) -> None:
    async with stage.running():
        _, (_, writer) = await stage.ask(f"CONNECT {STS}:443 HTTP/1.1")
        with pytest.raises(ssl.SSLCertVerificationError):
            await writer.start_tls(ssl.create_default_context(), server_hostname=STS)
        await until(stage.hosted[0][0].at_eof)
        await until(lambda: not stage.proxy.clients)


async def test_without_gateways_the_answer_is_503(stage: Stage) -> None:
    async with stage.running():
        (stage.data / "aws.sock").unlink()
        assert await stage.refusal(f"CONNECT {STS}:443 HTTP/1.1") == "HTTP/1.1 503 hostler is stopping"


async def test_an_authority_that_cannot_be_made_is_503_without_a_path(stage: Stage) -> None:
    (stage.data / "aws-hosts").write_text("")
    async with stage.running():
        line = await stage.refusal(f"CONNECT {STS}:443 HTTP/1.1")
        assert line == f"HTTP/1.1 503 {STS} cannot be answered: the log of hostler says why"


async def test_bytes_before_the_answer_to_a_connect_are_refused(stage: Stage) -> None:
    async with stage.running():
        line = await stage.refusal(f"CONNECT {STS}:443 HTTP/1.1", b"\x16\x03\x01")
        assert line == "HTTP/1.1 400 A client waits for the answer to its CONNECT"


# --- other hosts ------------------------------------------------------------------------------------------------------


async def test_a_tunnel_passes_everything_untouched_and_each_ways_end_by_itself(stage: Stage) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.read()  # to the end of what the client sends
        writer.write(received[::-1])
        writer.close()

    async with stage.running(), remote(serve) as address:
        _, (reader, writer) = await stage.ask(f"CONNECT {address} HTTP/1.1", b"early ")
        sent = bytes(range(256)) * 8000
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(GUARD):
            assert await reader.read() == (b"early " + sent)[::-1]
        await until(lambda: not stage.proxy.clients)


async def test_a_host_that_speaks_first_and_closes_at_once_is_heard_to_the_end(stage: Stage) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n" * 1000)
        writer.close()

    async with stage.running(), remote(serve) as address:
        for _ in range(20):
            _, (reader, writer) = await stage.ask(f"CONNECT {address} HTTP/1.1")
            async with asyncio.timeout(GUARD):
                assert await reader.read() == b"220 ready\r\n" * 1000
            writer.close()
        await until(lambda: not stage.proxy.clients)


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_what_came_from_an_end_that_has_closed_before_it_was_joined_is_passed_on(error: Exception | None) -> None:
    class Transport(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.events: list[object] = []

        def write(self, data: object) -> None:
            self.events.append(data)

        def close(self) -> None:
            self.events.append("close")

        def abort(self) -> None:
            self.events.append("abort")

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

    client, host = End(), End()
    transport = Transport()
    client.connection_made(transport)
    host.data_received(b"all of it")
    host.connection_lost(error)
    client.join(host)
    assert transport.events == [b"all of it", "abort" if error else "close"]


async def test_a_tunnel_that_the_host_breaks_is_broken_for_the_client(stage: Stage) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
        writer.transport.abort()

    async with stage.running(), remote(serve) as address:
        _, (reader, writer) = await stage.ask(f"CONNECT {address} HTTP/1.1")
        writer.write(b"x")
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(GUARD):
                await reader.read()


async def test_a_client_that_does_not_read_is_not_read_ahead_of(stage: Stage) -> None:
    written = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        with contextlib.suppress(ConnectionError):
            for _ in range(4000):
                writer.write(b"x" * 65_536)
                await writer.drain()
                written += 65_536
        writer.close()

    async with stage.running(), remote(serve) as address:
        _, (reader, writer) = await stage.ask(f"CONNECT {address} HTTP/1.1")
        last = -1
        while written > last:  # until nothing moves
            last = written
            await asyncio.sleep(0.1)
        assert written < 40 * 2**20  # the buffers of four sockets, and ours
        async with asyncio.timeout(GUARD):
            assert len(await reader.readexactly(4000 * 65_536)) == 4000 * 65_536
        writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"])
async def test_the_proxy_does_not_connect_to_itself(stage: Stage, host: str) -> None:
    async with stage.running():
        line = await stage.refusal(f"CONNECT {host}:{stage.port} HTTP/1.1")
        assert line == "HTTP/1.1 403 This proxy does not connect to itself"


async def test_a_host_that_is_not_there_is_502(stage: Stage) -> None:
    port = free_port()
    async with stage.running():
        line = await stage.refusal(f"CONNECT 127.0.0.1:{port} HTTP/1.1")
        assert line == "HTTP/1.1 502 127.0.0.1 cannot be reached: Connection refused"


async def test_an_offline_proxy_reaches_no_other_host(stage: Stage) -> None:
    stage.offline = True
    async with stage.running():
        line = await stage.refusal("CONNECT pypi.org:443 HTTP/1.1")
        assert line == "HTTP/1.1 403 hostler is offline, by its setting, and does not pass on pypi.org"
        assert (await stage.tls(STS)).getpeercert()


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.com", 405),
        ("POST http://sts.us-east-1.amazonaws.com/ HTTP/1.1\r\nContent-Length: 4", 405),
        ("CONNECT sts.us-east-1.amazonaws.com HTTP/1.1", 400),
        ("CONNECT sts.us-east-1.amazonaws.com:80 HTTP/1.1", 403),
        ("CONNECT pypi.org:443 HTTP/1.1\r\nX: " + "x" * 17_000, 431),
        ("\x16\x03\x01", 400),
    ],
)
async def test_bad_requests_are_refused_and_the_connection_is_closed(stage: Stage, head: str, status: int) -> None:
    async with stage.running():
        assert (await stage.refusal(head)).startswith(f"HTTP/1.1 {status} ")
        assert not stage.hosted


async def test_a_head_may_come_byte_by_byte(stage: Stage) -> None:
    async with stage.running():
        reader, writer = await stage.connect()
        for byte in b"CONNECT pypi.org HTTP/1.1\r\n\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(GUARD):
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()


# --- the proxy behind this one ----------------------------------------------------------------------------------------


def go_through(data: Path, address: str, no_proxy: str = "") -> None:
    with folder.locked(data) as where:
        upstream.keep(where, f"http://us%40er:pass@{address}", no_proxy)


async def test_tunnels_go_through_the_proxy_behind_this_one_with_its_credentials(stage: Stage) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello")
        writer.write(await reader.read(5))
        writer.close()

    async with stage.running(), remote(serve) as address:
        go_through(stage.data, address)
        _, (reader, writer) = await stage.ask("CONNECT pypi.org:443 HTTP/1.1")
        writer.write(b" you!")
        async with asyncio.timeout(GUARD):
            assert await reader.read() == b"hello you!"
        assert heads == [
            b"CONNECT pypi.org:443 HTTP/1.1\r\nHost: pypi.org:443\r\n"
            b"Proxy-Authorization: Basic dXNAZXI6cGFzcw==\r\n\r\n"
        ]
        assert (await stage.tls(STS)).getpeercert()
        assert len(heads) == 1


async def test_hosts_of_no_proxy_pass_by_the_proxy_behind_this_one(stage: Stage) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"direct")
        writer.close()

    port = free_port()
    async with stage.running(), remote(serve) as address:
        go_through(stage.data, f"127.0.0.1:{port}", "example.org, 127.0.0.1")
        _, (reader, _) = await stage.ask(f"CONNECT {address} HTTP/1.1")
        async with asyncio.timeout(GUARD):
            assert await reader.read() == b"direct"
        line = await stage.refusal("CONNECT pypi.org:443 HTTP/1.1")
        assert line.startswith("HTTP/1.1 502 The proxy behind this one cannot be reached: ")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "its answer was 407"),
        (b"HTTP/1.1 no\r\n\r\n", "its answer was none"),
        (b"SSH-2.0-x\r\n", "it does not answer in HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "it does not answer in HTTP/1.1"),
        (b"HTTP/1.1 200", "it closed the connection"),
    ],
)
async def test_a_proxy_behind_this_one_that_does_not_connect_is_502(stage: Stage, answer: bytes, cause: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with stage.running(), remote(serve) as address:
        go_through(stage.data, address)
        line = await stage.refusal("CONNECT pypi.org:443 HTTP/1.1")
        assert line == f"HTTP/1.1 502 The proxy behind this one has not connected: {cause}"


async def test_a_proxy_behind_this_one_that_is_this_one_is_refused(stage: Stage) -> None:
    async with stage.running():
        go_through(stage.data, f"127.0.0.1:{stage.port}")
        line = await stage.refusal("CONNECT pypi.org:443 HTTP/1.1")
        assert line == "HTTP/1.1 403 This proxy does not connect to itself"


async def test_a_damaged_file_of_the_proxy_behind_this_one_is_503_that_tells_nothing_of_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async with stage.running():
        go_through(stage.data, "127.0.0.1")
        (folder.folder_of(stage.data) / "upstream.json").write_text(json.dumps({"url": "ftp://user:secret@x"}))
        line = await stage.refusal("CONNECT pypi.org:443 HTTP/1.1")
        assert line == "HTTP/1.1 503 pypi.org cannot be answered: the log of hostler says why"
        assert "secret" not in caplog.text
