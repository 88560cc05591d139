"""`hostler`: the people's commands. Prints for people, or with `--json` for programs.

Exit codes: 0 done, 1 failed, 2 wrong usage. Errors are one line on stderr. Prints no colours, and calls nothing but
the hostler that it is told of. Whatever is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hostler import __version__, settings
from hostler.cli import render
from hostler.errors import UserError

KEY = "hostler"  # any pair of credentials will do, unless signatures are verified


class Failure(click.ClickException):
    """Said in one line; exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"hostler: {self.message}", err=True)


class WrongUsage(Failure):
    exit_code = 2


class Commands(click.Group):
    """In the order they are written below, with hostler's own errors turned into a line and an exit code."""

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


data_option = click.option("--data", metavar="FOLDER", help="Data folder of the hostler to speak to.")
region_option = click.option("--region", help="Region of the endpoint, if not the default.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _settings(**flags: Any) -> settings.Settings:
    """Resolve the settings; what is wrong with them is wrong usage."""
    for name, meant in settings.unknown(os.environ):
        click.echo(f"hostler: {name} is no setting{f'; is {meant} meant?' if meant else ''}", err=True)
    try:
        return settings.load(flags)
    except UserError as error:
        raise WrongUsage(str(error)) from None


def _spoken_to(data: str | None, region: str | None = None) -> settings.Settings:
    """The settings of the hostler that runs on the data folder, with the host and port that reach it.

    If none runs there: what the settings say, unless the folder was named, in so many words.
    """
    from hostler.host.data_dir import running

    resolved = _settings(data=data, region=region)
    if found := running(resolved.data):
        asked = region or os.environ.get(settings.variable("region"))
        return replace(found, region=resolved.region) if asked else found
    if data or os.environ.get(settings.variable("data")):
        raise Failure(
            f"no hostler runs in {resolved.data}; start one: hostler up --data {shlex.quote(str(resolved.data))}"
        )
    return resolved


_HELP = {
    name: text[0].upper() + text[1:] + f". Default: {default}." for name, default, text in settings.Settings.described()
}


@main.command()
@click.option("--host", help=_HELP["host"])
@click.option("--port", metavar="NUMBER", help=_HELP["port"])
@click.option("--data", metavar="FOLDER", help=_HELP["data"])
@click.option("--gateways", metavar="NUMBER", help=_HELP["gateways"])
@click.option(
    "--allow-remote-access-without-authentication",
    is_flag=True,
    default=None,
    help=_HELP["allow_remote_access_without_authentication"],
)
def up(**flags: Any) -> None:
    """Host models until it is told to stop (Ctrl-C or SIGTERM).

    Every other setting is read from HOSTLER_<NAME> or hostler.toml; README lists them.
    """
    resolved = _settings(**flags)
    from hostler.host.main import run

    sys.exit(run(resolved))


@main.command()
@json_option
def demo(as_json: bool) -> None:
    """Train some models, host them on a hostler of their own, and compare the predictions."""
    from hostler.cli.demo import run

    sys.exit(run(as_json, _called_as()))


def _called_as() -> str:
    """How to call this hostler again from this folder: by name if the shell finds it, else by path."""
    import shutil

    here = Path(sys.argv[0]).absolute()
    found = shutil.which("hostler")
    if found and Path(found).absolute() == here:
        return "hostler"
    return shlex.quote(os.path.relpath(here)) if here.name == "hostler" else f"{sys.executable} -m hostler.cli"


_SHELLS: dict[str, Callable[[str, str], str]] = {
    "sh": lambda name, value: f"export {name}={shlex.quote(value)}",
    "fish": lambda name, value: f"set -gx {name} {shlex.quote(value)}",
    "powershell": lambda name, value: "$Env:{} = '{}'".format(name, value.replace("'", "''")),
    "dotenv": lambda name, value: f"{name}={value}",
}


@main.command()
@data_option
@click.option("--sh", is_flag=True, help="For sh, bash and zsh (the default).")
@click.option("--fish", is_flag=True, help="For fish: hostler env --fish | source")
@click.option("--powershell", is_flag=True, help="For PowerShell.")
@click.option("--dotenv", is_flag=True, help="As lines of a .env file.")
@click.option("--json", is_flag=True, help="Print JSON.")
def env(data: str | None, **forms: bool) -> None:
    """Print the variables that point AWS clients at hostler: eval "$(hostler env)".

    With the setting s3_endpoint, S3 calls are pointed there, and the credentials are left to you; as they are with
    signatures = verify.
    """
    asked = [form for form, given in forms.items() if given]
    if len(asked) > 1:
        raise click.UsageError(f"--{asked[0]} and --{asked[1]} exclude each other")
    form = asked[0] if asked else "sh"
    resolved = _spoken_to(data)
    variables = {
        "AWS_ENDPOINT_URL": _url(resolved),
        "AWS_REGION": resolved.region,
        "AWS_DEFAULT_REGION": resolved.region,
    }
    if resolved.s3_url:
        variables["AWS_ENDPOINT_URL_S3"] = resolved.s3_url
    elif resolved.signatures == "off":
        variables |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}
    try:
        _get(resolved, "/_hostler/health", patience=3)
    except Failure as failure:
        failure.show()
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        click.echo(
            "hostler: AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true: clients will not come here; unset it", err=True
        )
    if form == "json":
        click.echo(json.dumps(variables, indent=2))
        return
    for name, value in variables.items():
        click.echo(_SHELLS[form](name, value))


