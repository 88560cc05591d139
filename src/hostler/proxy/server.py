"""The proxy's connections: read a CONNECT, connect to where it goes, answer it, pass bytes on until an end closes.

Bounded: the head's size and time, the number of connections, the times to connect and to agree on TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from hostler.errors import UserError
from hostler.proxy import callers, upstream
from hostler.proxy.certificates import Certificates
from hostler.proxy.dial import dial
from hostler.proxy.question import Question
from hostler.proxy.relay import End, keep_alive
from hostler.proxy.request import HEAD_BYTES, Destination, Refused, destination

log = logging.getLogger(__name__)

_HEAD_TIME = 10.0  # seconds from the connection's beginning
_CONNECT_TIME = 20.0  # seconds to find and reach a host, the proxy behind this one included
_HANDSHAKE_TIME = 10.0
_LINGER_TIME = 2.0  # seconds that a refused client has to read its answer and close
_CONNECTIONS = 1000
_EMPTY_LINE = b"\r\n\r\n"


@dataclass
class ProxyServer:
    """What the connections share. `hostler`: the path of the gateways' socket for AWS's names."""

    data: Path
    hostler: str
    offline: bool
    certificates: Certificates
    address: tuple[str, int]  # that it listens on
    clients: set[Client] = field(default_factory=set)

    def client(self) -> Client:
        """Make the protocol of a new connection."""
        return Client(self)

    def close(self) -> None:
        """Close all connections."""
        for client in list(self.clients):
            client.abort()


class Client(End):
    """A client's connection. Its CONNECT is answered once the other end is there."""

    def __init__(self, server: ProxyServer) -> None:
        super().__init__()
        self._server = server
        self._receive: Callable[[bytes], None] = self._head  # what arrives
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        keep_alive(transport)
        self._server.clients.add(self)
        late = Refused(408, "The request did not arrive in time")
        self._timer = asyncio.get_running_loop().call_later(_HEAD_TIME, self._refuse, late)
        if len(self._server.clients) > _CONNECTIONS:
            self._refuse(Refused(503, "This proxy has too many connections"))

    def data_received(self, data: bytes) -> None:
        self._receive(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._forget()
        if self._task is not None:
            self._task.cancel()
        super().connection_lost(error)

    def abort(self) -> None:
        """Break the connection."""
        if self.transport is not None:
            self.transport.abort()

    def _forget(self) -> None:
        self._server.clients.discard(self)
        self._stop_timer()

    # --- from the head to the relay

    def _head(self, data: bytes) -> None:
        """Read the head, and act on it."""
        assert self.transport is not None
        self.early += data
        head, end, after = self.early.partition(_EMPTY_LINE)
        try:
            if not self.early[:1].isalpha():  # TLS, for one
                raise Refused(400, "This is no request of HTTP/1.1")
            if len(head) > HEAD_BYTES:
                raise Refused(431, "The header fields of this request are too large")
            if not end:
                return
            to = destination(head, self._server.offline)
            if to.hosted and after:
                raise Refused(400, "A client waits for the answer to its CONNECT")
        except Refused as refused:
            self._refuse(refused)
            return
        self._stop_timer()
        self.transport.pause_reading()
        self.early, self._receive = after, super().data_received
        self._task = asyncio.create_task(self._connect(to))

    async def _connect(self, to: Destination) -> None:
        """Connect to where the CONNECT goes, and become a relay; or refuse it."""
        other = End()
        try:
            async with asyncio.timeout(_CONNECT_TIME):
                context = None
                if to.hosted:
                    context = self._server.certificates.context(to.host)
                    await self._reach_hostler(other)
                else:
                    await self._reach(to, other)
            await self._become_relay(other, context)
        except Refused as refused:
            self._refuse(refused)
        except TimeoutError:
            self._refuse(Refused(504, f"{to.host} does not answer"))
        except UserError as error:
            log.warning("%s is not answered: %s", to.host, error)
            self._refuse(Refused(503, f"{to.host} cannot be answered: the log of hostler says why"))
        except Exception:
            log.exception("the connection to %s failed", to.host)
            self.abort()
        finally:
            if other.other is None and other.transport is not None:
                other.transport.abort()

    async def _become_relay(self, other: End, context: ssl.SSLContext | None) -> None:
        """Answer the CONNECT, agree on TLS where there is a context, and pass everything on from then on."""
        transport = self.transport
        if transport is None:
            return
        transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if context is not None:
            tls = None
            with contextlib.suppress(OSError):  # the client does not trust our authority, or names another host
                tls = await asyncio.get_running_loop().start_tls(
                    transport, self, context, server_side=True, ssl_handshake_timeout=_HANDSHAKE_TIME
                )
            if tls is None or tls.is_closing():
                self._forget()  # of a connection that is lost meanwhile no loop tells the protocol
                return
            self.use(tls)
        self.join(other)

    async def _reach_hostler(self, other: End) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: other, self._server.hostler)
        except OSError:
            raise Refused(503, "hostler is stopping") from None

    async def _reach(self, to: Destination, other: End) -> None:
        """Connect to a host, or to the proxy behind this one and through it. Raises Refused."""
        behind = upstream.read(self._server.data)
        if behind is not None and behind.passes_by(to.host):
            behind = None
        if behind is not None and behind.authorization and not self._is_own_user():
            raise Refused(403, "The proxy behind this one is for programs of the user alone whose credentials it has")
        question = Question(other, to, behind.authorization) if behind else None
        host, port = (behind.host, behind.port) if behind else (to.host, to.port)
        try:
            sock = await dial(host, port)
            tls = ssl.create_default_context() if behind and behind.tls else None
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: question or other, sock=sock, ssl=tls, server_hostname=host if tls else None
            )
        except (OSError, UnicodeError) as error:
            where = "The proxy behind this one" if behind else to.host
            cause = getattr(error, "strerror", None) or "there is no such host"
            raise Refused(502, f"{where} cannot be reached: {cause}") from None
        if self._is_ours(transport):
            transport.abort()
            raise Refused(403, "This proxy does not connect to itself")
        keep_alive(transport)
        if question:
            await question.answered
        else:
            transport.pause_reading()

    def _is_own_user(self) -> bool:
        """Return whether the client is a program of the user who runs hostler, as far as the system says."""
        if self.transport is None:
            return False
        user = callers.user_of(self.transport.get_extra_info("peername"), self._server.address)
        return user in (os.geteuid(), None)

    def _is_ours(self, transport: asyncio.BaseTransport) -> bool:
        """Return whether a connection leads to this proxy."""
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        return (host.removeprefix("::ffff:"), port) == self._server.address

    # --- refusals

    def _refuse(self, refused: Refused) -> None:
        """Answer with one sentence. It is the reason phrase, too, because that is what clients show."""
        self._stop_timer()
        self._receive = _throw_away
        if self.transport is None:
            return
        sentence = refused.sentence.encode("ascii", "replace").decode()
        allow = "Allow: CONNECT\r\n" if refused.status == HTTPStatus.METHOD_NOT_ALLOWED else ""
        self.transport.write(
            f"HTTP/1.1 {refused.status} {sentence}\r\nContent-Type: text/plain\r\n{allow}"
            f"Content-Length: {len(sentence) + 2}\r\nConnection: close\r\n\r\n{sentence}.\n".encode()
        )
        self.transport.write_eof()
        self.transport.resume_reading()
        self._timer = asyncio.get_running_loop().call_later(_LINGER_TIME, self.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _throw_away(data: bytes) -> None:
    """Read what a refused client still sends, so that it sees its answer before a reset."""
