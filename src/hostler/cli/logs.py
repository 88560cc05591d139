"""`hostler logs`: the containers' logs, or the access log, once or as it grows."""

from __future__ import annotations

import json
import time

import click

from hostler.cli.http import get
from hostler.cli.options import data_option, find_running, json_option, region_option
from hostler.settings import Settings
from hostler.text import printable


@click.command()
@click.argument("endpoint", required=False)
@click.option("--access", is_flag=True, help="Print the access log instead: a line of JSON for each invocation.")
@click.option("--tail", type=click.IntRange(1), default=100, show_default=True, help="Number of last lines.")
@click.option("--follow", "-f", is_flag=True, help="Keep printing new lines.")
@data_option
@region_option
@json_option
def logs(
    endpoint: str | None, access: bool, tail: int, follow: bool, data: str | None, region: str | None, as_json: bool
) -> None:
    """Print the logs of ENDPOINT's containers; with --access its invocations, or without ENDPOINT those of all."""
    resolved = find_running(data, region)
    if access:
        _print_access(resolved, endpoint or "", tail, follow, as_json)
        return
    if endpoint is None:
        raise click.UsageError("name an endpoint, or say --access")
    query: dict[str, str | int] = {"endpoint": endpoint, "region": resolved.region, "tail": _LOG_WINDOW}

    def read() -> dict[str, str]:
        return {entry["container"]: entry["log"] for entry in get(resolved, "/_hostler/logs", query)["logs"]}

    logs = read()
    last = {container: last_lines(log, tail) for container, log in logs.items()}
    if as_json and not follow:
        click.echo(json.dumps({"logs": [{"container": name, "log": log} for name, log in last.items()]}, indent=2))
        return
    _print_logs(last, as_json)
    while follow:
        time.sleep(_LOG_PERIOD)
        before, logs = logs, read()
        _print_logs({name: new_lines(before.get(name, ""), log) for name, log in logs.items()}, as_json)


def _print_logs(logs: dict[str, str], as_json: bool) -> None:
    """Print each line after its container's name; as JSON, one document for each container with new lines."""
    for container, log in logs.items():
        if as_json and log:
            click.echo(json.dumps({"container": container, "log": log}))
        elif not as_json:
            for line in log.splitlines():
                click.echo(f"{container}  " + printable(line, "\t"))


def _print_access(resolved: Settings, endpoint: str, tail: int, follow: bool, as_json: bool) -> None:
    """Print the last invocations of all gateways in order of time: the lines as they are, or one JSON document."""
    query: dict[str, str | int] = {"endpoint": endpoint, "region": resolved.region, "tail": _LOG_WINDOW, "access": 1}

    def read() -> dict[str, str]:
        return {entry["gateway"]: entry["log"] for entry in get(resolved, "/_hostler/logs", query)["access"]}

    logs = read()
    lines = sorted("".join(logs.values()).splitlines())[-tail:]  # each begins with its time
    if as_json and not follow:
        click.echo(json.dumps({"access": [json.loads(line) for line in lines]}, indent=2))
        return
    while True:
        for line in lines:
            click.echo(line)
        if not follow:
            return
        time.sleep(_LOG_PERIOD)
        before, logs = logs, read()
        new = (new_lines(before.get(name, ""), log) for name, log in logs.items())
        lines = sorted("".join(new).splitlines())


_LOG_WINDOW = 2**20  # bytes of each log that are read
_LOG_PERIOD = 0.5  # seconds between reads with --follow


def last_lines(text: str, count: int) -> str:
    return "".join(text.splitlines(keepends=True)[-count:])


def new_lines(before: str, now: str) -> str:
    """Return the text that was appended. Both arguments are ends of one log that only grows, cut to a window."""
    if now.startswith(before):
        return now[len(before) :]
    last = before[-1000:]
    position = now.rfind(last)
    return now[position + len(last) :] if position >= 0 else now
