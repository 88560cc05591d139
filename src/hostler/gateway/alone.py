"""`hostler gateway`: a gateway without a host, on any machine that reaches control and the instances."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from pathlib import Path

from hostler import settings as settings_module
from hostler.errors import UserError
from hostler.gateway import main
from hostler.settings import Settings
from hostler.wire.door import Way
from hostler.wire.transport import Certificates


def way(settings: Settings) -> Way:
    """Return the way to control. Raises UserError for settings with which a gateway cannot begin."""
    if not settings.control_address:
        raise UserError("`hostler gateway` needs control_address, such as tls:hostler-control.hostler.svc:7700")
    certificates = Certificates(Path(settings.link_certificates)) if settings.link_certificates else None
    found = Way(settings.control_address, certificates, settings.link_token)
    if settings.signatures == "verify":
        settings_module.access_keys(settings)
    found.check()
    return found


def run(settings: Settings, way: Way, listening: socket.socket) -> int:
    """Serve the socket until SIGTERM; return the exit code."""
    name = os.environ.get("HOSTLER_POD") or f"{socket.gethostname()}-{listening.getsockname()[1]}"
    main.prepare_process(name)
    folder = settings.data / "gateways"
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be used: {error.strerror}") from None

    def make() -> main.Gateway:
        # Each container of a pod has the same few process ids, so its number is drawn.
        return main.Gateway(folder, name, settings, way=way, process=secrets.randbits(48))

    logging.getLogger("hostler.gateway").info("%s links with %s", name, way.address)
    return main.run(make, settings, listening)
