"""What all commands share: their common options, the settings they resolve, and how they fail."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from typing import Any

import click

from hostler import settings
from hostler.errors import UserError

KEY = "hostler"  # any pair of credentials will do, unless signatures are verified


class Failure(click.ClickException):
    """Said in one line; exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"hostler: {self.message}", err=True)


class WrongUsage(Failure):
    exit_code = 2


data_option = click.option("--data", metavar="FOLDER", help="Data folder of the hostler to speak to.")
region_option = click.option("--region", help="Region of the endpoint, if not the default.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def resolve(**flags: Any) -> settings.Settings:
    """Resolve the settings; what is wrong with them is wrong usage."""
    for name, meant in settings.unknown_variables(os.environ):
        click.echo(f"hostler: {name} is no setting{f'; is {meant} meant?' if meant else ''}", err=True)
    try:
        return settings.load(flags)
    except UserError as error:
        raise WrongUsage(str(error)) from None


def find_running(data: str | None, region: str | None = None) -> settings.Settings:
    """The settings of the hostler that runs on the data folder, with the host and port that reach it.

    If none runs there: what the settings say, unless the folder was named, in so many words.
    """
    from hostler.host.data_dir import running

    resolved = resolve(data=data, region=region)
    if found := running(resolved.data):
        asked = region or os.environ.get(settings.variable("region"))
        return replace(found, region=resolved.region) if asked else found
    if data or os.environ.get(settings.variable("data")):
        raise Failure(
            f"no hostler runs in {resolved.data}; start one: hostler up --data {shlex.quote(str(resolved.data))}"
        )
    return resolved
