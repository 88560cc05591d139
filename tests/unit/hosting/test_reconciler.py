"""The reconciler over a fake engine: what is desired comes about, also after a restart, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time

import pytest
from ground import KEY, MACHINE, PATIENCE, Container, Ground, passes, reason, record, seen, status
from simulated import Loop

from hostler.engines.engine import ContainerLaunch, InstanceLaunch
from hostler.hosting import clock
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.instances import LAST_STARTS
from hostler.wire import gateway_messages

pytestmark = pytest.mark.simulated


async def test_an_endpoint_comes_into_service_when_every_gateway_knows_its_instances(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        (variant,) = gateway.routes[KEY].variants
        assert variant.instances() == [f"{uid}.1.0.0.0", f"{uid}.1.0.1.0"]
        assert variant.containers == (gateway_messages.Container("primary", multi_model=True),)
        assert seen(reconciler, uid).variants[0].current_count == 2


async def test_a_container_that_exits_before_it_answers_fails_the_endpoint_with_its_last_lines(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.engine.exits = 3
        uid = ground.endpoint()
        ground.engine.text[f"{uid}.1.0.0.0.0"] = "No module named 'xgboost'"
        await status(reconciler, uid, "Failed")
        assert reason(reconciler, uid).startswith(
            "The primary container for production variant v did not pass the ping"
        )
        assert "exited with code 3" in reason(reconciler, uid)
        assert "No module named 'xgboost'" in reason(reconciler, uid)
        assert KEY not in gateway.routes
        assert len(ground.engine.started) == 1, "a failed endpoint is not tried again"


async def test_a_missing_artifact_fails_a_single_model_endpoint_with_s3s_reason(ground: Ground) -> None:
    async with ground.control() as (reconciler, _):
        uid = ground.endpoint(Mode="SingleModel", ModelDataUrl="s3://nowhere/not/there.tar.gz")
        await status(reconciler, uid, "Failed")
        assert 'URL: "s3://nowhere/not/there.tar.gz"' in reason(reconciler, uid)
        assert "NoSuchBucket" in reason(reconciler, uid)
        assert ground.engine.started == []


async def test_a_container_that_never_answers_fails_the_endpoint_when_its_budget_ends(ground: Ground) -> None:
    async with ground.control(startup_timeout=0.2) as (reconciler, _):
        ground.container = lambda: Container(ping=503)
        uid = ground.endpoint()
        await status(reconciler, uid, "Failed")
        assert "GET /ping was answered with 503 instead of 200" in reason(reconciler, uid)


async def test_an_image_that_nothing_can_run_fails_with_the_line_that_is_missing(ground: Ground) -> None:
    async with ground.control() as (reconciler, _):
        uid = ground.endpoint(Image="mine/own:1", Mode="SingleModel", ModelDataUrl="")
        await status(reconciler, uid, "Failed")
        assert "[images]" in reason(reconciler, uid)


@pytest.mark.parametrize(
    ("image", "most", "in_a_row", "replaced"),
    [("mine/own:1", 3, 3, True), ("mine/own:1", 3, 2, False), ("mine/own:1", 0, 9, False), ("", 3, 9, False)],
)
async def test_a_foreign_container_that_lets_calls_in_a_row_time_out_is_replaced(
    ground: Ground, caplog: pytest.LogCaptureFixture, image: str, most: int, in_a_row: int, replaced: bool
) -> None:
    images = {"mine/own:1": ("serve-it",)}
    async with ground.control(images=images, replace_after_timeouts=most) as (reconciler, gateway):
        uid = ground.endpoint(Mode="SingleModel", ModelDataUrl="", **({"Image": image} if image else {}))
        await status(reconciler, uid, "InService")
        gateway.frames.send(gateway_messages.CallsTimedOut(f"{uid}.1.0.0.0", 0, in_a_row, "the-request"))
        gateway.frames.send(gateway_messages.CallsTimedOut("gone", 0, in_a_row, "another"))
        if replaced:
            await gateway.until(lambda: gateway.routes[KEY].variants[0].instances() == [f"{uid}.1.0.0.1"])
            assert "after 60 seconds each, 3 in a row. The last one was request the-request." in caplog.text
        else:
            await reconciler.passed()
            assert gateway.routes[KEY].variants[0].instances() == [f"{uid}.1.0.0.0"]
        assert record(reconciler, uid).status == "InService"


async def test_an_instance_that_ends_is_replaced_and_its_targets_are_published_nowhere(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a.tar.gz")
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        gateway.need("a.tar.gz")
        await gateway.until(lambda: gateway.where("a.tar.gz"))
        ground.engine.end(f"{uid}.1.0.0.0.0", -9)
        replaced = f"{uid}.1.0.0.1"
        await gateway.until(lambda: gateway.routes[KEY].variants[0].instances() == [replaced])
        assert not reconciler.gateways.residents
        assert record(reconciler, uid).status == "InService"
        gateway.need("a.tar.gz")
        await gateway.until(lambda: replaced in gateway.where("a.tar.gz"))
        assert ground.metrics.containers_ended == 1


def prompt() -> None:
    """Let threads, engine and gateways need a few milliseconds, as on a machine that is not busy."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    loop.lags = (0.0, 0.001, 0.005, 0.02)


