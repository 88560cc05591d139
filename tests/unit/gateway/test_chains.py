"""Pipelines: each container's answer is the next one's request (§5.6)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random

import pytest
from rig import Rig, error, until
from runtime_client import failure

from hostler.contract import MAX_BETWEEN_CONTAINERS
from hostler.wire import gateway_messages
from hostler.wire.http_request import Request

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1"}
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def step(name: str) -> Callable[[Request], None]:
    """A container that adds its name to what it gets."""
    return lambda request: request.answer(200, request.body + f">{name}".encode(), f"text/{name}")


async def test_an_answer_is_the_next_request_with_its_content_type(rig: Rig) -> None:
    def second(request: Request) -> None:
        request.answer(201, request.body + b">b", "text/b", [(ATTRIBUTES, "of b")])

    a, b, c = await rig.instance("i1", step("a"), second, step("c"))
    await rig.start(rig.several("i1", labels="a b c"))
    reply = await rig.invoke(
        b"x",
        content_type="text/csv",
        accept="image/png",
        X_Amzn_SageMaker_Custom_Attributes="mine",
        X_Amzn_SageMaker_Inference_Id="7",
        **TRACE,
    )
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"x>a>b>c", "text/c")
    assert "x-amzn-sagemaker-custom-attributes" not in reply.headers  # the last container's count, and it set none
    for container, content_type, body in (
        (a, "text/csv", b"x"),
        (b, "text/a", b"x>a"),
        (c, "text/b", b"x>a>b"),
    ):
        (seen,) = container.seen
        assert (seen.path, seen.body) == ("/invocations", body)
        assert seen.headers == {
            "host": "localhost",
            "content-type": content_type,
            "accept": "image/png",
            "x-amzn-sagemaker-custom-attributes": "mine",
            "x-amzn-sagemaker-inference-id": "7",
            **TRACE,
            "content-length": str(len(body)),
        }
    (sums,) = rig.gateway.counts().variants
    assert (sums.invocations, sums.model_errors) == (1, 0)


async def test_an_answer_without_a_content_type_gives_the_next_request_none(rig: Rig) -> None:
    def bare(request: Request) -> None:
        request.start(200, [], 0)
        request.end()

    _, b = await rig.instance("i1", bare, step("b"))
    await rig.start(rig.several("i1"))
    assert (await rig.invoke(b"x", content_type="text/csv")).body == b">b"
    assert "content-type" not in b.seen[0].headers


async def test_fifteen_containers_keep_order_and_a_hundred_callers_apart(rig: Rig) -> None:
    names = [f"c{n}" for n in range(15)]
    for instance in ("i1", "i2"):
        await rig.instance(instance, *map(step, names))
    await rig.start(rig.several("i1", "i2", labels=" ".join(names)))
    replies = await asyncio.gather(*(rig.invoke(b"%d" % n) for n in range(100)))
    assert [reply.body.decode() for reply in replies] == [f"{n}>{'>'.join(names)}" for n in range(100)]
    for instance in ("i1", "i2"):
        assert len({len(rig.containers[f"{instance}.{n}"].seen) for n in range(15)}) == 1  # none changed instance


@pytest.mark.parametrize("answer", [404, 415, 500, 302])
@pytest.mark.parametrize("position", [0, 1, 2])
async def test_an_error_stops_the_chain_and_names_its_container(rig: Rig, answer: int, position: int) -> None:
    scripts = [step(name) for name in "abc"]
    scripts[position] = lambda request: request.answer(answer, b"no")
    containers = await rig.instance("i1", *scripts)
    await rig.start(rig.several("i1", labels="a b c"))
    reply = await rig.invoke()
    whose = "client" if 400 <= answer < 500 else "server"
    words = f'Received {whose} error ({answer}) from {"abc"[position]} with message "no".'
    assert (reply.status, error(reply)["OriginalStatusCode"]) == (424, answer)
    assert error(reply)["Message"].startswith(words)
    assert [len(container.seen) for container in containers] == [1] * (position + 1) + [0] * (2 - position)
    (sums,) = rig.gateway.counts().variants
    assert (sums.invocations, sums.model_errors) == (1, 1)


@pytest.mark.parametrize("size", [MAX_BETWEEN_CONTAINERS, MAX_BETWEEN_CONTAINERS + 1])
@pytest.mark.parametrize("chunked", [False, True])
async def test_between_containers_pass_five_megabytes_and_no_more(rig: Rig, size: int, chunked: bool) -> None:
    def long(request: Request) -> None:
        request.start(200, [], None if chunked else size)
        request.write(b"x" * size)
        request.end()

    _, b = await rig.instance("i1", long, lambda request: request.answer(200, b"%d" % len(request.body)))
    await rig.start(rig.several("i1", labels="MyContainerName1 MyContainerName2"))
    if size == MAX_BETWEEN_CONTAINERS:
        assert (await rig.invoke()).body == b"%d" % size
        return
    failed = await failure(rig)
    assert failed["Class"] == "ModelError"
    assert failed["Error"]["Message"].startswith(
        "Received response from MyContainerName1 with status code 200. However, the request payload from "
        "MyContainerName1 to MyContainerName2 is "
    )
    if not chunked:
        assert f" is {size} bytes, which has exceeded the maximum limit of 5 MB." in failed["Error"]["Message"]
    assert b.seen == []


async def test_the_last_answer_flows_whatever_its_length(rig: Rig) -> None:
    size = 8_000_000

    await rig.instance("i1", step("a"), lambda request: request.answer(200, b"x" * size))
    await rig.start(rig.several("i1"))
    assert len((await rig.invoke()).body) == size


async def test_one_deadline_holds_for_the_whole_chain_and_its_error_names_who_was_late(rig: Rig) -> None:
    first, second = await rig.instance("i1", lambda request: None, lambda request: None)
    await rig.start(rig.several("i1"))
    calling = asyncio.create_task(failure(rig))
    await first.arrived.wait()
    (exchange,) = rig.gateway.context.connections.active
    deadline = exchange.deadline
    first.seen[0].answer(200)
    await second.arrived.wait()
    (exchange,) = rig.gateway.context.connections.active
    assert exchange.deadline == deadline
    rig.expire()
    failed = await calling
    assert failed["OriginalStatusCode"] == 0
    assert "from b with message" in failed["Error"]["Message"]
    assert "waiting for a response from container b." in failed["Error"]["Message"]
    await until(lambda: second.seen[0].disconnected)


@pytest.mark.parametrize("position", [0, 1])
async def test_a_caller_that_leaves_stops_the_chain(rig: Rig, position: int) -> None:
    waiting: list[Request] = []

    scripts = [step("a"), step("b"), step("c")]
    scripts[position] = waiting.append
    containers = await rig.instance("i1", *scripts)
    await rig.start(rig.several("i1", labels="a b c"))
    calling = asyncio.create_task(rig.invoke())
    await until(lambda: waiting)
    calling.cancel()
    await until(lambda: waiting[0].disconnected)
    await until(lambda: rig.in_flight == 0)
    assert [len(container.seen) for container in containers] == [1] * (position + 1) + [0] * (2 - position)


async def test_a_container_that_takes_no_connection_is_replaced_by_that_of_another_instance(rig: Rig) -> None:
    """Nothing is done twice: what an earlier container answered goes to the other instance's next one."""

    for instance in ("i1", "i2"):
        await rig.instance(instance, step("a"), step("b"))
    await rig.start(rig.several("i1", "i2"))
    await rig.containers["i2.1"].stop()
    rig.containers["i2.1"].path.unlink(missing_ok=True)
    for _ in range(20):
        assert (await rig.invoke(b"x")).body == b"x>a>b"
    assert sum(len(rig.containers[name].seen) for name in ("i1.0", "i2.0")) == 20
    assert len(rig.containers["i1.1"].seen) == 20
    await rig.containers["i1.1"].stop()
    rig.containers["i1.1"].path.unlink(missing_ok=True)
    reply = await rig.invoke(b"x")
    assert (reply.status, error(reply)["OriginalStatusCode"]) == (424, 0)
    assert "from b with message" in error(reply)["Message"]


