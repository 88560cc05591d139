"""`hostler ls`: the endpoints, or the targets, of the running hostler."""

from __future__ import annotations

import json

import click

from hostler.cli import render
from hostler.cli.http import get
from hostler.cli.options import data_option, find_running, json_option, region_option
from hostler.core.targets.states import ORDERS

_TARGETS_LISTED = 50


@click.command()
@click.option("--targets", "of_targets", is_flag=True, help="List the models of multi-model endpoints.")
@click.option("--endpoint", metavar="NAME", help="With --targets: only models of this endpoint.")
@click.option(
    "--match", metavar="TEXT", help="With --targets: only names that contain it, or match it if it has *, ? or [...]."
)
@click.option("--sort", type=click.Choice(ORDERS), help="With --targets: the order; by default that of last use.")
@click.option(
    "--limit", type=click.IntRange(0), help="With --targets: number of models; 0 (the default with --json): all."
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
    options = {"endpoint": endpoint, "match": match, "sort": sort, "limit": limit}
    filters = {name: value for name, value in options.items() if value is not None}
    resolved = find_running(data, region)
    if of_targets:
        query = {"region": resolved.region, "limit": 0 if as_json else _TARGETS_LISTED, **filters}
        listing = get(resolved, "/_hostler/targets", query)
        lines = render.idle_ttls(listing["endpoints"]) + render.targets(listing["targets"], listing["total"])
    elif filters or region:
        raise click.UsageError(f"--{next(iter(filters), 'region')} needs --targets")
    else:
        listing = get(resolved, "/_hostler/endpoints")
        lines = render.endpoints(listing["endpoints"])
    if as_json:
        click.echo(json.dumps(listing, indent=2))
        return
    for line in lines:
        click.echo(line)
