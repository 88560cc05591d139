"""Process trees."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from hostler.processes import tree


def test_descendants_of_a_process_are_found_with_any_name() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & echo; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout
        shell.stdout.readline()
        found = tree.descendants(shell.pid)
        assert len(found) == 2
        assert sorted(tree.children(shell.pid)) == sorted(found)
        assert shell.pid in tree.descendants(os.getpid())
        for pid in (shell.pid, *found):
            tree.kill(pid, signal.SIGKILL)
    assert tree.descendants(shell.pid) == []


def test_a_zombie_is_not_among_the_living() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.pid not in tree.parents()


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_a_signal_to_no_process_reaches_no_process(pid: int) -> None:
    tree.kill(pid, signal.SIGKILL)


def test_a_running_process_has_a_share_of_memory_and_an_exited_one_has_none() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert tree.own_share(os.getpid()) > 2**20
    assert tree.own_share("self") > 2**20
    assert tree.own_share(child.pid) == 0
