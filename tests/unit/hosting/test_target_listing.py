"""The targets as people see them."""

from __future__ import annotations

import pytest
from ground import Ground, passes, status

from hostler.wire import gateway_messages

pytestmark = pytest.mark.simulated


async def test_every_target_is_listed_with_its_state_its_calls_and_its_policy(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        for name in ("a", "b", "c"):
            ground.put(f"p/{name}")
        tags = {"hostler:idle-ttl": "600", "hostler:pin": "a", "hostler:preload": "a none"}
        uid = ground.endpoint(tags=tags)
        await status(reconciler, uid, "InService")
        for name in ("b", "c"):
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
        gateway.frames.send(gateway_messages.Hits((gateway_messages.Hit(f"{uid}.1.0.0.0", "b"),) * 3))
        (runtime,) = reconciler.runtimes.all.values()
        await passes(reconciler, lambda: any(target.calls for _, target in runtime.instances.all()))
        shown = reconciler.targets("us-east-1", "ep", "", "name", 0)
        assert isinstance(shown, dict)
        a, b, _, none = shown["targets"]
        assert shown["total"] == 4
        assert a | {"idle": 0} == {
            "region": "us-east-1", "endpoint": "ep", "variant": "v", "instance": f"{uid}.1.0.0.0", "target": "a",
            "state": "resident", "memory": 100, "pinned": True, "preload": True, "idle": 0, "leaves_in": None,
            "calls": 0, "loads": 1, "reason": "",
        }  # fmt: skip
        assert (b["calls"], b["pinned"], b["preload"]) == (3, False, False)
        assert 500 < b["leaves_in"] <= 600
        assert 0 <= b["idle"] < 100
        assert (none["state"], none["instance"], none["memory"], none["preload"]) == ("failed", None, None, True)
        assert "NoSuchKey" in none["reason"]

        def names(match: str = "", order: str = "name", limit: int = 0) -> list[str]:
            found = reconciler.targets("us-east-1", "", match, order, limit)
            assert isinstance(found, dict)
            return [one["target"] for one in found["targets"]]

        assert names(order="calls", limit=1) == ["b"]
        assert names(order="use")[:2] == ["b", "c"]
        assert names("on") == names("n?ne") == ["none"]
        assert names("[ab]") == ["a", "b"]
        assert names("B") == []
        assert names("[") == names("][") == [], "no pattern, but a name may hold it"
        assert shown["endpoints"] == [{"region": "us-east-1", "endpoint": "ep", "idle_ttl": 600.0}]
        assert reconciler.targets("us-east-1", "nobody", "", "name", 0) == "there is no endpoint 'nobody' in us-east-1"


async def test_a_target_on_its_way_is_listed_without_its_unknown_values(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a")
        await status(reconciler, ground.endpoint(), "InService")
        (runtime,) = reconciler.runtimes.all.values()
        runtime.requested("g1", "a", hot=False)
        (seen,) = reconciler.targets("us-east-1", "ep", "", "use", 10)["targets"]
        assert (seen["state"], seen["memory"], seen["idle"], seen["loads"]) == ("fetching", None, None, 0)
        await gateway.until(lambda: gateway.where("a"))


async def test_targets_of_the_tags_are_listed_though_they_are_on_no_instance(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        tags = {"hostler:pin": "b region-... c", "hostler:preload": "a b"}
        for name in "ab":
            ground.put(f"p/{name}")
        await status(reconciler, ground.endpoint(tags=tags), "InService")
        gateway.gone("a")

        def listed() -> list[tuple[str, str, bool, bool]]:
            shown = reconciler.targets("us-east-1", "ep", "", "name", 0)
            assert isinstance(shown, dict)
            assert shown["endpoints"][0]["idle_ttl"] is None
            return [(one["target"], one["state"], one["pinned"], one["preload"]) for one in shown["targets"]]

        await passes(reconciler, lambda: ("a", "absent", False, True) in listed())
        assert listed()[1:] == [("b", "resident", True, True), ("c", "absent", True, False)]


async def test_an_endpoint_that_is_not_multi_model_has_no_targets(ground: Ground) -> None:
    async with ground.control() as (reconciler, _):
        ground.put("p")
        await status(reconciler, ground.endpoint(Mode="SingleModel", ModelDataUrl="s3://box/p"), "InService")
        said = reconciler.targets("us-east-1", "ep", "", "name", 0)
        assert said == "the endpoint 'ep' is not multi-model: it has no targets"
