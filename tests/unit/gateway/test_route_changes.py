"""Routes that change under way: nothing is dropped, nothing is sent where it no longer belongs, and Drained is true."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from random import Random

import pytest
from rig import GUARD, Container, Rig, error, pool, until

from hostler.wire import gateway_messages
from hostler.wire.http_call import Reply
from hostler.wire.http_request import Request

CHUNKED = (
    b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n%b\r\n"
)


class Gathering:
    """A chunked request whose end is still to come: its way was found, and may change before it is sent."""

    def __init__(self, rig: Rig, headers: bytes = b"") -> None:
        self.rig = rig
        self.headers = headers

    async def begin(self) -> Gathering:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.rig.port)
        self.writer.write(CHUNKED % self.headers)
        assert await self.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        return self

    async def finish(self) -> bytes:
        """The answer, head and body."""
        self.writer.write(b"1\r\nx\r\n0\r\n\r\n")
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        self.writer.close()
        return head + body


@pytest.mark.parametrize("new", ["v", "renamed"])
async def test_a_body_that_arrived_meanwhile_goes_where_the_new_route_says(rig: Rig, new: str) -> None:
    old, _ = await rig.container("i1"), await rig.container("i2")
    await rig.start(rig.route("i1"))
    gathering = await Gathering(rig).begin()
    rig.control.swap(rig.route("i2", variant=new))
    rig.control.send(gateway_messages.Drain("i1"))
    await rig.control.receives(gateway_messages.Drained)
    reply = await gathering.finish()
    assert reply.endswith(b"echo:x")
    assert f"x-Amzn-Invoked-Production-Variant: {new}".encode() in reply
    assert old.seen == []


def _dropped(rig: Rig) -> None:
    rig.control.swap(gateway_messages.Route("us-east-1/ep", ()))


def _renamed(rig: Rig) -> None:
    rig.control.swap(rig.route("i1", variant="renamed"))


def _multi_model(rig: Rig) -> None:
    rig.control.swap(rig.route("i1", multi_model=True))


def _direct(rig: Rig) -> None:
    rig.control.swap(rig.several("i1", mode="Direct"))


@pytest.mark.parametrize(
    ("change", "headers", "code"),
    [
        (_dropped, b"", b"NO_SUCH_ENDPOINT"),
        (_renamed, b"X-Amzn-SageMaker-Target-Variant: v\r\n", b"NO_SUCH_VARIANT"),
        (_multi_model, b"", b"TARGET_MODEL_HEADER_MISSING"),
        (_direct, b"", b"TARGET_CONTAINER_HOSTNAME_HEADER_MISSING"),
    ],
)
@pytest.mark.parametrize("waits", [False, True], ids=["its body arrives", "it waits for an instance"])
async def test_what_the_new_route_does_not_allow_is_refused(
    rig: Rig, change: Callable[[Rig], None], headers: bytes, code: bytes, waits: bool
) -> None:
    container = await rig.container("i1")
    await rig.start(rig.route() if waits else rig.route("i1"))
    gathering = await Gathering(rig, headers).begin()
    finishing = asyncio.create_task(gathering.finish()) if waits else None
    if waits:
        await until(lambda: len(rig.gateway.context.pending))
    change(rig)
    await rig.control.settled()
    reply = await (finishing or gathering.finish())
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert code in reply
    assert container.seen == []
    assert rig.control.received.empty()


async def test_a_request_that_waits_for_a_target_of_an_endpoint_that_has_none_any_more_gets_an_error(rig: Rig) -> None:
    await rig.container("i2")
    await rig.start(rig.route("i1", multi_model=True))
    call = asyncio.create_task(rig.invoke(target="t"))
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.swap(rig.route("i2"))
    assert error(await call)["ErrorCode"] == "TARGET_MODEL_HEADER_NOT_SUPPORTED"


async def test_who_waits_for_a_target_is_asked_for_again_and_finds_it_with_the_new_route(rig: Rig) -> None:
    await rig.container("i2")
    await rig.start(rig.route("i1", multi_model=True))
    calls = [asyncio.create_task(rig.invoke(target=target)) for target in "ab"]
    assert {(await rig.control.receives(gateway_messages.TargetRequest)).target for _ in calls} == {"a", "b"}
    rig.control.swap(rig.route("i2", multi_model=True), rig.resident("a", "i2"))
    assert (await rig.control.receives(gateway_messages.TargetRequest)).target == "b"
    assert (await calls[0]).status == 200
    renamed = rig.route("i2", multi_model=True, variant="w")
    resident = gateway_messages.SetResident("us-east-1/ep", "w", 1, "b", "i2", 1, f"unix:{rig.run / 'i2'}", "m-b")
    rig.control.swap(renamed, resident)
    assert (await calls[1]).headers["x-amzn-invoked-production-variant"] == "w"


async def test_a_request_that_waits_for_a_target_of_a_fleet_that_leaves_waits_for_that_of_its_successor(
    rig: Rig,
) -> None:
    await rig.container("i2")
    await rig.start(rig.route("i1", multi_model=True))
    call = asyncio.create_task(rig.invoke(target="t"))
    assert (await rig.control.receives(gateway_messages.TargetRequest)).fleet == 1
    rig.control.swap(rig.route("i2", multi_model=True, fleet=2))
    assert (await rig.control.receives(gateway_messages.TargetRequest)).fleet == 2
    rig.control.send(gateway_messages.Refused("us-east-1/ep", "v", 1, "t", "bad", "the old fleet cannot load it"))
    rig.control.send(rig.resident("t", "i2"))  # of the fleet before: it has no such instance
    rig.control.send(rig.resident("t", "i2", fleet=2))
    assert (await call).status == 200
    assert rig.control.received.empty()


async def test_a_resident_on_an_instance_that_no_route_names_is_not_sent_to(rig: Rig) -> None:
    old, _ = await rig.container("i1"), await rig.container("i2")
    await rig.start(rig.route("i2", multi_model=True))
    await rig.control.resident(rig.resident("t", "i1"))
    call = asyncio.create_task(rig.invoke(target="t"))
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(rig.resident("t", "i2"))
    assert (await call).status == 200
    assert old.seen == []


# --- connections that are refused


class Crowded:
    """An instance whose backlog is full: a connection to it neither opens nor fails until `leave`."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.path = str(rig.run / name)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen(0)
        self.inside = socket.socket(socket.AF_UNIX)
        self.inside.connect(self.path)

    def leave(self) -> None:
        self.inside.close()
        self.listening.close()


