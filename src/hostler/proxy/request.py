"""What the proxy does with a request, decided from its head alone. Pure: no socket, no file.

A request is `CONNECT host:port` (RFC 9110 §9.3.6). AWS's names are hosted, whatever their spelling, or refused; they
are never tunnelled. All others are tunnelled, unless the proxy is offline.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from hostler.aws.hosts import ELSEWHERE, is_aws, is_below

HEAD_BYTES = 16_384  # of a CONNECT: credentials for an upstream proxy may be long
_FIELDS = 100

_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]{1,2048}) HTTP/1\.[01]").fullmatch
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?").fullmatch
_PORT = re.compile(r"[0-9]{1,5}").fullmatch


class Refused(Exception):
    """The request is answered with this status and sentence, of ASCII."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


@dataclass(frozen=True)
class Destination:
    """Where a CONNECT goes. `hosted`: to hostler, for AWS's name; else to the host itself, through a tunnel."""

    host: str  # lower-case; of IPv6 without brackets; of AWS's without the root's dot
    port: int
    hosted: bool

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def destination(head: bytes, offline: bool) -> Destination:
    """Return where a request goes. `head`: up to its empty line, which is not included. Raises Refused."""
    # 1. It is a CONNECT, well formed, without a body.
    line, *fields = head.split(b"\r\n")
    parsed = _LINE(line)
    if not parsed:
        raise Refused(400, "This is no request of HTTP/1.1")
    if parsed[1] != b"CONNECT":
        raise Refused(405, "This port is hostler's HTTPS proxy for AWS's host names: it takes CONNECT alone")
    if len(fields) > _FIELDS or not all(_FIELD(field) for field in fields):
        raise Refused(400, "The header fields of this CONNECT are malformed")
    names = {field.partition(b":")[0].lower() for field in fields}
    if names & {b"content-length", b"transfer-encoding"}:
        raise Refused(400, "A CONNECT has no body")
    # 2. Its target is host:port.
    host, port = read_authority(parsed[2].decode())
    # 3. AWS's names are hosted, or refused.
    name = host.removesuffix(".")
    if is_aws(name):
        if port != 443:
            raise Refused(403, f"AWS's host names are answered on port 443 alone, not on {port}")
        return Destination(name, port, hosted=True)
    if any(is_below(name, domain) for domain in ELSEWHERE):
        raise Refused(403, f"{name} is AWS's and not hosted by hostler, and AWS's names are never passed on")
    # 4. Others are tunnelled.
    if offline:
        raise Refused(403, f"hostler is offline, by its setting, and does not pass on {host}")
    return Destination(host, port, hosted=False)


def read_authority(text: str) -> tuple[str, int]:
    """Return host and port of `name:port`, `1.2.3.4:port` or `[v6]:port`; the host in lower case. Raises Refused."""
    host, colon, port = text.rpartition(":")
    host = host.lower()
    if not colon or not _PORT(port) or not 0 < int(port) < 65_536:
        raise Refused(400, "A CONNECT names a host and a port, host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
            if "%" not in host:
                return host, int(port)
        except ValueError:
            pass
        raise Refused(400, "The host of this CONNECT is no address")
    if not _NAME(host) or len(host) > 254:
        raise Refused(400, "The host of this CONNECT is no name")
    return host, int(port)
