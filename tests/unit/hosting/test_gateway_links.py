"""Control's side of the links: who is waited for, who loses its link, and what each gets first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hostler.hosting import gateway_links
from hostler.hosting.gateway_links import Gateways
from hostler.wire import gateway_messages
from hostler.wire.door import Door, Knock, UnixDoor, Way
from hostler.wire.frames import Frames
from hostler.wire.gateway_messages import Ack, Counts, Drain, Drained, Refused, Snapshot

pytestmark = pytest.mark.simulated
Link = Frames[gateway_messages.Down]


@asynccontextmanager
async def opened(folder: Path, gateways: Gateways) -> AsyncIterator[Way]:
    """The way to a door that leads to them."""
    door = Door({"gateway": gateways.entrance(lambda _, message: None, lambda _: None)})
    address = await door.serve(f"unix:{folder / 'link.sock'}", UnixDoor())
    gateways.open()
    try:
        yield Way(address)
    finally:
        await asyncio.sleep(1.0)  # control's ends of the links close
        door.close()


async def link(way: Way, name: str) -> tuple[Link, Snapshot]:
    reader, writer = await way.knock(Knock("gateway", name))
    frames: Link = Frames(reader, writer, gateway_messages.Down)
    snapshot = await frames.receive()
    assert isinstance(snapshot, Snapshot)
    frames.send(Ack(snapshot.epoch, snapshot.version))
    return frames, snapshot


async def test_a_gateway_gets_controls_term_its_api_and_the_passkey_first(tmp_path: Path) -> None:
    async with opened(tmp_path, Gateways(term=7, api="tls:0.0.0.0:7701", passkey="key")) as way:
        frames, snapshot = await link(way, "g1")
        assert (snapshot.term, snapshot.api, snapshot.passkey) == (7, "tls:0.0.0.0:7701", "key")
        frames.close()


async def test_a_drain_waits_for_every_gateway_that_there_is_also_for_one_that_is_not_linked(tmp_path: Path) -> None:
    there = ["g1", "g2"]
    gateways = Gateways(roster=lambda: there)
    async with opened(tmp_path, gateways) as way:
        first, _ = await link(way, "g1")
        began = asyncio.get_running_loop().time()
        draining = asyncio.create_task(gateways.drain("i1", 60.0))
        assert isinstance(await first.receive(), Drain)
        first.send(Drained("i1"))
        await asyncio.sleep(10.0)
        assert not draining.done()  # the second may still send there
        second, _ = await link(way, "g2")
        assert isinstance(await second.receive(), Drain)
        await asyncio.sleep(10.0)
        assert not draining.done()
        second.send(Drained("i1"))
        await draining
        assert asyncio.get_running_loop().time() < began + 60
        first.close()
        second.close()


async def test_a_gateway_that_links_again_loses_its_link_from_before(tmp_path: Path) -> None:
    gateways = Gateways()
    async with opened(tmp_path, gateways) as way:
        before, _ = await link(way, "g1")
        now, _ = await link(way, "g1")
        assert await before.receive() is None
        await asyncio.sleep(1.0)
        assert [gateway.name for gateway in gateways.linked] == ["g1"]
        gateways.refuse(Refused("k", "v", 1, "t", "missing", "there is none"))
        assert isinstance(await now.receive(), Refused)
        now.close()
        before.close()


async def test_what_a_gateway_counts_counts_once_however_often_it_links(tmp_path: Path) -> None:
    gateways = Gateways()

    def total() -> int:
        return sum(each.invocations for counts in gateways.counts() for each in counts.variants)

    def counts(invocations: int) -> Counts:
        sums = (invocations, 0, 0, 0, 0, 0, 0.0, 0.0, ())
        return Counts((gateway_messages.VariantCount("k", "v", *sums),), 0, 1)

    async with opened(tmp_path, gateways) as way:
        before, _ = await link(way, "g1")
        before.send(counts(5))
        await asyncio.sleep(1.0)
        now, _ = await link(way, "g1")  # it has lost the link before, and control has not noticed
        await asyncio.sleep(1.0)
        assert total() == 5
        now.send(counts(7))
        await asyncio.sleep(1.0)
        assert total() == 7
        before.close()
        now.close()
        await asyncio.sleep(1.0)
        assert total() == 7
        again, _ = await link(way, "g1")
        assert total() == 7
        again.send(counts(9))
        await asyncio.sleep(1.0)
        assert total() == 9
        again.close()


async def test_a_gateway_that_says_nothing_for_long_loses_its_link(tmp_path: Path) -> None:
    gateways = Gateways()
    async with opened(tmp_path, gateways) as way:
        quiet, _ = await link(way, "quiet")
        lively, _ = await link(way, "lively")
        await asyncio.sleep(gateway_links.SILENCE - 0.5)
        lively.send(Counts((), 0, 1))
        await asyncio.sleep(1.0)
        closed = gateways.close_silent(asyncio.get_running_loop().time())
        assert [gateway.name for gateway in closed] == ["quiet"]
        assert await quiet.receive() is None
        await asyncio.sleep(1.0)
        assert [gateway.name for gateway in gateways.linked] == ["lively"]
        lively.close()
        quiet.close()


async def test_a_gateway_that_reads_too_slowly_begins_anew_and_holds_up_no_other(tmp_path: Path) -> None:
    gateways = Gateways()
    async with opened(tmp_path, gateways) as way:
        _slow, slow_writer = await way.knock(Knock("gateway", "slow"))  # reads nothing at all
        quick, _ = await link(way, "quick")
        text = "x" * 2**20
        for number in range(40):
            gateways.refuse(Refused("k", "v", 1, str(number), "bad", text))
            assert isinstance(refused := await quick.receive(), Refused)
            assert refused.target == str(number)
        await asyncio.sleep(1.0)
        assert [gateway.name for gateway in gateways.linked] == ["quick"]
        slow_writer.close()
        again, snapshot = await link(way, "slow")
        assert snapshot.epoch == gateways.epoch
        again.close()
        quick.close()
