"""EnableNetworkIsolation: no container reaches anything, and all answer calls.

The whole hostler runs in a network whose other hosts are the test's own (small_internet.py), so that the same program
shows that each way is open without isolation.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import REPOSITORY

from hostler.host import namespaces

HERE = Path(__file__).parent
WAYS = {
    "loopback of the machine",
    "address of the machine",
    "internet",
    "DNS",
    "resolver",
    "metadata",
    "socket of a daemon",
}


def found(folder: Path, resolver: Path) -> dict[str, Any]:
    """Run small_internet.py in a network of its own, with a resolv.conf that names its resolver."""
    enter = ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    resolver.write_text("nameserver 192.0.2.53\noptions attempts:1 timeout:2\n")
    program = 'mount --bind "$1" "$(readlink -f /etc/resolv.conf)" && exec "$2" "$3" "$4"'
    command = ["sh", "-c", program, "sh", str(resolver), sys.executable, str(HERE / "small_internet.py"), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(HERE)])}
    run = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-3000:]
    answers: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answers


def test_each_way_out_is_open_without_isolation_and_none_with_it(tmp_path: Path) -> None:
    if refused := namespaces.trial().isolation:
        pytest.skip(f"this machine allows no network namespaces: {refused}")
    answers = found(tmp_path, tmp_path / "resolv.conf")
    kinds = ["script", *(["command"] if shutil.which("bwrap") else [])]
    for kind in kinds:
        reached = {way for way, answer in answers[f"open-{kind}"].items() if answer == "reached"}
        assert reached >= WAYS, answers
        assert "another container" in reached or "command" not in kinds
    assert answers["open-script"]["socket of another container"] == "reached"
    for name in (*(f"isolated-{kind}" for kind in kinds), "isolated-workers"):
        tried = answers[name]
        assert tried.keys() >= {*WAYS, "socket of another container", "host"}
        assert "reached" not in tried.values(), (name, tried)
    assert answers.get("again", [{}]) == [{}] * len(answers.get("again", [{}]))
