"""The access log: what a line says, that nobody can forge one, and that no trouble with the disk reaches a caller."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import stat
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from rig import Rig, error, running, until

from hostler.gateway.access_log import AccessLog, Output
from hostler.gateway.invoke.outcome import Outcome, Outcomes
from hostler.gateway.journal import Journal
from hostler.gateway.recorder import Recorder
from hostler.gateway.routes import Endpoint
from hostler.wire import gateway_messages
from hostler.wire.http_request import Request

ROOM = 2**20


class Log:
    """The log of a gateway at this path, with the journal beside its folder."""

    def __init__(self, path: Path, room: int, pause: float = 0.25) -> None:
        self.recorder = Recorder(AccessLog(path, room), Journal(path.parent.parent / "metrics", "g1"), pause)
        self.outcomes = Outcomes(self.recorder.take)

    def add(self, request_id: str) -> None:
        self.outcomes.add(
            Outcome(
                monotonic(), request_id, Endpoint("us-east-1/ep", []), None, "", 0, 200, "", 200, 1, 2, 0.00123456,
                0.001, None,
            )
        )  # fmt: skip

    async def written(self) -> None:
        """All lines are written, or dropped."""
        self.outcomes.flush()
        await until(lambda: self.recorder.idle)

    async def close(self) -> None:
        self.outcomes.flush()
        await self.recorder.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def logged(rig: Rig, count: int) -> list[dict[str, Any]]:
    """The gateway's lines, once there are so many, and no more."""
    path = rig.settings.access_logs / "g1.log"
    await until(lambda: path.exists() and len(lines(path)) >= count)
    found = lines(path)
    assert len(found) == count
    return found


# --- what is logged -----------------------------------------------------------------------------------------------


