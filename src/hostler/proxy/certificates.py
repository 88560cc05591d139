"""TLS for the hosts of AWS's that are asked for: a context for each, with a certificate that is made when it is needed.

A context answers for the host of the CONNECT alone: a client that names another in its hello (SNI) is refused.
"""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hostler.proxy.authority import LEAF_LIFE, Authority, certificate_names, open_authority

_REMEMBERED = 256  # contexts, and certificates
_IN_USE = LEAF_LIFE / 2  # how long new connections get a certificate

K = TypeVar("K")
V = TypeVar("V")
Clock = Callable[[], datetime.datetime]


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Certificates:
    """The contexts by host, and the certificates by their names. `clock` returns the time, with its zone."""

    def __init__(self, data: Path, clock: Clock = utc_now) -> None:
        self._data = data
        self._clock = clock
        self._authority: Authority | None = None
        self._contexts: dict[str, tuple[ssl.SSLContext, datetime.datetime]] = {}  # with the end of their use
        self._pems: dict[tuple[str, ...], tuple[bytes, datetime.datetime]] = {}

    def context(self, host: str) -> ssl.SSLContext:
        """Return the context for a host of AWS's, lower-case. Raises UserError where there is no authority."""
        now = self._clock()
        context, end = self._contexts.get(host, (None, now))
        if context is None or not _is_in_use(end, now):
            pem, end = self._certificate(certificate_names(host), now)
            context = _context(host, pem)
            _remember(self._contexts, host, (context, end))
        return context

    def _certificate(self, names: tuple[str, ...], now: datetime.datetime) -> tuple[bytes, datetime.datetime]:
        """Return a certificate, and until when it is used for new contexts."""
        pem, end = self._pems.get(names, (b"", now))
        if not _is_in_use(end, now):
            if self._authority is None or not self._authority.is_good(now):
                self._authority = open_authority(self._data, now)
            pem, end = self._authority.issue(names, now), now + _IN_USE
            _remember(self._pems, names, (pem, end))
        return pem, end


def _is_in_use(end: datetime.datetime, now: datetime.datetime) -> bool:
    """Return whether the end of a certificate's use is to come, and not too far: then the clock was set back."""
    return now < end <= now + _IN_USE


def _remember(cache: dict[K, V], key: K, value: V) -> None:
    cache.pop(key, None)
    if len(cache) >= _REMEMBERED:
        del cache[next(iter(cache))]  # the oldest
    cache[key] = value


def _context(host: str, pem: bytes) -> ssl.SSLContext:
    def check_name(_: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        same = name is None or name.lower().removesuffix(".") == host
        return None if same else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 and later, as AWS
    context.set_alpn_protocols(["http/1.1"])
    context.sni_callback = check_name
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)  # the key shall not be on a disk, and ssl wants a file
    try:
        with open(file, "wb", closefd=False) as memory:
            memory.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context