async def test_a_chain_that_meets_no_connection_goes_on_at_another_instance(rig: Rig) -> None:
    for instance in ("i1", "i2"):
        await rig.instance(instance, step("a"), step("b"))
    await rig.start(rig.several("i1", "i2"))
    await rig.containers["i1.1"].stop()
    rig.containers["i1.1"].path.unlink(missing_ok=True)
    for _ in range(20):
        assert (await rig.invoke(b"x")).body == b"x>a>b"
    assert len(rig.containers["i2.1"].seen) == 20
    assert sum(len(rig.containers[f"{instance}.0"].seen) for instance in ("i1", "i2")) == 20  # none began anew


async def test_a_first_container_that_answers_before_it_has_read_the_body_does_not_stop_the_chain(rig: Rig) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
        await writer.drain()
        await reader.read()
        writer.close()

    await rig.container("i1.1", step("b"))
    await rig.start(rig.several("i1"))
    server = await asyncio.start_unix_server(early, str(rig.run / "i1.0"))
    assert (await rig.invoke(b"x" * 5_000_000)).body == b"early>b"
    server.close()


async def test_pipelined_and_chunked_requests_pass_through_in_order(rig: Rig) -> None:
    await rig.instance("i1", step("a"), step("b"))
    await rig.start(rig.several("i1"))
    head = b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: localhost\r\n"
    plain, last = head + b"Content-Length: 1\r\n\r\n1", head + b"Connection: close\r\nContent-Length: 1\r\n\r\n3"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(plain + chunked + last)
    reply = await reader.read()
    assert reply.index(b"1>a>b") < reply.index(b"2>a>b") < reply.index(b"3>a>b")
    writer.close()