_ORDERS = ("use", "calls", "memory", "name")  # as hosting/roster.py has them
_TARGETS_LISTED = 50


@main.command()
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
    resolved = _spoken_to(data, region)
    if of_targets:
        query = {"region": resolved.region, "limit": 0 if as_json else _TARGETS_LISTED, **given}
        listing = _get(resolved, "/_hostler/targets", query)
        lines = render.idle_ttls(listing["endpoints"]) + render.targets(listing["targets"], listing["total"])
    elif given or region:
        raise click.UsageError(f"--{next(iter(given), 'region')} needs --targets")
    else:
        listing = _get(resolved, "/_hostler/endpoints")
        lines = render.endpoints(listing["endpoints"])
    if as_json:
        click.echo(json.dumps(listing, indent=2))
        return
    for line in lines:
        click.echo(line)


@main.command()
@click.argument("endpoint")
@click.option("--target-model", metavar="NAME", help="Which model of a multi-model endpoint, e.g. Houston_TX.tar.gz.")
@click.option("--target-container-hostname", metavar="NAME", help="Which container of a Direct endpoint.")
@click.option("--target-variant", metavar="NAME", help="Which variant, whatever the weights.")
@click.option("--content-type", default="text/csv", show_default=True)
@click.option("--accept", help="Content type wanted for the answer.")
@click.option("--body", metavar="TEXT", help="The request's body. Without it and --file: stdin.")
@click.option("--file", type=click.Path(path_type=Path), help="File with the body.")
@data_option
@region_option
@json_option
def invoke(
    endpoint: str,
    target_model: str | None,
    target_container_hostname: str | None,
    target_variant: str | None,
    content_type: str,
    accept: str | None,
    body: str | None,
    file: Path | None,
    data: str | None,
    region: str | None,
    as_json: bool,
) -> None:
    """Invoke ENDPOINT once and print the answer's body.

    \b
      hostler invoke my-endpoint --target-model Houston_TX.tar.gz --body 1850,3,2,25
    """
    if body is not None and file is not None:
        raise click.UsageError("--body and --file exclude each other")
    if body is not None:
        payload = body.encode()
    elif file is not None:
        try:
            payload = file.read_bytes()
        except OSError as error:
            raise click.UsageError(f"--file {file}: {error.strerror}") from None
    elif sys.stdin.isatty():
        raise click.UsageError("no body: give --body or --file, or pipe one in")
    else:
        payload = sys.stdin.buffer.read()
    request = {
        "TargetModel": target_model,
        "TargetContainerHostname": target_container_hostname,
        "TargetVariant": target_variant,
        "ContentType": content_type,
        "Accept": accept,
    }
    answer = _invoke(_spoken_to(data, region), endpoint, payload, request)
    content: bytes = answer["Body"].read()
    if not as_json:
        click.echo(content, nl=not content.endswith(b"\n"))
        return
    import base64

    try:
        shown = {"body": content.decode()}
    except UnicodeDecodeError:
        shown = {"body_base64": base64.b64encode(content).decode()}
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    click.echo(
        json.dumps(
            {
                "content_type": answer.get("ContentType"),
                "variant": answer.get("InvokedProductionVariant"),
                "server_timing": headers.get("server-timing", ""),
                **shown,
            },
            indent=2,
        )
    )


