"""The log groups of endpoints: which streams are in them, which are kept, and how they are read."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostler.engines import log_files
from hostler.engines.growth import Growth
from hostler.engines.log_files import KEPT, Group, LogFiles
from hostler.engines.log_stream import Event
from hostler.names import UnsafeName


class Clock:
    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


def files(folder: Path, clock: Clock | None = None, **endpoints: str) -> LogFiles:
    """Log files of a control that knows these endpoints, by uid."""
    logs = LogFiles(folder, clock or Clock())
    logs.all_taken_over()
    for uid, name in endpoints.items():
        logs.belongs(uid, f"us-east-1/{name}")
    return logs


def say(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def lines(group: Group | None) -> dict[str, list[str]]:
    assert group
    return {name: [event.message.decode() for event in it.events(0)] for name, it in group.streams.items()}


def test_streams_of_one_endpoint_that_threads_open_at_once_leave_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = files(tmp_path, uid="ep")
    (tmp_path / "uid").mkdir()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: logs.open(f"uid/v/i{number}"), range(200)))
    assert caplog.messages == []
    assert lines(files(tmp_path).group("us-east-1", "ep")).keys() == {f"v/i{number}" for number in range(200)}


def test_the_logs_of_the_last_ended_instances_are_kept(tmp_path: Path) -> None:
    logs = files(tmp_path, uid="ep")
    for number in range(KEPT + 3):
        stream = f"uid/v/i{number}" if number % 2 else f"uid/v/i{number}/first"  # alone, or one of several
        log = logs.open(stream)
        log.write_text("said")
        logs.close(stream)
        log.with_suffix(".mark").touch()  # of a container in Docker
        for path in (log, log.with_suffix(".times"), log.with_suffix(".mark")):
            os.utime(path, (number, number))
    logs.prune("uid", running={"i0"})
    left = {Path(stream).parts[1] for stream in logs.tails("uid", 10)}
    assert left == {"i0", *(f"i{number}" for number in range(3, KEPT + 3))}
    assert not (tmp_path / "uid" / "v" / "i2").exists()
    assert not (tmp_path / "uid" / "v" / "i1.times").exists()
    assert not (tmp_path / "uid" / "v" / "i1.mark").exists()
    assert (tmp_path / "uid" / "v" / "i0" / "first.mark").exists()


def test_a_stream_is_read_from_its_end_and_never_outside_its_folder(tmp_path: Path) -> None:
    logs = files(tmp_path)
    logs.open("uid/v/i").write_text("first\nlast\n")
    assert logs.tail("uid/v/i", 5) == "last\n"
    assert logs.tail("uid/v/none", 5) == ""
    with pytest.raises(UnsafeName):
        logs.path("uid/../../x")


def test_endpoints_of_the_same_name_one_after_another_share_a_group(tmp_path: Path) -> None:
    clock = Clock()
    logs = files(tmp_path, clock, one="ep", other="Ep")
    say(logs.open("one/v/i-1"), "first\n")
    say(logs.open("other/v/i-2"), "another's\n")
    logs.close("one/v/i-1")
    logs.retire("one")
    clock.now = 5
    logs.belongs("two", "us-east-1/ep")
    say(logs.open("two/v/i-3"), "second\n")
    logs.note()
    group = logs.group("us-east-1", "ep")
    assert lines(group) == {"v/i-1": ["first"], "v/i-3": ["second"]}
    assert group
    assert (group.name, group.created, group.size()) == ("/aws/sagemaker/Endpoints/ep", 1000, 13)
    assert [group.endpoint for group in logs.groups()] == ["Ep", "ep"]
    assert logs.group("eu-west-1", "ep") is None


def test_another_control_finds_the_groups_and_what_has_ended(tmp_path: Path) -> None:
    logs = files(tmp_path, uid="ep")
    say(logs.open("uid/v/i-1"), "said\nnot whole")
    logs.note()
    assert lines(logs.group("us-east-1", "ep")) == {"v/i-1": ["said"]}
    say(tmp_path / "uid/v/i-1.log", "\nunseen")
    second = LogFiles(tmp_path, Clock())
    assert lines(second.group("us-east-1", "ep")) == {"v/i-1": ["said"]}  # its container may run
    second.take_over("uid/v/i-1")
    second.all_taken_over()
    assert lines(second.group("us-east-1", "ep")) == {"v/i-1": ["said", "not whole"]}
    third = files(tmp_path)  # it has ended
    assert lines(third.group("us-east-1", "ep")) == {"v/i-1": ["said", "not whole", "unseen"]}


def test_a_container_of_the_same_name_goes_on_with_the_stream_and_changes_no_event(tmp_path: Path) -> None:
    clock = Clock()
    logs = files(tmp_path, clock, uid="ep")
    say(logs.open("uid/v/i-1"), "said\n")
    logs.note()
    say(tmp_path / "uid/v/i-1.log", "unseen\nlast words")  # then all of hostler is killed
    clock.now = 1e10
    later = files(tmp_path, clock)
    before = all_events(later.group("us-east-1", "ep"))
    say(later.open("uid/v/i-1"), "again\n")
    later.note()
    after = all_events(later.group("us-east-1", "ep"))
    assert [event.message for event in before] == [b"said", b"unseen", b"last words"]
    assert [(it.position, it.time, it.message) for it in after[:3]] == [
        (it.position, it.time, it.message) for it in before
    ]
    assert [event.message for event in after[3:]] == [b"again"]


def all_events(group: Group | None) -> list[Event]:
    assert group
    return [event for stream in group.streams.values() for event in stream.events(0)]


def test_a_stream_is_there_before_its_container_says_anything(tmp_path: Path) -> None:
    logs = files(tmp_path, uid="ep")
    logs.open("uid/v/i-1")
    assert lines(logs.group("us-east-1", "ep")) == {"v/i-1": []}


def test_the_logs_of_deleted_endpoints_are_kept_up_to_a_number(tmp_path: Path) -> None:
    clock = Clock()
    logs = files(tmp_path, clock)
    for number in range(log_files.DELETED_KEPT + 2):
        clock.now = 10.0 + number
        logs.belongs(f"e{number}", f"us-east-1/ep-{number}")
        say(logs.open(f"e{number}/v/i"), "said\n")
        logs.close(f"e{number}/v/i")
        logs.retire(f"e{number}")
    assert len(logs.groups()) == log_files.DELETED_KEPT
    assert logs.group("us-east-1", "ep-1") is None
    assert not (tmp_path / "e1").exists()
    assert logs.group("us-east-1", "ep-2")


def test_of_an_endpoint_that_never_ran_nothing_is_kept(tmp_path: Path) -> None:
    logs = files(tmp_path, uid="ep")
    logs.retire("uid")
    logs.retire("unknown")
    assert not [*tmp_path.iterdir()]


def test_a_deleted_group_is_gone_until_a_container_that_runs_says_more(tmp_path: Path) -> None:
    clock = Clock()
    logs = files(tmp_path, clock, gone="ep", uid="ep")
    for stream in ("gone/v/i-0", "uid/v/i-1", "uid/v/i-2"):
        say(logs.open(stream), "said\n")
    logs.close("gone/v/i-0")
    logs.close("uid/v/i-1")
    logs.retire("gone")
    logs.note()
    clock.now = 7
    logs.delete("us-east-1", "ep")
    assert logs.group("us-east-1", "ep") is None
    assert logs.groups() == []
    assert logs.tails("uid", 99) == {"v/i-2": ""}
    assert {path.name for path in tmp_path.iterdir()} == {"uid"}
    say(tmp_path / "uid/v/i-2.log", "more\n")
    logs.note()
    group = logs.group("us-east-1", "ep")
    assert lines(group) == {"v/i-2": ["more"]}
    assert group
    assert group.created == 7000
    assert logs.tails("uid", 99) == {"v/i-2": "more\n"}


def test_what_is_noted_after_somebody_has_read_is_later(tmp_path: Path) -> None:
    logs = files(tmp_path, uid="ep")
    first, second = logs.open("uid/v/a"), logs.open("uid/v/b")
    times = []
    for path in (second, first, second):
        say(path, "said\n")
        logs.note()
        group = logs.group("us-east-1", "ep")
        assert group
        times.append(max(event.time for it in group.streams.values() for event in it.events(0)))
    assert times == sorted({*times})


async def test_growth_is_noted_without_anybody_reading(tmp_path: Path) -> None:
    logs = files(tmp_path, uid="ep")
    before = logs.open("uid/v/a")
    watching = asyncio.create_task(logs.watch())
    await asyncio.sleep(0)
    opened = logs.open("uid/v/b")
    async with asyncio.timeout(120):
        for path in (before, opened, before):
            say(path, "said\n")
            await noted(logs, f"v/{path.stem}", path.stat().st_size)
    logs.close("uid/v/b")
    say(opened, "unseen\n")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert lines(logs.group("us-east-1", "ep")) == {"v/a": ["said", "said"], "v/b": ["said", "unseen"]}


def no_watcher() -> Growth:
    raise OSError(errno.EMFILE, "Too many open files")


class NoWatch(Growth):
    """The system grants a watcher, but no watches."""

    def add(self, path: Path) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.simulated
@pytest.mark.parametrize("growth", [no_watcher, NoWatch])
async def test_what_the_system_does_not_watch_is_looked_at_each_minute(
    tmp_path: Path, growth: Callable[[], Growth]
) -> None:
    logs = LogFiles(tmp_path, Clock(), growth)
    logs.belongs("uid", "us-east-1/ep")
    watching = asyncio.create_task(logs.watch())
    await asyncio.sleep(3600)
    await asyncio.to_thread(logs.open, "uid/v/a")  # as rooms do
    await asyncio.sleep(1)
    say(tmp_path / "uid/v/a.log", "said\n")
    await asyncio.sleep(59)
    assert lines(logs.group("us-east-1", "ep")) == {"v/a": []}
    await asyncio.sleep(2)
    assert lines(logs.group("us-east-1", "ep")) == {"v/a": ["said"]}
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


def test_a_container_that_runs_is_taken_over_though_its_log_cannot_be(tmp_path: Path) -> None:
    logs = files(tmp_path, uid="ep")
    (tmp_path / "uid").write_text("in the way")
    logs.take_over("uid/v/i")
    logs.take_over("uid/../../i")
    assert logs.group("us-east-1", "ep") is None


def test_on_a_full_disk_containers_start_and_endpoints_are_deleted(tmp_path: Path) -> None:
    logs = files(tmp_path, uid="ep", other="other")
    say(logs.open("other/v/i-0"), "said\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # so that no file can grow
    try:
        path = logs.open("uid/v/i-1")
        logs.note()
        logs.close("other/v/i-0")
        logs.retire("other")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    say(path, "room again\n")
    logs.note()
    assert lines(logs.group("us-east-1", "ep")) == {"v/i-1": ["room again"]}
    assert lines(logs.group("us-east-1", "other")) == {"v/i-0": ["said"]}


async def noted(logs: LogFiles, stream: str, size: int) -> None:
    """Wait until a stream's output is noted up to this size."""
    while True:
        group = logs.group("us-east-1", "ep")
        if group and (span := group.streams[stream].span()) and span.end == size:
            return
        await asyncio.sleep(0.01)
