"""Updates: a new fleet beside the old one, warmed, put in its place, and the old one drained; and what may go wrong."""

from __future__ import annotations

from pathlib import Path

from ground import KEY, Gateway, Ground, status
from test_reconciler import run

from hostler.hosting.reconciler import Reconciler


async def in_service(ground: Ground, reconciler: Reconciler, gateway: Gateway, *targets: str, count: int = 1) -> str:
    """The uid of an endpoint in service with these targets resident."""
    uid = ground.endpoint(count)
    await status(reconciler, uid, "InService")
    for target in targets:
        ground.put(f"p/{target}")
        gateway.need(target)
        await gateway.until(lambda target=target: gateway.where(target))
    return uid


async def settled(ground: Ground, reconciler: Reconciler) -> None:
    """Nothing is left of any fleet but the one that serves."""
    while True:
        (endpoint,) = reconciler._endpoints()
        serving = endpoint.serving()
        if serving and {i.spot.fleet for i in reconciler.instances.values()} == {serving.fleet}:
            return
        async with reconciler._passed:
            reconciler.wake()
            await reconciler._passed.wait()


def test_an_update_brings_a_new_fleet_into_service_and_ends_the_old_one(tmp_path: Path) -> None:
    async def story(ground: Ground, reconciler: Reconciler, gateway: Gateway) -> None:
        uid = await in_service(ground, reconciler, gateway, "a", "b")
        ground.update(uid, {"v": 2})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert gateway.places() == [f"{uid}.2.0.0.0", f"{uid}.2.0.1.0"]
        assert len(gateway.where("a")) == len(gateway.where("b")) == 1
        await settled(ground, reconciler)
        assert gateway.draining == [f"{uid}.1.0.0.0"]
        assert {seen.labels["fleet"] for seen in await ground.engine.list()} == {"2"}
        assert list(reconciler.runtimes.all) == [(KEY, "v", 2)]

    run(tmp_path, story)