def _invoke(resolved: settings.Settings, endpoint: str, body: bytes, request: dict[str, str | None]) -> Any:
    """Through botocore, as every client does; one attempt."""
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    url = _url(resolved)
    patience = Config(retries={"total_max_attempts": 1}, read_timeout=resolved.invoke_timeout + 10, proxies={})
    given = {name: value for name, value in request.items() if value is not None}
    try:
        client = botocore.session.get_session().create_client(
            "sagemaker-runtime",
            region_name=resolved.region,
            endpoint_url=url,
            config=patience,
            **({"aws_access_key_id": KEY, "aws_secret_access_key": KEY} if resolved.signatures == "off" else {}),
        )
        return client.invoke_endpoint(EndpointName=endpoint, Body=body, **given)
    except ClientError as error:
        said = error.response.get("OriginalMessage") or error.response["Error"]["Message"]
        raise Failure(f"{error.response['Error']['Code']}: {said}") from None
    except BotoCoreError as error:
        raise Failure(str(error)) from None


@main.command()
@click.argument("endpoint", required=False)
@click.option("--access", is_flag=True, help="The access log instead: a line of JSON for each invocation.")
@click.option("--tail", type=click.IntRange(1), default=100, show_default=True, help="How many of the last lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on printing what comes.")
@data_option
@region_option
@json_option
def logs(
    endpoint: str | None, access: bool, tail: int, follow: bool, data: str | None, region: str | None, as_json: bool
) -> None:
    """Print what the containers of ENDPOINT wrote; or its invocations, with --access those of all endpoints."""
    resolved = _spoken_to(data, region)
    if access:
        _print_access(resolved, endpoint or "", tail, follow, as_json)
        return
    if endpoint is None:
        raise click.UsageError("name an endpoint, or say --access")
    query: dict[str, str | int] = {"endpoint": endpoint, "region": resolved.region, "tail": _LOG_WINDOW}
    found = {entry["container"]: entry["log"] for entry in _get(resolved, "/_hostler/logs", query)["logs"]}
    shown = {container: _last_lines(log, tail) for container, log in found.items()}
    if as_json and not follow:
        click.echo(json.dumps({"logs": [{"container": name, "log": log} for name, log in shown.items()]}, indent=2))
        return
    _print_logs(shown, as_json)
    while follow:
        time.sleep(_LOG_PERIOD)
        before = found
        found = {entry["container"]: entry["log"] for entry in _get(resolved, "/_hostler/logs", query)["logs"]}
        _print_logs({name: _news(before.get(name, ""), log) for name, log in found.items()}, as_json)


def _print_logs(logs: dict[str, str], as_json: bool) -> None:
    """Each line behind its container's name; as JSON, one document for each container that wrote."""
    for container, log in logs.items():
        if as_json and log:
            click.echo(json.dumps({"container": container, "log": log}))
        elif not as_json:
            for line in log.splitlines():
                click.echo(f"{container}  {render.plain(line)}")


def _print_access(resolved: settings.Settings, endpoint: str, tail: int, follow: bool, as_json: bool) -> None:
    """The last invocations of all gateways in the order of time: the lines as they are, or one JSON document."""
    query: dict[str, str | int] = {"endpoint": endpoint, "region": resolved.region, "tail": _LOG_WINDOW, "access": 1}

    def look() -> dict[str, str]:
        return {entry["gateway"]: entry["log"] for entry in _get(resolved, "/_hostler/logs", query)["access"]}

    found = look()
    lines = sorted("".join(found.values()).splitlines())[-tail:]  # each begins with its time
    if as_json and not follow:
        click.echo(json.dumps({"access": [json.loads(line) for line in lines]}, indent=2))
        return
    while True:
        for line in lines:
            click.echo(line)
        if not follow:
            return
        time.sleep(_LOG_PERIOD)
        before, found = found, look()
        news = (_news(before.get(name, ""), log) for name, log in found.items())
        lines = sorted("".join(news).splitlines())


