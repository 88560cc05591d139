"""`hostler env`: the variables that point AWS clients at a hostler."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping

import click

from hostler.cli.aws_hosts import undone
from hostler.cli.aws_hosts import variables as named_by_aws
from hostler.cli.http import get, url
from hostler.cli.options import KEY, Failure, data_option, find_running
from hostler.settings import variable

_SHELLS: dict[str, Callable[[str, str], str]] = {
    "sh": lambda name, value: f"export {name}={shlex.quote(value)}",
    "fish": lambda name, value: f"set -gx {name} {shlex.quote(value)}",
    "powershell": lambda name, value: "$Env:{} = '{}'".format(name, value.replace("'", "''")),
    "dotenv": lambda name, value: f"{name}={value}",
}
_UNSET = {"sh": "unset {}", "fish": "set -e {}", "powershell": "Remove-Item Env:{} -ErrorAction Ignore"}


@click.command()
@data_option
@click.option("--sh", is_flag=True, help="For sh, bash and zsh (the default).")
@click.option("--fish", is_flag=True, help="For fish: hostler env --fish | source")
@click.option("--powershell", is_flag=True, help="For PowerShell.")
@click.option("--dotenv", is_flag=True, help="As lines of a .env file.")
@click.option("--json", is_flag=True, help="Print JSON.")
@click.option("--aws-hosts", "aws_hosts", is_flag=True, help="Programs reach hostler by AWS's own host names, too.")
@click.option("--unset", is_flag=True, help="Undo --aws-hosts, also when hostler has ended.")
def env(data: str | None, aws_hosts: bool, unset: bool, **forms: bool) -> None:
    """Print the variables that point AWS clients at hostler: eval "$(hostler env)".

    With the setting s3_endpoint, S3 calls go to that endpoint. With it, or with signatures = verify, no credentials are
    printed: the shell's own are used.

    \b
      eval "$(hostler env --aws-hosts)"    the SageMaker SDK, which calls AWS by name, comes here, too
      eval "$(hostler env --unset)"        each variable is again what it was
    """
    chosen = [form for form, is_set in forms.items() if is_set]
    if len(chosen) > 1:
        raise click.UsageError(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    form = chosen[0] if chosen else "sh"
    if unset:
        _print(form, undone(os.environ))
    else:
        _print(form, _variables(data, aws_hosts))


def _variables(data: str | None, aws_hosts: bool) -> dict[str, str]:
    """Return the variables; warn if nobody answers there."""
    resolved = find_running(data)
    variables = {
        "AWS_ENDPOINT_URL": url(resolved),
        "AWS_REGION": resolved.region,
        "AWS_DEFAULT_REGION": resolved.region,
    }
    if data:  # hostler's own commands in that shell go there, too
        variables[variable("data")] = str(resolved.data.absolute())
    if resolved.s3_url:
        variables["AWS_ENDPOINT_URL_S3"] = resolved.s3_url
    elif resolved.signatures == "off":
        variables |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}
    try:
        get(resolved, "/_hostler/health", patience=3)
    except Failure as failure:
        failure.show()
    if aws_hosts:
        return named_by_aws(resolved, variables, os.environ)
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        click.echo(
            "hostler: AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true: clients will not come here; unset it", err=True
        )
    return variables


def _print(form: str, variables: Mapping[str, str | None]) -> None:
    """Print variables in the form of a shell. None: not set, which a .env file says by not naming it."""
    if form == "json":
        click.echo(json.dumps(variables, indent=2))
        return
    for name, value in variables.items():
        if value is not None:
            click.echo(_SHELLS[form](name, value))
        elif form in _UNSET:
            click.echo(_UNSET[form].format(name))
