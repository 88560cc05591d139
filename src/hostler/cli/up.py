"""`hostler up`: host models until it is stopped."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import click

from hostler.cli.options import resolve
from hostler.settings import Settings

HELP = {
    setting.name: f"{setting.help[0].upper()}{setting.help[1:]}. Default: {setting.default}."
    for setting in Settings.described()
}


@click.command()
@click.option("--host", help=HELP["host"])
@click.option("--port", metavar="NUMBER", help=HELP["port"])
@click.option("--data", metavar="FOLDER", help=HELP["data"])
@click.option("--gateways", metavar="NUMBER", help=HELP["gateways"])
@click.option(
    "--allow-remote-access-without-authentication",
    is_flag=True,
    default=None,
    help=HELP["allow_remote_access_without_authentication"],
)
@click.option("--temporary", is_flag=True, help="Keep nothing: the data are in a new folder, removed at the end.")
@click.option(
    "--end-with",
    type=click.IntRange(1),
    metavar="PID",
    help="Stop when this process ends.",
)
def up(temporary: bool, end_with: int | None, **flags: Any) -> None:
    """Host models until stopped (Ctrl-C or SIGTERM).

    Every other setting is read from HOSTLER_<NAME> or hostler.toml; README lists them.
    """
    if temporary and flags["data"]:
        raise click.UsageError("--temporary and --data exclude each other")
    resolved = resolve(**flags)
    from hostler.host import data_dir
    from hostler.host.main import run

    if not temporary:
        sys.exit(run(resolved, end_with=end_with))
    with data_dir.temporary() as folder:
        # It lives shortly, perhaps beside many others: only frameworks that are used are worth their import.
        sys.exit(run(replace(resolved, data=folder), end_with=end_with, ahead=False))