async def test_a_line_names_what_was_invoked_and_says_what_it_took(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    reply = await rig.invoke(b"1,2", authorization="AWS4 secret", x_amz_security_token="token")
    [line] = await logged(rig, 1)
    assert line.pop("time").endswith("Z")
    assert line.pop("request_id") == reply.headers["x-amzn-requestid"]
    assert line.pop("ms") >= line.pop("model_ms") > 0
    assert line == {
        "model_status": 200, "wait_ms": 0.0, "instances": 1,
        "region": "us-east-1", "endpoint": "ep", "variant": "v", "target": "", "container": "primary",
        "status": 200, "error": "", "bytes_in": 3, "bytes_out": 8, "cache": "",
    }  # fmt: skip


async def test_a_target_is_named_with_hit_or_miss(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    missing = asyncio.create_task(rig.invoke(b"x", "a.tar.gz"))
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(rig.resident("a.tar.gz", "i1"))
    await missing
    await rig.invoke(b"x", "a.tar.gz")
    assert [(line["target"], line["cache"]) for line in await logged(rig, 2)] == [
        ("a.tar.gz", "miss"),
        ("a.tar.gz", "hit"),
    ]


async def test_a_wait_for_a_target_and_the_time_of_each_container_are_logged(rig: Rig) -> None:
    await rig.instance("i1", None, None)
    await rig.start(rig.several("i1", multi_model="b"))
    missing = asyncio.create_task(rig.invoke(b"x", "a.tar.gz"))
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(rig.resident("a.tar.gz", "i1", container="i1.1"))
    await missing
    await rig.invoke(b"x", "a.tar.gz")
    first, second = await logged(rig, 2)
    assert first["ms"] > first["wait_ms"] > 0
    assert second["wait_ms"] == 0
    for line in (first, second):
        assert list(line["container_ms"]) == ["a", "b"]
        assert sum(line["container_ms"].values()) == pytest.approx(line["model_ms"], abs=0.002)
        assert line["ms"] >= line["model_ms"] + line["wait_ms"] - 0.001


async def test_a_container_that_is_called_directly_is_the_only_one_with_a_time(rig: Rig) -> None:
    await rig.instance("i1", None, None)
    await rig.start(rig.several("i1", mode="Direct"))
    await rig.invoke(b"x", x_amzn_sagemaker_target_container_hostname="b")
    [line] = await logged(rig, 1)
    assert line["container_ms"] == {"b": line["model_ms"]}


async def test_the_containers_that_were_called_before_an_error_have_their_times(rig: Rig) -> None:
    await rig.instance("i1", None, lambda request: request.answer(415, b"no"), None)
    await rig.start(rig.several("i1", labels="a b c"))
    await rig.invoke(b"x")
    [line] = await logged(rig, 1)
    assert (line["status"], line["model_status"], line["container"]) == (424, 415, "b")
    assert list(line["container_ms"]) == ["a", "b"]


async def test_refusals_are_logged_whoever_refuses(rig: Rig) -> None:
    await rig.container("i1", lambda request: request.answer(400, b"no"))
    await rig.start(rig.route("i1"))
    replies = [
        await rig.invoke(name="nope"),
        await rig.invoke(x_amzn_sagemaker_target_variant="other"),
        await rig.invoke(origin="http://elsewhere.example"),
        await rig.invoke(operation="async-invocations"),
        await rig.invoke(b"x" * (6 * 2**20 + 1)),
        await rig.invoke(),
    ]
    found = await logged(rig, len(replies))
    assert [(line["endpoint"], line["status"], line["error"]) for line in found] == [
        ("nope", 400, "ValidationError"),
        ("ep", 400, "ValidationError"),
        ("ep", 403, "AccessDeniedException"),
        ("ep", 403, "AccessDeniedException"),
        ("ep", 413, ""),
        ("ep", 424, "ModelError"),
    ]
    assert [line["status"] for line in found] == [reply.status for reply in replies]
    assert [line["bytes_out"] for line in found] == [len(reply.body) for reply in replies]
    assert error(replies[-1])["OriginalMessage"] == "no"


async def test_requests_that_are_not_authenticated_are_logged(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text('KEY = "secret"\n')
    keys.chmod(0o600)

    async with running(signatures="verify", keys_file=str(keys)) as rig:
        await rig.start()
        reply = await rig.invoke()
        [line] = await logged(rig, 1)
        assert (line["bytes_out"], reply.status) == (len(reply.body), 403)
        assert (line["endpoint"], line["status"], line["error"]) == ("ep", 403, "MissingAuthenticationTokenException")


async def test_a_caller_who_hangs_up_is_499_and_an_answer_that_breaks_off_is_cut(rig: Rig) -> None:
    waiting: list[Request] = []
    await rig.container("i1", waiting.append)
    await rig.start(rig.route("i1"))
    call = asyncio.create_task(rig.invoke())
    await until(lambda: waiting)
    call.cancel()
    await until(lambda: rig.in_flight == 0)
    call = asyncio.create_task(rig.invoke())
    await until(lambda: len(waiting) == 2)
    waiting[1].start(200, [], 1_000_000)
    waiting[1].write(b"x" * 300_000)
    await until(lambda: rig.gateway.context.connections.active and not call.done())
    await until(lambda: not waiting[1].unsent)
    waiting[1].abort()
    await asyncio.gather(call, return_exceptions=True)
    found = await logged(rig, 2)
    assert [(line["status"], line["error"]) for line in found] == [(499, ""), (200, "Cut")]
    assert found[1]["bytes_out"] == 300_000


async def test_names_are_quoted_cut_and_printable_so_that_no_line_can_be_forged(rig: Rig) -> None:
    await rig.start()
    await rig.invoke(name="a%0A%7B%22status%22:200%7D%E2%80%A8" + "b" * 1000, target='x"\t\\')
    [line] = await logged(rig, 1)
    assert line["endpoint"].startswith('a\\n{"status":200}\\u2028bbb')
    assert len(line["endpoint"]) < 300
    assert line["target"] == 'x"\\t\\\\'
    assert (rig.settings.access_logs / "g1.log").read_bytes().isascii()


async def test_without_the_log_nothing_is_written() -> None:
    async with running(access_log=0) as rig:
        await rig.container("i1")
        await rig.start(rig.route("i1"))
        assert (await rig.invoke()).status == 200
        assert (await rig.invoke(name="nope")).status == 400
        await rig.gateway.stop(0.0)
        assert not rig.settings.access_logs.exists()


async def test_on_standard_output_there_is_a_line_for_each_invocation_and_no_file(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with running(access_log="stdout") as rig:
        await rig.container("i1")
        await rig.start(rig.route("i1"))
        for _ in range(3):
            assert (await rig.invoke()).status == 200
        await rig.gateway.stop(0.0)
        assert [json.loads(line)["endpoint"] for line in capfd.readouterr().out.splitlines()] == ["ep"] * 3
        assert not rig.settings.access_logs.exists()


def test_lines_that_a_broken_output_does_not_take_are_counted() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        assert Output(write).append(b"one\ntwo\n") == (2, "Broken pipe")
    finally:
        os.close(write)


# --- the file -----------------------------------------------------------------------------------------------------


async def test_what_was_logged_is_written_at_the_end_to_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "access" / "g1.log"

    log = Log(path, ROOM)
    for number in range(2000):
        log.add(str(number))
    await log.close()
    assert [line["request_id"] for line in lines(path)] == [str(number) for number in range(2000)]
    assert lines(path)[0]["ms"] == 1.234
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_it_takes_no_more_room_than_it_is_given_in_two_files(tmp_path: Path) -> None:
    path, room = tmp_path / "access" / "g1.log", 20_000

    for first in range(0, 200, 20):
        log = Log(path, room)
        for number in range(first, first + 20):
            log.add(str(number))
        await log.close()
    old = tmp_path / "access" / "g1.log.1"
    assert sorted(os.listdir(path.parent)) == [path.name, old.name]
    assert path.stat().st_size + old.stat().st_size <= room
    kept = [int(line["request_id"]) for line in lines(old) + lines(path)]
    assert kept == list(range(200 - len(kept), 200))
    assert len(kept) > 30


async def test_a_full_disk_costs_lines_alone_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "access" / "g1.log"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    caplog.set_level(logging.WARNING, "hostler.gateway.recorder")

    log = Log(path, ROOM)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        for _ in range(2):
            for number in range(10):
                log.add(str(number))
            await log.written()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    written = len(lines(path))  # whole lines alone
    assert 1 < written < 10
    log.add("after")
    await log.close()
    assert [line["request_id"] for line in lines(path)] == [*map(str, range(written)), "after"]
    assert [record.getMessage() for record in caplog.records] == [
        "the access log cannot be written (File too large): its lines are dropped",
        f"the access log is written again; {20 - written} lines were dropped",
    ]


async def test_a_small_log_of_a_busy_gateway_loses_no_line_to_the_pause_between_two_writes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, room = tmp_path / "access" / "g1.log", 2**20
    log = Log(path, room, pause=3600.0)
    for number in range(20_000):
        log.add(str(number))
        if log.recorder.waiting > room // 4:
            await until(lambda: log.recorder.waiting <= room // 4)
    await log.close()
    assert not caplog.records
    assert lines(path)[-1]["request_id"] == "19999"


async def test_a_disk_that_hangs_holds_a_bounded_number_of_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Between two writes no more is kept than half the room, however much is logged."""
    path, room = tmp_path / "access" / "g1.log", 40_000

    log = Log(path, room)
    for number in range(100_000):  # no turn of the loop between them, so nothing is written meanwhile
        log.add(str(number))
    assert log.recorder.waiting < 200_000
    await log.close()
    kept = len(lines(path))
    assert 50 < kept < 1000
    assert f"{100_000 - kept} lines were dropped" in caplog.text
