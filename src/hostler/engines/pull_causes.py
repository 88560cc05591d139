"""The causes of a pull that failed, from what container runtimes and registries say. Pure.

There are no codes for it, only texts. The patterns are those of Docker 20.10 to 28, of Podman, and of containerd.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Cause(StrEnum):
    """Why an image was not pulled."""

    NO_IMAGE = "no image"
    NO_ACCESS = "no access"
    UNREACHABLE = "unreachable"
    PLAIN = "plain"  # http where Docker takes https
    TLS = "tls"
    LIMIT = "limit"  # the registry lets this user pull no more for now
    PLATFORM = "platform"
    DISK_FULL = "disk full"
    CUT = "cut"  # the connection to the registry broke
    DAMAGED = "damaged"  # what came is not what the image's digest says
    OTHER = "other"


# The first that fits. What is behind is more general.
_PATTERNS = (
    (Cause.DISK_FULL, r"no space left on device|disk quota exceeded"),
    (Cause.PLATFORM, r"no matching manifest for|does not match the specified platform|no image found in (?:manifest"
     r"|image index)|image operating system .* cannot be used|no match for platform"),
    (Cause.UNREACHABLE, r"dial tcp|no such host|connection refused|network is unreachable|no route to host"),
    (Cause.LIMIT, r"toomanyrequests|too many requests|rate limit"),
    (Cause.NO_ACCESS, r"no basic auth credentials|unauthorized|authentication required|authorization token has expired"
     r"|invalid username/password|incorrect username or password|forbidden|\b40[13]\b"
     r"|(?<!access )denied: (?!requested)"),
    (Cause.NO_IMAGE, r"manifest unknown|manifest for .* not found|name unknown|name_unknown|not found|no such image"
     r"|does not exist|pull access denied|requested access to the resource is denied|access denied|\b404\b"),
    (Cause.PLAIN, r"server gave HTTP response to HTTPS client"),
    (Cause.TLS, r"x509:|certificate|tls: "),
    (Cause.DAMAGED, r"verification failed|unexpected commit digest|digest mismatch|invalid checksum|unexpected size"),
    (Cause.CUT, r"unexpected EOF|connection reset by peer|broken pipe|download failed after attempts|context canceled"
     r"|use of closed network connection"),
    (Cause.UNREACHABLE, r"i/o timeout|Client\.Timeout|TLS handshake timeout|proxyconnect|request canceled"
     r"|deadline exceeded|server misbehaving|\bEOF\b|\b50[0234]\b"),
)  # fmt: skip


def cause(status: int, message: str) -> Cause:
    """Return the cause. `status`: HTTP's, of Docker's answer; 0: there is none."""
    found = next((cause for cause, text in _PATTERNS if re.search(text, message, re.IGNORECASE)), None)
    return found or (Cause.NO_IMAGE if status == 404 else Cause.OTHER)
