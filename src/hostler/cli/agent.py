"""`hostler agent`: a role of a hostler on several machines."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hostler import contract
from hostler.cli.options import WrongUsage, resolve


@click.command()
@click.option("--instance", envvar="HOSTLER_INSTANCE", default="", help="The id of the instance.")
@click.option("--folder", default=contract.AGENT_FOLDER, show_default=True, help="The volume of its containers.")
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=contract.AGENT_PORT, show_default=True, help="Of its page."
)
@click.option(
    "--base", default=contract.BASE_DIR, hidden=True, help="Where a container sees its folder; empty: where it is."
)
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

    certificates = Certificates(Path(settings.link_certificates or contract.AGENT_PROOFS))
    way = Way(settings.control_address, certificates, settings.link_token or f"{contract.AGENT_PROOFS}/token")
    way.check()
    sys.exit(main(Place(instance, way, Path(folder), base, port)))
