"""The proxy behind this one: that of the shell which called `hostler env --aws-hosts` last, with what passes it by.

Its address may hold credentials. It is kept in a file (0600), read for each tunnel, and named in no log or answer.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from hostler.aws.hosts import is_below
from hostler.errors import UserError
from hostler.proxy import folder

_FILE = "upstream.json"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Upstream:
    """A proxy. `tls`: it is spoken to in TLS. `authorization`: its Proxy-Authorization, empty without credentials."""

    host: str
    port: int
    tls: bool
    authorization: str
    no_proxy: str  # as in the variable NO_PROXY

    def passes_by(self, host: str) -> bool:
        """Return whether a host is one of NO_PROXY, or below one of its names."""
        entries = [entry.strip().lower().lstrip(".") for entry in self.no_proxy.split(",")]
        return "*" in entries or any(entry and is_below(host, entry) for entry in entries)


def parse(url: str, no_proxy: str) -> Upstream:
    """Return the proxy of a URL as in the variable HTTPS_PROXY. Raises UserError, whose text quotes nothing of it."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise UserError("the address of the proxy that is set already (HTTPS_PROXY or ALL_PROXY) is no URL")
    if parts.scheme not in _PORTS:
        raise UserError(
            f"the proxy that is set already (HTTPS_PROXY or ALL_PROXY) speaks {parts.scheme}; hostler's proxy can go "
            "through one that speaks http or https alone"
        )
    authorization = ""
    if parts.username is not None:
        credentials = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        authorization = f"Basic {base64.b64encode(credentials).decode()}"
    return Upstream(host, port or _PORTS[parts.scheme], parts.scheme == "https", authorization, no_proxy)


def keep(where: Path, url: str, no_proxy: str) -> None:
    """Write the proxy that is behind this one from now on; empty: none. Under the folder's lock. Raises OSError."""
    folder.write(where / _FILE, json.dumps({"url": url, "no_proxy": no_proxy}).encode())


def read(data: Path) -> Upstream | None:
    """Return the proxy that is behind this one. Raises UserError for one that cannot be read."""
    try:
        table = json.loads((folder.folder_of(data) / _FILE).read_bytes())
        return parse(table["url"], table["no_proxy"]) if table["url"] else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError("the proxy behind this one cannot be read; call hostler env --aws-hosts again") from None