# --- a pipeline with a multi-model container


async def test_target_model_goes_to_the_multi_model_container_alone(rig: Rig) -> None:
    a, b, c = await rig.instance("i1", step("a"), step("b"), step("c"))
    await rig.start(rig.several("i1", labels="a b c", multi_model="b"))
    await rig.control.resident(rig.resident("t.tar.gz", "i1", container="i1.1"))
    assert (await rig.invoke(b"x", "t.tar.gz")).body == b"x>a>b>c"
    assert [container.seen[0].path for container in (a, b, c)] == [
        "/invocations",
        "/models/m-t.tar.gz/invoke",
        "/invocations",
    ]
    header = "x-amzn-sagemaker-target-model"
    assert [container.seen[0].headers.get(header) for container in (a, b, c)] == [None, "t.tar.gz", None]
    assert [hit.target for hit in rig.control.hits] in ([], ["t.tar.gz"])
    reply = await rig.invoke()
    assert error(reply)["ErrorCode"] == "TARGET_MODEL_HEADER_MISSING"


async def test_a_pipeline_runs_where_its_target_is_resident(rig: Rig) -> None:
    for instance in ("i1", "i2"):
        await rig.instance(instance, step("a"), step("b"))
    await rig.start(rig.several("i1", "i2", multi_model="b"))
    await rig.control.resident(rig.resident("t", "i2", container="i2.1"))
    for _ in range(10):
        assert (await rig.invoke(b"x", "t")).status == 200
    assert len(rig.containers["i2.0"].seen) == len(rig.containers["i2.1"].seen) == 10
    assert rig.containers["i1.0"].seen == []


async def test_a_target_is_waited_for_before_the_chain_begins(rig: Rig) -> None:
    a, _ = await rig.instance("i1", step("a"), step("b"))
    await rig.start(rig.several("i1", multi_model="b"))
    calling = asyncio.create_task(rig.invoke(b"x", "t"))
    await rig.control.receives(gateway_messages.TargetRequest)
    assert a.seen == []
    rig.control.send(rig.resident("t", "i1", container="i1.1"))
    assert (await calling).body == b"x>a>b"


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_target_is_busy_from_the_chains_first_container_to_its_last(rig: Rig, position: int) -> None:
    waiting: list[Request] = []

    scripts = [step(name) for name in "abc"]
    scripts[position] = waiting.append
    await rig.instance("i1", *scripts)
    await rig.start(rig.several("i1", labels="a b c", multi_model="b"))
    await rig.control.resident(rig.resident("t", "i1", container="i1.1"))
    calling = asyncio.create_task(rig.invoke(b"x", "t"))
    await until(lambda: waiting)
    withdraw = gateway_messages.Withdraw("us-east-1/ep", "v", 1, "t", "i1", 1)
    rig.control.send(withdraw)
    assert (await rig.control.receives(gateway_messages.Withdrawn)).busy
    step("abc"[position])(waiting[0])
    assert (await calling).body == b"x>a>b>c"
    rig.control.send(withdraw)
    assert not (await rig.control.receives(gateway_messages.Withdrawn)).busy


