"""`hostler`: the commands that people type. They print for people, or with `--json` for programs.

Exit codes: 0 success, 1 failure, 2 wrong usage. An error is one line on stderr. Commands print no colours and call
nothing but the hostler that their settings name. A command imports heavy modules only when it runs.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hostler import __version__
from hostler.cli.agent import agent
from hostler.cli.doctor.command import doctor
from hostler.cli.env import env
from hostler.cli.fault import fault
from hostler.cli.gc import gc
from hostler.cli.invoke import invoke
from hostler.cli.logs import logs
from hostler.cli.ls import ls
from hostler.cli.options import Failure, WrongUsage, json_option, resolve
from hostler.cli.roles import control, gateway
from hostler.cli.up import up
from hostler.errors import UserError
from hostler.failures import extra

if TYPE_CHECKING:
    from hostler.cli.lint import Report


class Commands(click.Group):
    """Lists the commands in the order of the code; turns hostler's own errors into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise Failure(str(error)) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="hostler %(version)s")
def main() -> None:
    """Model hosting on your own machines, spoken to with Amazon SageMaker's hosting API.

    \b
      hostler demo                  a multi-model endpoint with real predictions, now
      hostler up                    start hosting
      eval "$(hostler env)"         point this shell's boto3 and AWS CLI at it
    """


@click.command()
@json_option
def demo(as_json: bool) -> None:
    """Train some models, host them on a hostler of their own, and compare the predictions."""
    from hostler.cli.demo import run

    sys.exit(run(as_json, _called_as()))


def _called_as() -> str:
    """Return how to call this hostler again from this folder: by name if the shell finds it, else by path."""
    import shutil

    here = Path(sys.argv[0]).absolute()
    on_path = shutil.which("hostler")
    if on_path and Path(on_path).absolute() == here:
        return "hostler"
    return shlex.quote(os.path.relpath(here)) if here.name == "hostler" else f"{sys.executable} -m hostler.cli"


@click.command()
@click.argument("archive", required=False, default="")
@click.option("--image", metavar="URI", default="", help="The container's Image; without it, an unknown one.")
@click.option("--env", "env", metavar="NAME=VALUE", multiple=True, help="A variable of the container's Environment.")
@click.option("--start", is_flag=True, help="Start the image in Docker, with ARCHIVE as its model.")
@click.option("--multi-model", is_flag=True, help="Start it as a container for many models.")
@click.option("--of-several", is_flag=True, help="Start it beside another container (of the same image).")
@json_option
def lint(
    archive: str, image: str, env: tuple[str, ...], start: bool, multi_model: bool, of_several: bool, as_json: bool
) -> None:
    """Find what would make ARCHIVE (a model.tar.gz on this machine) or an image fail, before there is an endpoint.

    \b
      hostler lint model.tar.gz --image 123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1
      hostler lint --image my-image:1 --multi-model

    An image without ARCHIVE is started in Docker; of an archive nothing is run without --start. Prints a line for each
    finding; exit code 1 if one of them is an error.
    """
    if "://" in archive:
        raise WrongUsage(f"{archive} is an address: lint reads a file of this machine; fetch it first")
    if archive and not Path(archive).is_file():
        raise WrongUsage(f"{archive} is not a file: lint reads a packed archive")
    if not image and (not archive or start):
        raise WrongUsage("name an archive, or an image with --image" if not archive else "--start needs --image")
    for variable in env:
        if not variable.partition("=")[0] or "=" not in variable:
            raise WrongUsage(f"--env {variable} is not NAME=VALUE")
    variables = {name: value for name, _, value in (variable.partition("=") for variable in env)}
    if start or not archive:
        report = _tried(image, archive, variables, multi_model, of_several)
    elif multi_model or of_several:
        raise WrongUsage("--multi-model and --of-several are for a start: add --start")
    else:
        report = _inspected(archive, image, variables)
    if as_json:
        findings = [
            {"level": finding.level, "where": finding.where, "what": finding.message} for finding in report.findings
        ]
        click.echo(json.dumps({"server": report.server, "findings": findings}, indent=2))
    else:
        for finding in report.findings:
            click.echo(finding)
        if not report.failed:
            click.echo(
                f"Served by {report.server}." if report.findings else f"Nothing found. Served by {report.server}."
            )
    sys.exit(int(report.failed))


def _inspected(archive: str, image: str, variables: Mapping[str, str]) -> Report:
    import logging

    from hostler.cli.lint import lint as inspect

    logging.getLogger("hostler").addHandler(logging.NullHandler())  # the report says what an unknown image means
    return inspect(Path(archive), image, resolve(), variables)


def _tried(image: str, archive: str, variables: Mapping[str, str], multi_model: bool, of_several: bool) -> Report:
    import asyncio
    import importlib.util
    import logging

    if not importlib.util.find_spec("aiodocker"):
        raise WrongUsage(f"Docker's client is not installed: {extra('docker')}")
    from hostler.cli.lint_image import Trial, lint_image
    from hostler.engines.pull_log import PullLog

    logging.getLogger("hostler").addHandler(logging.NullHandler())  # the report says what went wrong
    pull = PullLog(image, lambda _: None, lambda line: click.echo(line, err=True))
    path = Path(archive) if archive else None
    trial = Trial(image, resolve(), variables, path, multi_model, of_several, pull.say)
    return asyncio.run(lint_image(trial))


for command in (up, demo, env, ls, invoke, logs, lint, doctor, fault, gc, control, gateway, agent):
    main.add_command(command)

if __name__ == "__main__":
    main()
