"""Shared by all commands: common options, the resolved settings, and errors with exit codes."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from typing import Any

import click

from hostler import settings
from hostler.errors import UserError

KEY = "hostler"  # unless signatures are verified, any credentials do


class Failure(click.ClickException):
    """An error of one line; exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"hostler: {self.message}", err=True)


class WrongUsage(Failure):
    exit_code = 2


data_option = click.option("--data", metavar="FOLDER", help="Data folder of the running hostler.")
region_option = click.option("--region", help="Region of the endpoint, if not the default.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def resolve(**flags: Any) -> settings.Settings:
    """Resolve the settings; warn of unknown variables. Raises WrongUsage for wrong settings."""
    for name, similar in settings.unknown_variables(os.environ):
        click.echo(f"hostler: {name} is no setting{f'; is {similar} meant?' if similar else ''}", err=True)
    try:
        return settings.load(flags)
    except UserError as error:
        raise WrongUsage(str(error)) from None


def find_running(data: str | None, region: str | None = None) -> settings.Settings:
    """Return the settings of the hostler that runs on the data folder, with the host and port that reach it.

    If none runs there, return the resolved settings. Raises Failure if the folder was named by an option or variable.
    """
    from hostler.host.data_dir import running

    resolved = resolve(data=data, region=region)
    if of_running := running(resolved.data):
        region_given = region or os.environ.get(settings.variable("region"))
        return replace(of_running, region=resolved.region) if region_given else of_running
    if data or os.environ.get(settings.variable("data")):
        raise Failure(
            f"no hostler runs in {resolved.data}; start one: hostler up --data {shlex.quote(str(resolved.data))}"
        )
    return resolved
