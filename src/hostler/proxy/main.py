"""The proxy's process: `python -m hostler.proxy.main --run RUN --lifeline FD --listen FD`.

The host binds the port, starts this process at its first connection, and starts it again when it ends. It knows nothing
of HTTP inside the connections: those of AWS's names go to the gateways' socket `aws.sock` in the run folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import signal
import socket
from pathlib import Path

from hostler import settings
from hostler.processes import lifeline
from hostler.proxy.certificates import Certificates
from hostler.proxy.server import ProxyServer
from hostler.settings import Settings

try:
    from uvloop import run as run_loop  # its TLS takes less memory and time
except ImportError:  # not on every platform
    from asyncio import run as run_loop

_BACKLOG = 1024


async def _serve(run: Path, config: Settings, sock: socket.socket) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    address = sock.getsockname()
    server = ProxyServer(config.data, str(run / "aws.sock"), config.offline, Certificates(config.data), address)
    listener = await loop.create_server(server.client, sock=sock, backlog=_BACKLOG)
    await stop.wait()
    listener.close()
    server.close()
    await asyncio.sleep(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="hostler.proxy.main", description="hostler's proxy for AWS's host names")
    parser.add_argument("--run", type=Path, required=True, help="the private run folder")
    parser.add_argument("--lifeline", type=int, required=True, help="read end of the host's pipe")
    parser.add_argument("--listen", type=int, required=True, help="the listening socket")
    options = parser.parse_args()
    lifeline.leave_with(options.lifeline)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s proxy %(levelname)s %(message)s")
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    config = settings.restore(json.loads((options.run / "settings.json").read_text()))
    run_loop(_serve(options.run, config, socket.socket(fileno=options.listen)))


if __name__ == "__main__":
    main()
