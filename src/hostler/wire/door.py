"""Control's door: the listener at which links begin, and the first message of each, which says who is there.

A doorman admits a peer or does not; the door closes without a word on whoever is not admitted, slow, or malformed. It
knows nothing of the messages after the first: each role has its own.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest
from pathlib import Path
from random import uniform
from typing import Literal, Protocol, get_args

import msgspec
from msgspec import structs

from hostler.errors import UserError
from hostler.settings import is_open_to_others
from hostler.wire import transport
from hostler.wire.frames import Frames
from hostler.wire.listener import Listener
from hostler.wire.transport import Authenticated, Certificates

log = logging.getLogger(__name__)

VERSION = 1  # of the links' messages
PASSKEY = "x-hostler-passkey"  # the header by which control admits requests over a network; it sends it over links
KNOCK_BYTES = 32 * 2**10
_KNOCK_TIME = 5.0  # seconds for the first message
_ADMIT_TIME = 10.0  # seconds for the doorman
_RETRY = 0.05  # seconds between attempts to connect: an attempt is cheap, and callers may be waiting
_RETRY_NETWORK = 1.0
_SHORTEST = 16  # characters of a static token
_MOST_LOGGED = 1000  # places whose refusals are not logged again

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", re.ASCII).fullmatch  # a pod's, or a part of a file's name

Role = Literal["gateway", "agent"]


class Knock(msgspec.Struct, frozen=True, tag="Hello", rename={"name": "gateway"}):
    """The first message of a link. On the wire it is version 0's `Hello` of gateways with more fields, so that
    versions mix.
    """

    role: Role = "gateway"
    name: str = ""
    proof: str = ""  # a token; empty on a unix socket, where the rights of the file suffice
    version: int = 0
    pid: int = 0  # of a gateway, for the host that started it
    knows_faults: bool = False  # a gateway takes SetFaults

    def __repr__(self) -> str:
        return f"<Knock of {self.role} {self.name!r}, version {self.version}>"  # a token is for no log


@dataclass(frozen=True)
class Way:
    """The way to control's door. `token`: the file with the token that is shown there; read at each dial."""

    address: str
    certificates: Certificates | None = None
    token: str = ""

    def check(self) -> None:
        """Raise UserError if the token or ca.crt cannot be read, or others could read the token on its way.

        At the start that is a wrong setting.
        """
        if transport.is_readable_by_others(self.address):
            raise UserError(f"{self.address} would be sent the token unencrypted: use tls:")
        if self.address.startswith("tls:"):
            if self.certificates is None:
                raise UserError(f"{self.address}: link_certificates must name the folder with ca.crt")
            try:
                self.certificates.client()
            except OSError as error:
                folder = self.certificates.folder
                raise UserError(f"ca.crt in {folder} cannot be used: {error.strerror or error}") from None
        if not self.token:
            raise UserError("control admits by a token: link_token must name the file with it")
        try:
            token = read_token(self.token)
        except OSError as error:
            raise UserError(f"link_token {self.token} cannot be read: {error.strerror or error}") from None
        if not token:
            raise UserError(f"link_token {self.token} is empty")

    async def knock(self, knock: Knock) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, and send the first message. Raises OSError, also for a token that cannot be read."""
        knock = structs.replace(knock, proof=await asyncio.to_thread(read_token, self.token) if self.token else "")
        reader, writer = await transport.dial(self.address, self.certificates)
        Frames[Knock](reader, writer, Knock).send(knock)
        return reader, writer

    @property
    def is_remote(self) -> bool:
        """Whether it leads over a network."""
        return not self.address.startswith("unix:")

    def pause(self) -> float:
        """Return the seconds until the next attempt. On a network they differ, so that not all come at once."""
        return uniform(_RETRY, _RETRY_NETWORK) if self.is_remote else _RETRY


class Terms:
    """The highest term of the controls that have spoken here: another has replaced each one with a lower term."""

    def __init__(self) -> None:
        self.highest = 0

    def admit(self, term: int) -> bool:
        """Whether a control of this term may speak. One without a term, 0, is of an older version, and may."""
        if 0 < term < self.highest:
            log.warning("a control of term %d is refused: one of term %d has replaced it", term, self.highest)
            return False
        self.highest = max(self.highest, term)
        return True


class Peer(msgspec.Struct, frozen=True):
    """Who has been admitted."""

    role: Role
    name: str


class Doorman(Protocol):
    """Decides who may come in."""

    async def admit(self, knock: Knock) -> Peer | None:
        """Return who knocks, or None: the connection is closed without a word."""


class UnixDoor:
    """Admits whoever can open the socket's file."""

    async def admit(self, knock: Knock) -> Peer | None:
        return Peer(knock.role, knock.name)