_LOG_WINDOW = 2**20  # bytes of each log that are looked at
_LOG_PERIOD = 0.5  # seconds between looks with --follow


def _last_lines(text: str, count: int) -> str:
    return "".join(text.splitlines(keepends=True)[-count:])


def _news(before: str, now: str) -> str:
    """What `now` holds beyond `before`. Both are ends of one log that only grows, seen through a window."""
    if now.startswith(before):
        return now[len(before) :]
    last = before[-1000:]
    found = now.rfind(last)
    return now[found + len(last) :] if found >= 0 else now


@main.command()
@click.argument("archive")
@click.option("--image", metavar="URI", default="", help="The container's Image; without it, one that nobody knows.")
@click.option("--env", "env", metavar="NAME=VALUE", multiple=True, help="As the container's Environment has it.")
@json_option
def lint(archive: str, image: str, env: tuple[str, ...], as_json: bool) -> None:
    """Find what would make ARCHIVE (a model.tar.gz on this machine) fail, before anything starts.

    \b
      hostler lint model.tar.gz --image 123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1

    Nothing of it is run. A line for each finding; exit code 1 if one of them is an error.
    """
    if "://" in archive:
        raise WrongUsage(f"{archive} is an address: lint reads a file of this machine; fetch it first")
    if not Path(archive).is_file():
        raise WrongUsage(f"{archive} is not a file: lint reads a packed archive")
    for one in env:
        if not one.partition("=")[0] or "=" not in one:
            raise WrongUsage(f"--env {one} is not NAME=VALUE")
    import logging

    from hostler.cli.lint import lint as look

    logging.getLogger("hostler").addHandler(logging.NullHandler())  # what an unknown image means, the report says
    variables = {name: value for name, _, value in (one.partition("=") for one in env)}
    report = look(Path(archive), image, _settings(), variables)
    if as_json:
        findings = [vars(finding) for finding in report.findings]
        click.echo(json.dumps({"server": report.server, "findings": findings}, indent=2))
    else:
        for finding in report.findings:
            click.echo(finding)
        if not report.failed:
            click.echo(
                f"Served by {report.server}." if report.findings else f"Nothing found. Served by {report.server}."
            )
    sys.exit(int(report.failed))


def _url(resolved: settings.Settings) -> str:
    host = f"[{resolved.host}]" if ":" in resolved.host else resolved.host
    return f"http://{host}:{resolved.port}"


def _get(
    resolved: settings.Settings, path: str, query: Mapping[str, str | int] | None = None, patience: float = 30
) -> Any:
    """GET one of hostler's own JSON documents. Raises Failure when nothing answers, or not with 200 and JSON.

    `patience`: seconds.
    """
    import urllib.error
    import urllib.parse
    import urllib.request
    from http.client import HTTPException

    url = _url(resolved)
    address = f"{url}{path}?{urllib.parse.urlencode(query or {})}"
    request = urllib.request.Request(
        address, headers=_signed(resolved, address) if resolved.signatures != "off" else {}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever http_proxy says
    try:
        with direct.open(request, timeout=patience) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise Failure(_reason(error.code, error.read().decode(errors="replace"))) from None
    except (OSError, HTTPException) as error:
        cause = getattr(error, "reason", error)
        cause = getattr(cause, "strerror", None) or cause
        raise Failure(f"no hostler answers at {url} ({cause}); start one: hostler up") from None
    except ValueError:
        raise Failure(f"what answers at {url} is not hostler") from None


def _signed(resolved: settings.Settings, address: str) -> dict[str, str]:
    """The headers that sign a GET of this address with the AWS credentials of whoever calls; none without any."""
    import botocore.session
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError

    try:
        credentials = botocore.session.get_session().get_credentials()
    except BotoCoreError as error:
        raise Failure(str(error)) from None
    request = AWSRequest("GET", address)
    if credentials is not None:
        SigV4Auth(credentials, "sagemaker", resolved.region).add_auth(request)
    return dict(request.headers.items())


def _reason(status: int, text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"hostler answered {status}: {text[:200]}"


if __name__ == "__main__":
    main()
