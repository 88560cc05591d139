"""Processors and memory that a container's groups leave to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostler.servers import cgroup

MIB = 2**20
PROCESSORS = len(os.sched_getaffinity(0))


def written(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, PROCESSORS),
        ({"cpu_DOT_max": "max 100000"}, PROCESSORS),
        ({"cpu_DOT_max": "100000 100000"}, 1),
        ({"cpu_DOT_max": "20000 100000"}, 1),
        ({"cpu_DOT_max": "6400000 100000"}, PROCESSORS),
        ({"cpu__cpu_DOT_cfs_quota_us": "-1", "cpu__cpu_DOT_cfs_period_us": "100000"}, PROCESSORS),
        ({"cpu__cpu_DOT_cfs_quota_us": "50000", "cpu__cpu_DOT_cfs_period_us": "100000"}, 1),
    ],
)
def test_processors_are_those_of_the_group_a_part_counted_as_one(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert cgroup.processors(written(tmp_path, **files)) == expected


def test_a_group_has_no_more_processors_than_the_machine(tmp_path: Path) -> None:
    assert cgroup.processors(written(tmp_path, cpu_DOT_max=f"{PROCESSORS * 250_000} 100000")) == PROCESSORS


def meminfo(folder: Path, total: int, available: int) -> Path:
    path = folder / "meminfo"
    path.write_text(f"MemTotal:       {total * 1024} kB\nMemFree:  1 kB\nMemAvailable:   {available * 1024} kB\n")
    return path


def test_without_a_limit_the_memory_is_the_machines(tmp_path: Path) -> None:
    machine = meminfo(tmp_path, 1000, 400)
    for files in ({}, {"memory_DOT_max": "max"}, {"memory__memory_DOT_limit_in_bytes": "9223372036854771712"}):
        assert cgroup.memory_left(written(tmp_path / str(len(files)), **files), machine) == (400 * MIB, 1000 * MIB)


def test_a_limit_less_what_is_used_is_left_and_pages_of_files_are_not_used(tmp_path: Path) -> None:
    machine = meminfo(tmp_path, 1000, 400)
    newer = written(
        tmp_path / "2",
        memory_DOT_max=str(200 * MIB),
        memory_DOT_current=str(150 * MIB),
        memory_DOT_stat=f"anon 7\ninactive_file {30 * MIB}\nactive_file 5",
    )
    older = written(
        tmp_path / "1",
        memory__memory_DOT_limit_in_bytes=str(200 * MIB),
        memory__memory_DOT_usage_in_bytes=str(150 * MIB),
        memory__memory_DOT_stat=f"inactive_file 1\ntotal_inactive_file {30 * MIB}",
    )
    assert cgroup.memory_left(newer, machine) == cgroup.memory_left(older, machine) == (80 * MIB, 200 * MIB)


def test_no_more_is_left_than_the_machine_has(tmp_path: Path) -> None:
    machine = meminfo(tmp_path, 1000, 10)
    group = written(tmp_path / "g", memory_DOT_max=str(200 * MIB), memory_DOT_current="0")
    assert cgroup.memory_left(group, machine) == (10 * MIB, 200 * MIB)


def test_where_nothing_can_be_known_it_says_so(tmp_path: Path) -> None:
    assert cgroup.memory_left(tmp_path, tmp_path / "none") == (0, 0)


def test_processes_that_the_kernel_ended_for_memory_are_counted(tmp_path: Path) -> None:
    assert cgroup.kills(tmp_path) == 0
    assert cgroup.kills(written(tmp_path / "2", memory_DOT_events="low 0\noom 4\noom_kill 3")) == 3
    assert cgroup.kills(written(tmp_path / "1", memory__memory_DOT_oom_control="under_oom 0\noom_kill 2")) == 2