class StaticTokenDoor:
    """Admits by a file with one token or several for each role, as TOML: `gateway = "…"`, `agent = ["…", "…"]`.

    The file is read at each knock, so tokens are changed without a restart. All gateways have the same tokens, and so
    have all agents: a weaker proof than a token for each pod.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def admit(self, knock: Knock) -> Peer | None:
        tokens = await asyncio.to_thread(self._tokens, knock.role)
        proof = knock.proof.encode()
        return Peer(knock.role, knock.name) if any(compare_digest(proof, token) for token in tokens) else None

    def check(self) -> None:
        """Raise UserError for a file that admits nobody now."""
        try:
            tokens = self._read()
        except OSError as error:
            raise UserError(f"link_tokens {self._path} cannot be used: {error.strerror}") from None
        if not any(_usable(tokens, role) for role in get_args(Role)):
            raise UserError(f"link_tokens {self._path} holds no token of {_SHORTEST} characters or more")

    def _tokens(self, role: Role) -> list[bytes]:
        try:
            return _usable(self._read(), role)
        except OSError as error:
            log.warning("link_tokens %s cannot be used, so nobody is admitted: %s", self._path, error.strerror)
            return []

    def _read(self) -> dict[str, str | list[str]]:
        """Return the file's tokens by role. Raises OSError."""
        with self._path.open("rb") as file:
            if is_open_to_others(os.fstat(file.fileno()), os.geteuid()):
                raise OSError(errno.EPERM, "it is open to other users: chmod 600")
            try:
                return msgspec.toml.decode(file.read(2**20), type=dict[str, str | list[str]])
            except (msgspec.MsgspecError, UnicodeDecodeError):
                raise OSError(errno.EINVAL, "it is no TOML of role = token") from None


def _usable(tokens: Mapping[str, str | list[str]], role: Role) -> list[bytes]:
    """Return the tokens of a role that are long enough to be a secret."""
    value = tokens.get(role, [])
    listed = [value] if isinstance(value, str) else value
    return [token.strip().encode() for token in listed if len(token.strip()) >= _SHORTEST]


Enter = Callable[[Peer, Knock, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Door:
    """The listeners of the links. `roles`: what an admitted peer's connection is given to; it closes at the return.
    `expects`: whether a peer is of any use here; of others no doorman is asked.
    """

    def __init__(self, roles: Mapping[Role, Enter], expects: Callable[[Knock], bool] = lambda _: True) -> None:
        self._roles, self._expects = roles, expects
        self._logged: set[str] = set()  # roles and addresses whose refusal the log has: they try again and again
        self._servers: list[asyncio.Server | Listener] = []

    async def serve(self, address: str, doorman: Doorman, certificates: Certificates | None = None) -> str:
        """Listen on one more address; return it with the port that it has. Raises UserError if that cannot be."""

        async def accept(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authenticated: Authenticated
        ) -> None:
            try:
                admitted = await self._admit(doorman, reader, writer)
                if admitted is not None:
                    authenticated()
                    peer, knock = admitted
                    await self._roles[peer.role](peer, knock, reader, writer)
            finally:
                writer.close()

        try:
            server = await transport.listen(address, accept, certificates)
        except OSError as error:
            raise UserError(f"the links: {error}") from None
        self._servers.append(server)
        return transport.listening(server, address)

    async def _admit(
        self, doorman: Doorman, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Peer, Knock] | None:
        """Read the first message, and have the doorman judge it.

        The log has a line for each role and address, since a stranger may give itself any name at each attempt.
        """
        address = _address(writer)
        warn = partial(self._warn_once, address)
        try:
            async with asyncio.timeout(_KNOCK_TIME):
                knock = await Frames[Knock](reader, writer, Knock, KNOCK_BYTES, warn).receive()
            if knock is None or knock.role not in self._roles or not _NAME(knock.name) or not self._expects(knock):
                return None
            async with asyncio.timeout(_ADMIT_TIME):
                peer = await doorman.admit(knock)
        except TimeoutError:
            return None
        place = f"{knock.role} {address}"
        if peer is None:
            self._warn_once(
                place, f"{knock.role} {knock.name[:100]!r} is not admitted: its token is not valid for that"
            )
            return None
        self._logged.discard(place)
        return peer, knock

    def _warn_once(self, place: str, text: str) -> None:
        if place not in self._logged:
            log.warning("%s", text)
            self._logged = {*self._logged, place} if len(self._logged) < _MOST_LOGGED else {place}

    def close(self) -> None:
        """Accept no more. Links that are open stay so."""
        for server in self._servers:
            server.close()


def _address(writer: asyncio.StreamWriter) -> str:
    """Return the address from which somebody calls; empty on a unix socket."""
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def read_token(path: str) -> str:
    """Return the token in a file. Raises OSError, also for a file that holds no ASCII text."""
    try:
        return Path(path).read_text("ascii").strip()
    except UnicodeDecodeError:
        raise OSError(f"{path} holds no token") from None
