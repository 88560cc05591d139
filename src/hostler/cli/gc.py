"""`hostler gc`: remove from Docker what hostlers have left there that are no more."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hostler.cli.options import Failure, json_option, resolve
from hostler.errors import EngineError, UserError
from hostler.failures import extra
from hostler.settings import Settings
from hostler.text import printable

if TYPE_CHECKING:
    from aiodocker import Docker

    from hostler.engines.docker.leftovers import Belongings


@click.command()
@click.option("--data", metavar="FOLDER", help="Only what the hostler of this data folder has left.")
@click.option("--house", metavar="ID", help="Only this house, also if its data folder cannot be seen from here.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; print what would be removed.")
@json_option
def gc(data: str | None, house: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove the containers that hostlers have left in Docker.

    A hostler that was killed leaves its containers running, for the next `hostler up` on the same data folder. If none
    is to come, this removes them. A living hostler's are never touched. Those whose data folder cannot be seen from
    here, such as the volume of a hostler in a container, are kept unless --house names them.
    """
    if data and house:
        raise click.UsageError("--data and --house exclude each other")
    import asyncio
    import importlib.util

    if not importlib.util.find_spec("aiodocker"):
        raise Failure(f"Docker's client is not installed: {extra('docker')}")
    collection = Collection(resolve(data=data), data is not None, house or "", dry_run)
    try:
        asyncio.run(collection.run())
    except EngineError as error:
        raise Failure(str(error)) from None
    if as_json:
        click.echo(json.dumps({"removed": collection.removed, "kept": collection.kept}, indent=2))
    else:
        for line in collection.lines():
            click.echo(printable(line))  # labels may be anybody's
    for failure in collection.failures:
        click.echo(printable(f"hostler: {failure}"), err=True)
    sys.exit(int(bool(collection.failures)))


class Collection:
    """One run. `by_data`: only the house of the settings' data folder; `house`: only this one; else all."""

    def __init__(self, settings: Settings, by_data: bool, house: str, dry_run: bool) -> None:
        self.removed: list[dict[str, str]] = []  # kind, name, house and data of each
        self.kept: list[dict[str, str | int]] = []  # house, data, number of containers, and why, of each house
        self.failures: list[str] = []
        self._settings = settings
        self._by_data = by_data
        self._house = house
        self._dry_run = dry_run

    async def run(self) -> None:
        """Remove what is left. Raises EngineError if Docker cannot be asked."""
        from hostler.engines.docker import client, leftovers, reach

        address = reach.address(self._settings)
        await reach.reach(address)
        docker = client.connect(address)
        try:
            for belongings in await leftovers.find(docker):
                if self._is_meant(belongings):
                    await self._collect(docker, belongings)
            if not self._dry_run:
                for name in await leftovers.remove_networks(docker):
                    self.removed.append({"kind": "network", "name": name, "house": "", "data": ""})
        finally:
            await client.disconnect(docker)

    def lines(self) -> Iterator[str]:
        """Yield what was done, a line for each thing."""
        done = "would remove" if self._dry_run else "removed"
        for thing in self.removed:
            yield f"{done} {thing['kind']} {thing['name']}{f' of {data}' if (data := thing['data']) else ''}"
        for house in self.kept:
            count = house["containers"]
            yield f"kept {count} {'container' if count == 1 else 'containers'} of {house['data']}: {house['why']}"
        if not self.removed and not self.kept:
            yield "nothing is left"

    def _is_meant(self, belongings: Belongings) -> bool:
        from hostler.engines import house

        if self._house:
            return belongings.house == self._house
        if not self._by_data:
            return True
        data = self._settings.data.resolve()
        if id := _id(data):
            return belongings.house == id
        return (belongings.data, belongings.place) == (str(data), house.place())

    async def _collect(self, docker: Docker, belongings: Belongings) -> None:
        """Remove what a house has, unless a hostler lives in its data folder, which none may enter meanwhile."""
        from hostler.engines import house
        from hostler.engines.docker import ending, leftovers
        from hostler.host import data_dir

        lock: int | None = None
        folder = leftovers.find_folder(belongings, house.place())
        if folder == "unseen" and not self._house:
            advice = f"if its hostler is no more: hostler gc --house {belongings.house}"
            return self._keep(belongings, f"its data folder cannot be seen from here; {advice}")
        if folder == "there":
            try:
                lock = data_dir.lock(Path(belongings.data))
            except UserError as error:
                return self._keep(belongings, str(error))
        try:
            for container in belongings.containers:
                try:
                    if not self._dry_run:
                        await ending.remove(docker, container.id)
                except EngineError as error:
                    self.failures.append(f"{container.name} cannot be removed: {error}")
                    continue
                thing = {"kind": "container", "name": container.name}
                self.removed.append({**thing, "house": belongings.house, "data": belongings.data})
        finally:
            if lock is not None:
                os.close(lock)

    def _keep(self, belongings: Belongings, why: str) -> None:
        """Take note of what is kept; it is a failure if it was named."""
        count = len(belongings.containers)
        self.kept.append({"house": belongings.house, "data": belongings.data, "containers": count, "why": why})
        if self._house or self._by_data:
            self.failures.append(why)


def _id(data: Path) -> str:
    from hostler.engines import house

    try:
        return house.read_id(data)
    except OSError:
        return ""
