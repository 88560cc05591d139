"""`hostler control` and `hostler gateway`: the parts of a hostler on several machines, each a process of its own."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from hostler.cli.options import resolve
from hostler.cli.up import HELP


@click.command()
@click.option("--data", metavar="FOLDER", help=HELP["data"])
def control(**flags: Any) -> None:
    """Run control alone, in a cluster: the API, and what is desired; gateways and instances are elsewhere.

    It reads link_listen, api_listen, link_certificates and the table [kubernetes] of the settings.
    """
    resolved = resolve(**flags)
    from hostler.control import alone
    from hostler.host import data_dir

    os.umask(0o077)
    lock = data_dir.lock(resolved.data)
    try:
        alone.run(resolved)
    finally:
        os.close(lock)


@click.command()
@click.option("--host", help=HELP["host"])
@click.option("--port", metavar="NUMBER", help=HELP["port"])
@click.option("--data", metavar="FOLDER", help="Folder for the routes that are known last, and for logs.")
@click.option(
    "--allow-remote-access-without-authentication",
    is_flag=True,
    default=None,
    help=HELP["allow_remote_access_without_authentication"],
)
def gateway(**flags: Any) -> None:
    """Run one gateway, on any machine that reaches control and the instances.

    It reads control_address, link_certificates and link_token of the settings.
    """
    resolved = resolve(**flags)
    from hostler.gateway import alone
    from hostler.host import listener

    os.umask(0o077)
    way = alone.way(resolved)
    remote = resolved.signatures == "verify" or resolved.allow_remote_access_without_authentication
    listener.check_remote_access(resolved.host, resolved.port, remote)
    with listener.listen(resolved.host, resolved.port) as listening:
        sys.exit(alone.run(resolved, way, listening))
