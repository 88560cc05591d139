"""A container's probes: whether it has started, is ready, and lives."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from fake_cluster.store import Object
from fake_cluster.translation import probe_address


async def succeeds(probe: Object, container: Object, address: str) -> str:
    """Ask once; return why it failed, empty if it succeeded. `address`: the pod's."""
    kind, port, path, headers = probe_address(probe, container)
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
            if kind == "tcpSocket":
                return await _connect(address, port)
            tls = _unverified() if probe["httpGet"].get("scheme") == "HTTPS" else None
            return await _get(address, port, path, headers, tls)
    except TimeoutError:
        return "context deadline exceeded"
    except OSError as error:
        return f"dial tcp {address}:{port}: {error.strerror or error}"


async def _connect(address: str, port: int) -> str:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    return ""


def _unverified() -> ssl.SSLContext:
    """Return a context that takes any certificate, as a kubelet does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _get(address: str, port: int, path: str, headers: list[tuple[str, str]], tls: ssl.SSLContext | None) -> str:
    reader, writer = await asyncio.open_connection(address, port, ssl=tls)
    try:
        given = {name.lower() for name, _ in headers}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        lines += [] if "host" in given else [f"Host: {address}:{port}"]
        writer.write("\r\n".join([*lines, "User-Agent: kube-probe/1.36", "Connection: close", "", ""]).encode())
        first = (await reader.readline()).split()
        status = int(first[1]) if len(first) > 1 and first[1].isdigit() else 0
        return "" if 200 <= status < 400 else f"HTTP probe failed with statuscode: {status}"
    finally:
        with contextlib.suppress(OSError):
            writer.close()
