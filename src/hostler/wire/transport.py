"""How links are listened for and dialled, by address: `unix:/path`, `tcp:host:port` or `tls:host:port`.

A connection whose other end is gone ends by itself (silence.py). It knows nothing of what a connection carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from hostler.wire import silence
from hostler.wire.listener import Listener, Stranger

CONNECT = 2.5  # seconds to connect to an address of a name
_HANDSHAKE = 5.0  # seconds for TLS
_BACKLOG = 1024

Authenticated = Callable[[], None]  # called once the peer is; until then it is one of a bounded crowd
Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Authenticated], Awaitable[None]]
_FILES = ("ca.crt", "tls.crt", "tls.key")


@dataclass(frozen=True)
class Certificates:
    """The folder with `ca.crt`, `tls.crt` and `tls.key`, as in a Secret; who only dials needs `ca.crt` alone.

    Files are read anew when they have changed, so renewed certificates need no restart.
    """

    folder: Path

    def client(self) -> ssl.SSLContext:
        """Return the context of a dial: TLS 1.3 to a host whose certificate ca.crt has signed. Raises OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.folder / "ca.crt")
        return context

    def server(self) -> ssl.SSLContext:
        """Return the context of a listener. Raises OSError for files that cannot be used."""
        try:
            context, read = self._chain(), self._read()
        except (OSError, ssl.SSLError) as error:
            raise OSError(f"tls.crt and tls.key in {self.folder} cannot be used: {error}") from None
        newest = context

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
            nonlocal newest, read
            with contextlib.suppress(OSError, ssl.SSLError):  # half renewed: the one before serves
                if (now := self._read()) != read:
                    newest, read = self._chain(), now
            connection.context = newest

        context.sni_callback = choose
        return context

    def _chain(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.folder / "tls.crt", self.folder / "tls.key")
        return context

    def _read(self) -> tuple[int, ...]:
        """Return by which the files' versions are told apart."""
        return tuple((self.folder / name).stat().st_mtime_ns for name in _FILES[1:])


def split(address: str) -> tuple[str, str, int]:
    """Return kind, host and port of an address; of `unix:` its path and 0. Raises ValueError for any other text."""
    kind, _, place = address.partition(":")
    if kind == "unix" and place:
        return kind, place, 0
    host, colon, port = place.rpartition(":")
    if kind not in ("tcp", "tls") or not (host and colon and port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ValueError(f"{address!r} is no address such as unix:/path, tcp:127.0.0.1:7700 or tls:control:7700")
    return kind, host.removeprefix("[").removesuffix("]"), int(port)


def is_readable_by_others(address: str) -> bool:
    """Whether what is sent there goes over a network unencrypted."""
    kind, host, _ = split(address)
    try:
        return kind == "tcp" and host != "localhost" and not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True  # a name


def beside(door: str, listened: str) -> str:
    """Return the address at which another listener of the door's machine is reached, which listens on `listened`."""
    kind, _, port = split(listened)
    return f"{kind}:{split(door)[1]}:{port}"


def bind(address: str) -> socket.socket:
    """Return a socket that listens on a `tcp:` or `tls:` address, where a peer may read late. Raises OSError."""
    _, host, port = split(address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        sock = socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=host == "::")
    except OSError as error:
        raise OSError(f"{address} cannot be listened on: {error.strerror or error}") from None
    silence.probe(sock)
    return sock


def _watch(sock: socket.socket) -> None:
    """Let a link, or those that a listener accepts, end 2.5 s after the peer's machine is gone.

    A peer that reads nothing for so long is given up, too, and the link begins anew.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    silence.probe(sock)
    silence.limit(sock)


async def listen(address: str, accept: Accept, certificates: Certificates | None = None) -> asyncio.Server | Listener:
    """Call `accept` with each connection to an address; a socket that an earlier process left there is removed.

    `certificates`: for `tls:`. Raises OSError.
    """
    kind, place, _ = split(address)
    if kind == "unix":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
        return await asyncio.start_unix_server(lambda reader, writer: accept(reader, writer, _nothing), place)
    context = _needed(address, certificates).server() if kind == "tls" else None
    sock = bind(address)
    _watch(sock)
    loop = asyncio.get_running_loop()

    def connect(stranger: Stranger) -> asyncio.Protocol:
        async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await accept(reader, writer, stranger.leave)
            finally:
                stranger.leave()

        return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), begin, loop=loop)

    return Listener(sock, connect, context)


def _nothing() -> None:
    pass


def listening(server: asyncio.Server | Listener, address: str) -> str:
    """Return the address of a listener with the port that it has; that of the address may be 0."""
    kind, host, port = split(address)
    return address if kind == "unix" else f"{kind}:{host}:{port or server.sockets[0].getsockname()[1]}"


async def dial(
    address: str, certificates: Certificates | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an address. `certificates`: for `tls:`. Raises OSError, TLS's and time-outs included."""
    kind, host, port = split(address)
    if kind == "unix":
        return await asyncio.open_unix_connection(host)
    loop = asyncio.get_running_loop()
    context = await asyncio.to_thread(_needed(address, certificates).client) if kind == "tls" else None
    failure: OSError = ConnectionError(f"{host} has no address")
    for family, _, _, _, where in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            _watch(sock)
            async with asyncio.timeout(CONNECT):
                await loop.sock_connect(sock, where)
        except OSError as error:
            failure = error
            sock.close()
            continue
        except BaseException:
            sock.close()
            raise
        if context is None:
            return await asyncio.open_connection(sock=sock)
        return await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname=host, ssl_handshake_timeout=_HANDSHAKE
        )
    raise failure


def _needed(address: str, certificates: Certificates | None) -> Certificates:
    if certificates is None:
        raise OSError(f"{address} needs certificates")
    return certificates
