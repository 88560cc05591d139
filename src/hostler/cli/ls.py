"""`hostler ls`: the endpoints, or the targets, of the running hostler."""

from __future__ import annotations

import json

import click

from hostler.cli import render
from hostler.cli.http import get
from hostler.cli.options import data_option, find_running, json_option, region_option

_ORDERS = ("use", "calls", "memory", "name")  # as hosting/roster.py has them
_TARGETS_LISTED = 50


@click.command()
@click.option("--targets", "of_targets", is_flag=True, help="List the models of multi-model endpoints instead.")
@click.option("--endpoint", metavar="NAME", help="With --targets: only of this endpoint.")
@click.option(
    "--match", metavar="TEXT", help="With --targets: only names that hold it, or match it if it has *, ? or [...]."
)
@click.option("--sort", type=click.Choice(_ORDERS), help="With --targets: by last use (the default), or other.")
@click.option(
    "--limit", type=click.IntRange(0), help="With --targets: how many; 0: all, as is the default with --json."
)
@data_option
@region_option
@json_option
def ls(
    of_targets: bool,
    endpoint: str | None,
    match: str | None,
    sort: str | None,
    limit: int | None,
    data: str | None,
    region: str | None,
    as_json: bool,
) -> None:
    """List the endpoints: status, variants, instances and the models resident on them.

    \b
      hostler ls --targets --endpoint my-endpoint --match 'Houston*' --sort memory
    """
    asked = {"endpoint": endpoint, "match": match, "sort": sort, "limit": limit}
    given = {name: value for name, value in asked.items() if value is not None}
    resolved = find_running(data, region)
    if of_targets:
        query = {"region": resolved.region, "limit": 0 if as_json else _TARGETS_LISTED, **given}
        listing = get(resolved, "/_hostler/targets", query)
        lines = render.idle_ttls(listing["endpoints"]) + render.targets(listing["targets"], listing["total"])
    elif given or region:
        raise click.UsageError(f"--{next(iter(given), 'region')} needs --targets")
    else:
        listing = get(resolved, "/_hostler/endpoints")
        lines = render.endpoints(listing["endpoints"])
    if as_json:
        click.echo(json.dumps(listing, indent=2))
        return
    for line in lines:
        click.echo(line)
