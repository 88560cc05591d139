"""Listening on all addresses of a machine or a container, of IPv6 and of IPv4."""

from __future__ import annotations

import errno
import socket

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_BACKLOG = 4096


def listen_everywhere(port: int) -> socket.socket:
    """Return a socket that listens on a port of all addresses. Raises OSError and OverflowError."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    return socket.create_server(("0.0.0.0", port), backlog=_BACKLOG)