@pytest.mark.parametrize("seed", range(8))
async def test_a_container_that_others_removed_is_replaced_within_a_second(ground: Ground, seed: int) -> None:
    prompt()
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        begun = clock.now()
        ground.engine.remove(f"{uid}.1.0.1.0.0")
        await gateway.until(lambda: gateway.places() == [f"{uid}.1.0.0.0", f"{uid}.1.0.1.1"])
        assert clock.now() - begun < 1.0
        assert record(reconciler, uid).status == "InService"


async def test_an_instance_that_others_end_is_replaced_beside_it_while_its_requests_come_back(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        old, new = f"{uid}.1.0.1.0", f"{uid}.1.0.1.1"
        gateway.running.add(old)
        ground.engine.report(old, leaving=True)
        await gateway.until(lambda: gateway.places() == [f"{uid}.1.0.0.0", new])
        assert old in {report.id for report in await ground.engine.list()}, "a request still runs there"
        await passes(reconciler, lambda: ground.engine.in_service == {f"{uid}.1.0.0.0", new})
        gateway.drained(old)
        await passes(reconciler, lambda: reconciler.instances.get(old) is None)
        assert record(reconciler, uid).status == "InService"


async def test_an_instance_whose_machine_is_lost_is_replaced_though_it_cannot_be_stopped(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        lost, new = f"{uid}.1.0.0.0", f"{uid}.1.0.0.1"
        ground.engine.report(lost, lost=True)
        await asyncio.sleep(30.0)
        assert gateway.places() == [lost], "it answers its pings"
        ground.containers[f"{lost}.0"].ping = 0
        ground.engine.cannot_stop.add(lost)
        await gateway.until(lambda: gateway.places() == [new])
        assert reconciler.instances[lost].state == "stopping"
        ground.engine.cannot_stop.clear()
        await passes(reconciler, lambda: lost not in reconciler.instances)


async def test_while_the_engine_cannot_be_asked_routes_follow_the_pings_and_targets_are_loaded(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a.tar.gz")
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        ground.engine.unreachable = "it stands still"
        first, second = gateway.places()
        ground.containers[f"{first}.0"].ping = 0
        await gateway.until(lambda: gateway.places() == [second])
        gateway.need("a.tar.gz")
        await gateway.until(lambda: gateway.where("a.tar.gz") == [second])
        assert not ground.engine.stopped
        ground.engine.unreachable = ""
        await gateway.until(lambda: gateway.places() == [f"{uid}.1.0.0.1", second])
        await passes(reconciler, lambda: first not in reconciler.instances)
        assert record(reconciler, uid).status == "InService"


async def test_what_no_control_started_stops_no_pass_and_is_left_alone(ground: Ground) -> None:
    launch = ContainerLaunch("123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1", {}, log="x/y")
    async with ground.control() as (reconciler, _):
        uid = ground.endpoint()
        key = InstanceKey(KEY, uid, fleet=1, revision=1, variant="v", variant_index=0, slot=0, attempt=7)
        for id, labels, containers in (
            ("stranger", {"for": "a test"}, 1),
            ("other", {"uid": "1", "fleet": "first"}, 1),
            (key.id, key.labels(), 2),  # the variant has one
        ):
            await ground.engine.prepare(InstanceLaunch(id, labels, (launch,) * containers))
            await ground.engine.start(id)
        await status(reconciler, uid, "InService")
        assert {report.id for report in await ground.engine.list()} == {"stranger", "other", key.id, f"{uid}.1.0.0.0"}


async def test_a_log_that_the_engine_keeps_itself_is_shown_beside_those_in_files(ground: Ground) -> None:
    async with ground.control() as (reconciler, _):
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        ground.engine.text = {f"{uid}.1.0.{slot}.0.0": f"{slot} speaks" for slot in range(2)}
        first, second = (f"v/{instance.key.aws_id}" for instance in reconciler.instances.of(uid))
        reconciler.platform.logs.open(f"{uid}/{second}").write_text("in a file")
        assert {log["container"]: log["log"] for log in await reconciler.logs("us-east-1", "ep", 9) or []} == {
            first: "0 speaks",
            second: "in a file",
        }
        assert await reconciler.logs("us-east-1", "none", 9) is None


async def test_attempts_are_counted_on_while_a_slot_waits_for_its_next_instance(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        for attempt in range(4):
            ground.engine.end(f"{uid}.1.0.0.{attempt}.0", 1)
            await gateway.until(lambda id=f"{uid}.1.0.0.{attempt + 1}": gateway.places() == [id])
        assert [container.id for container in ground.engine.started] == [
            f"{uid}.1.0.0.{attempt}.0" for attempt in range(5)
        ]


async def test_people_see_that_a_slot_waits_whose_instances_end_again_and_again_and_why(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        for attempt in range(5):  # then it waits for seconds, longer than any pass
            await gateway.until(lambda id=f"{uid}.1.0.0.{attempt}": gateway.places() == [id])
            ground.engine.end(f"{uid}.1.0.0.{attempt}.0", 3)

        def waiting() -> str:
            (shown,) = reconciler.describe_all()
            return next((i["trouble"] for i in shown["variants"][0]["instances"] if i["state"] == "gone"), "")

        await passes(reconciler, lambda: waiting() != "")
        assert waiting().startswith("its slot has been started 5 times; the next start is in ")
        assert "The container exited with code 3." in waiting()
        assert f"{uid}.1.0.0.4 has ended: its slot has been started 5 times" in caplog.text
        await gateway.until(lambda: gateway.places() == [f"{uid}.1.0.0.5"])
        assert waiting() == ""


async def test_deleting_works_while_creating_and_leaves_nothing(ground: Ground) -> None:
    async with ground.control() as (reconciler, _):
        ground.container = lambda: Container(ping=503)
        uid = ground.endpoint()
        await status(reconciler, uid, "Creating")
        ground.store.mark_deleting("us-east-1", "ep", time.time())
        await status(reconciler, uid, "gone")
        assert await ground.engine.list() == []
        assert ground.store.changes().endpoints == ()
        assert list((ground.folder / "containers").iterdir()) == []
        assert [path.name for path in (ground.folder / "logs").iterdir()] == [uid]  # until the group is deleted
        assert reconciler.instances == {}


async def test_deleting_an_endpoint_in_service_drops_its_route_first(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        ground.store.mark_deleting("us-east-1", "ep", time.time())
        await status(reconciler, uid, "gone")
        assert KEY not in gateway.routes
        assert reconciler.runtimes.all == {}


async def test_a_new_control_takes_over_what_runs_and_loads_nothing_again(ground: Ground) -> None:
    ground.put("p/a.tar.gz")
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        gateway.need("a.tar.gz")
        await gateway.until(lambda: gateway.where("a.tar.gz"))
    ground.metrics.model_loads = 0
    async with ground.control() as (reconciler, gateway):
        await gateway.until(lambda: gateway.snapshot)
        assert gateway.where("a.tar.gz") == [f"{uid}.1.0.0.0"]
        assert gateway.routes[KEY].variants[0].instances() == [f"{uid}.1.0.0.0"]
        await status(reconciler, uid, "InService")
        assert ground.metrics.model_loads == 0
        assert len(ground.engine.started) == 1


async def die_during_load(ground: Ground) -> Container:
    """Run a control until it has asked a container to load a target, which the container does not answer."""
    ground.put("p/a.tar.gz")
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        container = ground.containers[f"{uid}.1.0.0.0.0"]
        container.silent = True
        gateway.need("a.tar.gz")
        await container.asked.wait()
    return container


async def test_a_new_control_takes_up_a_load_that_an_earlier_one_did_not_see_the_end_of(ground: Ground) -> None:
    container = await die_during_load(ground)
    container.silent = False
    async with ground.control() as (_, gateway):
        await gateway.until(lambda: gateway.where("a.tar.gz"))
        assert len(container.models) == 1
        assert container.unloads == []


async def test_a_new_control_does_not_load_a_target_that_its_container_neither_holds_nor_loads(ground: Ground) -> None:
    container = await die_during_load(ground)
    container.loading.clear()
    async with ground.control() as (_, gateway):
        await gateway.until(lambda: gateway.places())
        await asyncio.sleep(100.0)
        assert not gateway.where("a.tar.gz")
        assert container.loads == container.unloads == []
        container.silent = False
        gateway.need("a.tar.gz")
        await gateway.until(lambda: gateway.where("a.tar.gz"))


async def test_a_new_control_stops_instances_that_are_not_desired_any_more(ground: Ground) -> None:
    async with ground.control() as (reconciler, _):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
    ground.store.remove(uid)
    async with ground.control() as (reconciler, gateway):
        await gateway.until(lambda: gateway.snapshot)
        await status(reconciler, uid, "gone")
        async with asyncio.timeout(PATIENCE):
            while await ground.engine.list():
                await ground.engine.changed()


async def test_the_machines_memory_is_shared_when_instances_ask_for_more_than_it_gives(ground: Ground) -> None:
    async with ground.control() as (reconciler, _):
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        assert set(reconciler.runtimes.budgets(reconciler.instances.values()).values()) == {MACHINE // 2}


# --- while the engine gives no list


def cut_off(ground: Ground, how: str) -> None:
    """Let the engine refuse to answer, or not answer at all, until `reach`."""
    if how == "refuses":
        ground.engine.unreachable = "the host went away"
    else:
        ground.engine.may_list.clear()


def reach(ground: Ground) -> None:
    ground.engine.unreachable = ""
    ground.engine.may_list.set()


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_a_route_loses_an_instance_that_answers_no_pings_and_its_slot_waits(ground: Ground, how: str) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        first, second = gateway.places()
        cut_off(ground, how)
        ground.containers[f"{first}.0"].ping = 503
        await gateway.until(lambda: gateway.places() == [second])
        for _ in range(3):
            await reconciler.passed()
        assert len(ground.engine.started) == 2
        assert not ground.engine.stopped
        reach(ground)
        await gateway.until(lambda: gateway.places() == [f"{uid}.1.0.0.1", second])


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_what_needs_no_list_comes_to_its_end(ground: Ground, how: str) -> None:
    async with ground.control(startup_timeout=60.0) as (reconciler, gateway):
        held = Container(ping=503)
        ground.container = lambda: held
        uid = ground.endpoint()
        await passes(reconciler, lambda: f"{uid}.1.0.0.0.0" in ground.containers)
        cut_off(ground, how)
        held.ping = 200
        await status(reconciler, uid, "InService")
        assert gateway.places() == [f"{uid}.1.0.0.0"]


@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_a_new_control_starts_and_publishes_nothing_before_it_knows_what_runs(ground: Ground, how: str) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
    cut_off(ground, how)
    async with ground.control() as (reconciler, gateway):
        for _ in range(3):
            await reconciler.passed()
        assert not reconciler.ready
        assert gateway.snapshot is None
        reach(ground)
        await gateway.until(lambda: gateway.places() == [f"{uid}.1.0.0.0"])
        assert len(ground.engine.started) == 1


async def test_an_engine_that_is_away_is_said_once_each_time(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    async with ground.control() as (reconciler, _):
        await status(reconciler, ground.endpoint(), "InService")
        for times in (1, 2):
            cut_off(ground, "refuses")
            await asyncio.sleep(30)
            assert caplog.text.count("the engine could not be asked: the host went away") == times
            reach(ground)
            await asyncio.sleep(30)


async def test_what_an_earlier_control_has_left_is_removed_once_the_engine_can_be_asked(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    left = ground.folder / "containers" / "left.0"
    left.mkdir(parents=True)
    async with ground.control() as (reconciler, _):
        while not reconciler.ready:
            await reconciler.passed()
        ground.engine.unreachable = "it is away"
        await asyncio.sleep(5.5 * LAST_STARTS)
        assert left.exists()
        assert caplog.text.count("an earlier hostler has left cannot be removed just now: it is away") == 1
        ground.engine.unreachable = ""
        await asyncio.sleep(2 * LAST_STARTS)
        assert not left.exists()
