"""`hostler fault`: faults on purpose at the running hostler (docs/faults.md)."""

from __future__ import annotations

import json
from typing import Any

import click

from hostler.cli.http import call
from hostler.cli.options import WrongUsage, data_option, find_running, json_option
from hostler.core.faults import KINDS
from hostler.errors import UserError
from hostler.text import printable

_PAGE = "/_hostler/faults"
_TEXTS = frozenset(["id", "region", "endpoint", "variant", "target", "container", "message", "code"])  # no numbers


@click.group()
def fault() -> None:
    """Have calls fail on purpose, for tests of clients; the setting `faults` must be on.

    \b
      hostler fault add ModelNotReadyException endpoint=my-endpoint first=2
    """


@fault.command()
@click.argument("effect", type=click.Choice([*KINDS]), metavar="EFFECT")
@click.argument("members", nargs=-1, metavar="[NAME=VALUE]...")
@data_option
@json_option
def add(effect: str, members: tuple[str, ...], data: str | None, as_json: bool) -> None:
    """Set a fault: what EFFECT does, and the members of a rule, are in docs/faults.md. Prints its id."""
    rule: dict[str, object] = {"effect": effect}
    for member in members:
        name, equals, value = member.partition("=")
        if not equals:
            raise WrongUsage(f"{member} is not NAME=VALUE")
        rule[name] = value if name in _TEXTS else _number(value)
    answer = call(find_running(data), "PUT", _PAGE, body=json.dumps(rule).encode())
    click.echo(json.dumps(answer, indent=2) if as_json else answer["id"])


@fault.command()
@data_option
@json_option
def ls(data: str | None, as_json: bool) -> None:
    """List the faults, with the calls and loads that came to each and those that met it."""
    listing = call(find_running(data), "GET", _PAGE)
    if as_json:
        click.echo(json.dumps(listing, indent=2))
        return
    for rule in listing["faults"]:
        click.echo(_line(rule))
    if not listing["faults"]:
        click.echo("no faults")


@fault.command()
@click.argument("id", required=False)
@click.option("--all", "every", is_flag=True, help="Delete all.")
@data_option
@json_option
def rm(id: str | None, every: bool, data: str | None, as_json: bool) -> None:
    """Delete the fault ID, or --all. Prints the ids of those that were there; an ID that is none is an error."""
    if (id is None) != every:
        raise WrongUsage("name a fault, or give --all")
    answer = call(find_running(data), "DELETE", _PAGE, {} if id is None else {"id": id})
    if id is not None and not answer["removed"]:
        raise UserError(f"there is no fault {id}")
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(answer["removed"]) or "no faults")


def _number(text: str) -> object:
    """Return the number that a text says; another text as it is, which hostler refuses with a reason."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _line(rule: dict[str, Any]) -> str:
    rule = {**rule}
    words = [str(rule.pop(name)) for name in ("id", "effect")]
    counts = f"met by {rule.pop('applied')} of {rule.pop('seen')}"
    return printable("  ".join([*words, *(f"{name}={value}" for name, value in rule.items()), counts]), "\t")