@pytest.mark.parametrize("status", [404, 507])
async def test_a_lost_target_is_loaded_again_and_the_chain_goes_on_from_there(rig: Rig, status: int) -> None:
    def lost_once(request: Request) -> None:
        if len(b.seen) == 1:
            request.answer(status, b"lost")
        else:
            step("b")(request)

    a, b = await rig.instance("i1", step("a"), lost_once)
    await rig.start(rig.several("i1", multi_model="b"))
    await rig.control.resident(rig.resident("t", "i1", container="i1.1"))
    calling = asyncio.create_task(rig.invoke(b"x" * 1_000_000, "t", content_type="text/csv"))
    gone = await rig.control.receives(gateway_messages.TargetMissing)
    assert (gone.target, gone.instance, gone.status) == ("t", "i1", status)
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(rig.resident("t", "i1", 2, container="i1.1"))
    reply = await calling
    assert reply.body == b"x" * 1_000_000 + b">a>b"
    assert (len(a.seen), len(b.seen)) == (1, 2)
    assert b.seen[0].body == b.seen[1].body
    assert b.seen[1].headers["content-type"] == "text/a"


async def test_a_404_of_the_users_own_model_ends_the_chain_after_one_more_try(rig: Rig) -> None:
    a, b = await rig.instance("i1", step("a"), lambda request: request.answer(404, b"no such row"))
    await rig.start(rig.several("i1", multi_model="b"))
    await rig.control.resident(rig.resident("t", "i1", container="i1.1"))
    calling = asyncio.create_task(rig.invoke(target="t"))
    await rig.control.receives(gateway_messages.TargetMissing)
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(rig.resident("t", "i1", 2, container="i1.1"))
    reply = await calling
    assert error(reply)["Message"].startswith('Received client error (404) from b with message "no such row"')
    assert (len(a.seen), len(b.seen)) == (1, 2)


async def test_a_404_of_another_container_is_its_own_error(rig: Rig) -> None:
    await rig.instance("i1", lambda request: request.answer(404, b"mine"), step("b"))
    await rig.start(rig.several("i1", multi_model="b"))
    await rig.control.resident(rig.resident("t", "i1", container="i1.1"))
    reply = await rig.invoke(target="t")
    assert error(reply)["Message"].startswith('Received client error (404) from a with message "mine"')
    assert rig.control.received.empty()


@pytest.mark.parametrize("size", [1, 1_000_000])
async def test_a_chain_whose_instance_left_while_its_target_was_loaded_begins_anew_on_another(
    rig: Rig, size: int
) -> None:
    """Containers of two revisions never answer one request. A body that has flowed away cannot be sent again."""

    await rig.instance("i1", step("a1"), lambda request: request.answer(404, b"lost"))
    await rig.instance("i2", step("a2"), step("b2"))
    await rig.start(rig.several("i1", multi_model="b"))
    await rig.control.resident(rig.resident("t", "i1", container="i1.1"))
    calling = asyncio.create_task(rig.invoke(b"x" * size, "t"))
    await rig.control.receives(gateway_messages.TargetMissing)
    await rig.control.receives(gateway_messages.TargetRequest)
    resident = rig.resident("t", "i2", container="i2.1")
    rig.control.send(gateway_messages.SetRoute(1, rig.several("i2", multi_model="b"), (resident,)))
    reply = await calling
    if size == 1:
        assert reply.body == b"x>a2>b2"
    else:
        assert (reply.status, error(reply)["OriginalStatusCode"]) == (424, 0)
        assert rig.containers["i2.1"].seen == []