async def test_a_request_whose_instance_left_the_route_before_it_could_connect_goes_to_the_new_one(rig: Rig) -> None:
    await rig.container("i2")
    await rig.start(rig.route("i1"))
    crowded = Crowded(rig, "i1")
    call = asyncio.create_task(rig.invoke(b"x"))
    await until(lambda: rig.in_flight == 2)
    rig.control.swap(rig.route("i2"))
    rig.control.send(gateway_messages.Drain("i1"))  # it is bound for there, sent or not
    await rig.control.settled()
    assert rig.control.received.empty()
    crowded.leave()
    assert (await call).body == b"echo:x"
    await rig.control.receives(gateway_messages.Drained)


async def test_a_request_whose_only_instance_left_the_route_waits_for_the_next(rig: Rig) -> None:
    await rig.container("i2")
    await rig.start(rig.route("i1"))
    crowded = Crowded(rig, "i1")
    call = asyncio.create_task(rig.invoke(b"x"))
    await until(lambda: rig.in_flight == 2)
    rig.control.swap(rig.route())
    await rig.control.settled()
    crowded.leave()
    await until(lambda: len(rig.gateway.context.pending))
    rig.control.swap(rig.route("i2"))
    assert (await call).body == b"echo:x"


@pytest.mark.parametrize("comes", [True, False])
async def test_a_chain_whose_instance_left_the_route_between_two_containers_begins_anew_on_the_next(
    rig: Rig, comes: bool
) -> None:
    def step(request: Request) -> None:
        request.answer(200, request.body + b">")

    first, _ = await rig.container("i1.0", step), await rig.instance("i2", step, step)
    await rig.start(rig.several("i1"))
    crowded = Crowded(rig, "i1.1")
    call = asyncio.create_task(rig.invoke(b"x"))
    await until(lambda: first.seen)
    rig.control.swap(rig.several())
    await rig.control.settled()
    crowded.leave()
    await until(lambda: len(rig.gateway.context.pending))
    if comes:
        rig.control.swap(rig.several("i2"))
        assert (await call).body == b"x>>"
    else:
        rig.expire()
        reply = await call
        assert (reply.status, error(reply)["OriginalStatusCode"]) == (424, 0)  # a 503 would be sent again


