"""`hostler agent`: a role of a hostler on several machines."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hostler.cli.options import WrongUsage, resolve

_PROOFS = "/var/run/hostler"  # where a pod has its token, and ca.crt


@click.command()
@click.option("--instance", envvar="HOSTLER_INSTANCE", default="", help="The id of the instance.")
@click.option(
    "--folder", default="/hostler", help="The volume that the instance's containers share.", show_default=True
)
@click.option("--port", type=click.IntRange(1, 65_535), default=7901, help="Of its page.", show_default=True)
@click.option("--base", default="/opt/ml", help="Where a container sees its folder; empty: where it is.", hidden=True)
def agent(instance: str, folder: str, port: int, base: str) -> None:
    """Stand beside an instance on another machine than control, and bring its models. The engine starts it.

    It reads control_address, link_certificates and link_token of the settings; the last two are /var/run/hostler, and
    the file token there, unless they are set.
    """
    settings = resolve(data=folder)
    if not instance or not settings.control_address:
        raise WrongUsage("an agent needs HOSTLER_INSTANCE and HOSTLER_CONTROL_ADDRESS; the engine kubernetes sets them")
    from hostler.agent.main import Place, main
    from hostler.wire.door import Way
    from hostler.wire.transport import Certificates

    certificates = Certificates(Path(settings.link_certificates or _PROOFS))
    way = Way(settings.control_address, certificates, settings.link_token or f"{_PROOFS}/token")
    way.check()
    sys.exit(main(Place(instance, way, Path(folder), base, port)))