async def test_a_target_that_cannot_be_had_is_an_error_of_the_multi_model_container(rig: Rig) -> None:
    await rig.instance("i1", step("a"), step("b"))
    await rig.start(rig.several("i1", multi_model="b"))
    calling = asyncio.create_task(rig.invoke(target="t"))
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(gateway_messages.Refused("us-east-1/ep", "v", 1, "t", "bad", "cannot be loaded", 500))
    assert error(await calling)["Message"].startswith("Received server error (500) from b with message")


async def test_a_pipeline_whose_first_container_is_dead_is_unreachable_and_its_target_is_not_lost(rig: Rig) -> None:
    await rig.container("i1.1", step("b"))
    await rig.start(rig.several("i1", multi_model="b"))
    await rig.control.resident(rig.resident("t", "i1", container="i1.1"))
    reply = await rig.invoke(target="t")
    assert (reply.status, error(reply)["OriginalStatusCode"]) == (424, 0)
    assert "from a with message" in error(reply)["Message"]
    assert rig.control.received.empty()


@pytest.mark.parametrize("seed", range(3))
async def test_no_target_is_unloaded_while_some_chain_needs_it(rig: Rig, seed: int) -> None:
    """Control loads what is needed, and all the while withdraws what is resident, to unload it if it is idle."""
    rng = Random(seed)
    loaded: set[tuple[str, str]] = set()  # instance, target
    asked: set[tuple[str, str]] = set()  # target, instance: whose withdrawal is not answered yet
    generations = count(1)

    def later(request: Request, *answer: object) -> None:
        asyncio.get_running_loop().call_later(rng.random() * 0.002, request.answer, *answer)

    def multi(instance: str) -> Callable[[Request], None]:
        def script(request: Request) -> None:
            target = request.path.split("/")[2].removeprefix("m-")
            there = (instance, target) in loaded
            later(request, 200 if there else 404, request.body + f">{target}".encode())

        return script

    def pass_on(request: Request) -> None:
        later(request, 200, request.body + b">")

    async def control() -> None:
        while True:
            message = await rig.control.received.get()
            if isinstance(message, gateway_messages.TargetRequest):
                instance = rng.choice(["i1", "i2"])
                loaded.add((instance, message.target))
                resident = rig.resident(message.target, instance, next(generations), container=f"{instance}.1")
                rig.control.send(resident)
            elif isinstance(message, gateway_messages.Withdrawn):
                asked.discard((message.target, message.instance))
                if message.busy:
                    again = rig.resident(
                        message.target, message.instance, next(generations), container=f"{message.instance}.1"
                    )
                    rig.control.send(again)
                    counts["busy"] += 1
                else:
                    loaded.discard((message.instance, message.target))
                    counts["idle"] += 1
            assert not isinstance(message, gateway_messages.TargetMissing)

    async def evictor() -> None:
        while True:
            await asyncio.sleep(0)
            residents = rig.gateway.context.routes.endpoints["us-east-1/ep"].variants["v"].pools[0].residents
            places = [
                (target, place)
                for target, all_of_it in residents.items()
                for place in all_of_it
                if (target, place.instance) not in asked  # control never asks for the same one twice at a time
            ]
            if places and rng.random() < 0.1:
                target, place = rng.choice(places)
                asked.add((target, place.instance))
                withdraw = gateway_messages.Withdraw("us-east-1/ep", "v", 1, target, place.instance, place.generation)
                rig.control.send(withdraw)

    async def caller() -> None:
        for _ in range(40):
            target = rng.choice("pqrs")
            reply = await rig.invoke(b"x", target)
            assert (reply.status, reply.body) == (200, b"x>>%b>" % target.encode())

    counts = Counter[str]()
    for instance in ("i1", "i2"):
        await rig.instance(instance, pass_on, multi(instance), pass_on)
    await rig.start(rig.several("i1", "i2", labels="a b c", multi_model="b"))
    others = [asyncio.create_task(control()), asyncio.create_task(evictor())]
    calling = asyncio.gather(*(caller() for _ in range(8)))
    await asyncio.wait([calling, *others], return_when="FIRST_COMPLETED")
    for other in others:
        assert not other.done(), other.exception()
        other.cancel()
    await calling
    assert counts["busy"] > 10
    assert counts["idle"] > 10