async def test_a_dead_instance_that_is_all_that_the_route_names_is_an_error_at_once(rig: Rig) -> None:
    await rig.start(rig.route("i1"))
    crowded = Crowded(rig, "i1")
    call = asyncio.create_task(rig.invoke(b"x"))
    await until(lambda: rig.in_flight == 2)
    rig.control.swap(rig.route("i1"))  # another route, the same instance
    await rig.control.settled()
    crowded.leave()
    assert error(await call)["OriginalStatusCode"] == 0


async def test_of_several_instances_the_dead_ones_are_skipped(rig: Rig) -> None:
    await rig.container("i6")
    await rig.start(rig.route(*(f"i{n}" for n in range(1, 7))))
    for _ in range(10):
        assert (await rig.invoke()).status == 200


# --- draining


async def test_drained_is_said_once_when_nothing_runs_there(rig: Rig) -> None:
    waiting: list[Request] = []

    for name in ("i1", "i2", "i3"):
        await rig.container(name, waiting.append)
    await rig.start(rig.route("i1"), rig.route("i2", name="other"))
    calls = [asyncio.create_task(rig.invoke(name=name)) for name in ("ep", "other")]
    await until(lambda: len(waiting) == 2)
    for instance in ("i1", "i2", "i1", "idle"):
        rig.control.send(gateway_messages.Drain(instance))
    await rig.control.settled()
    assert await rig.control.receives(gateway_messages.Drained) == gateway_messages.Drained("idle")
    first = waiting[0] if waiting[0] in rig.containers["i1"].seen else waiting[1]
    first.answer(200)
    assert await rig.control.receives(gateway_messages.Drained) == gateway_messages.Drained("i1")
    next(request for request in waiting if request is not first).answer(200)
    assert await rig.control.receives(gateway_messages.Drained) == gateway_messages.Drained("i2")
    await asyncio.gather(*calls)
    link_of_it = rig.gateway.link
    await until(lambda: not link_of_it.watching)
    assert rig.control.received.empty()


@pytest.mark.parametrize("position", [0, 1])
async def test_a_chain_keeps_its_instance_from_being_drained(rig: Rig, position: int) -> None:
    waiting: list[Request] = []

    def step(request: Request) -> None:
        request.answer(200, request.body + b">")

    scripts: list[Callable[[Request], None]] = [step, step]
    scripts[position] = waiting.append
    await rig.instance("i1", *scripts)
    await rig.instance("i2", step, step)
    await rig.start(rig.several("i1"))
    call = asyncio.create_task(rig.invoke(b"x"))
    await until(lambda: waiting)
    rig.control.swap(rig.several("i2"))
    rig.control.send(gateway_messages.Drain("i1"))
    await rig.control.settled()
    assert (await rig.invoke(b"y")).body == b"y>>"
    assert rig.control.received.empty()
    step(waiting[0])
    assert (await call).body == b"x>>"  # where it had begun
    assert len(rig.containers["i1.1"].seen) == 1
    assert await rig.control.receives(gateway_messages.Drained) == gateway_messages.Drained("i1")


async def test_a_new_control_asks_again(rig: Rig) -> None:
    waiting: list[Request] = []
    await rig.container("i1", waiting.append)
    await rig.start(rig.route("i1"))
    call = asyncio.create_task(rig.invoke())
    await until(lambda: waiting)
    rig.control.send(gateway_messages.Drain("i1"))
    await rig.control.settled()
    await rig.control.stop()
    await until(lambda: not rig.gateway.link.connected)
    await rig.control.start()
    await rig.control.set_routes(rig.route("i2"))
    waiting[0].answer(200)
    await call
    await until(lambda: not rig.gateway.link.watching)
    await rig.control.settled()
    assert rig.control.received.empty()
    rig.control.send(gateway_messages.Drain("i1"))
    await rig.control.receives(gateway_messages.Drained)


# --- all of it at once


@pytest.mark.parametrize("seed", range(4))
async def test_updates_under_load_drop_nothing_and_send_nothing_to_what_has_drained(rig: Rig, seed: int) -> None:
    """Each revision has two instances of two containers, and the variant of every third has another name. Old ones are
    ended as soon as they have drained. Every answer is of one revision alone."""
    rng = Random(seed)
    replies: list[Reply] = []

    def step(name: str) -> Callable[[Request], None]:
        def script(request: Request) -> None:
            answer = request.body + f">{name}".encode()
            asyncio.get_running_loop().call_later(rng.random() * 0.003, request.answer, 200, answer)

        return script

    async def revision(rig: Rig, number: int) -> gateway_messages.Route:
        names = [f"r{number}-{n}" for n in (1, 2)]
        for name in names:
            await rig.instance(name, step(f"{number}a"), step(f"{number}b"))
        return rig.several(
            *names,
            variant="w" if number % 3 == 2 else "v",
            routing=rng.choice(["RANDOM", "LEAST_OUTSTANDING_REQUESTS"]),
        )

    async def caller(rig: Rig, done: asyncio.Event) -> None:
        while not done.is_set():
            if rng.random() < 0.1:
                gathering = await Gathering(rig).begin()
                assert (await gathering.finish()).startswith(b"HTTP/1.1 200 ")
            else:
                replies.append(await rig.invoke(b"x" * rng.choice([1, 1, 1, 300_000])))

    route = await revision(rig, 0)
    await rig.start(route)
    done = asyncio.Event()
    callers = [asyncio.create_task(caller(rig, done)) for _ in range(8)]
    for number in range(1, 12):
        before, route = route, await revision(rig, number)
        if number % 4 == 0:
            rig.control.swap(gateway_messages.Route(route.key, (_without_places(before.variants[0]),)))
        rig.control.swap(route)
        for instance in before.variants[0].instances():
            rig.control.send(gateway_messages.Drain(instance))
        for _ in before.variants[0].instances():
            drained = await rig.control.receives(gateway_messages.Drained)
            for position in (0, 1):
                await _end(rig.containers[f"{drained.instance}.{position}"])
    done.set()
    await asyncio.wait_for(asyncio.gather(*callers), GUARD)
    for reply in replies:
        assert reply.status == 200, reply
        one, two = reply.body.strip(b"x").decode().strip(">").split(">")
        assert (one[-1], two[-1], one[:-1]) == ("a", "b", two[:-1])
    assert len(replies) > 100


def _without_places(variant: gateway_messages.Variant) -> gateway_messages.Variant:
    return gateway_messages.Variant(
        variant.name, variant.weight, variant.containers, pool(), variant.mode, variant.routing
    )


async def _end(container: Container) -> None:
    await container.stop()
    container.path.unlink(missing_ok=True)
