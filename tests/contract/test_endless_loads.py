"""A load that never returns is broken off when its time is up, and its process ends: in a target's own, in a worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from containers_of_ours import SOURCE, script

PROGRAM = """
import asyncio, json, os, sys, tempfile
from functools import partial
from pathlib import Path
from hostler.processes import forkserver, tree
from hostler.servers import environment, main
from hostler.servers.frameworks import installed
from hostler.servers.runners.process import ProcessFactory
from hostler.servers.runners.process_loader import ProcessLoader
from hostler.servers.runners.runner import LoadFailed, LoadRequest
from hostler.servers.worker_pool import WorkerPool

kind, base = sys.argv[1:]
config = environment.read({"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_BASE_DIR": base})
tree.adopt_orphans()
installed.preload("sklearn")  # an import would take the loads' time
line = forkserver.start(partial(main._run_child, config), installed.preload, None)

async def load(loader, name, framework):
    try:
        await loader.load(LoadRequest(name, Path(base) / name), *framework)
    except LoadFailed as error:
        return [error.status, str(error)]
    return "loaded"

async def play():
    factory = ProcessFactory(line, Path(base))
    [fork_server] = tree.children(os.getpid())
    if kind == "worker":
        loader = WorkerPool(config, factory, 2, load_timeout=6.0)
        await loader.start()
    else:
        loader = ProcessLoader(factory, 1 if kind == "process" else 2, 6.0)
    framework = [] if kind == "worker" else ["script"]
    before = tree.children(fork_server)
    outcomes = [await load(loader, "endless", framework)]
    async with asyncio.timeout(60):
        while len(tree.descendants(fork_server)) != len(before):
            await asyncio.sleep(0.01)
    ended = len(set(before) - set(tree.children(fork_server)))
    outcomes.append(await load(loader, "quick", framework))
    await loader.close()
    print(json.dumps([outcomes, ended]))

asyncio.run(play())
"""
ENDLESS = """
import signal, subprocess
def model_fn(folder):
    subprocess.Popen(["sleep", "600"])
    while True: signal.pause()
def predict_fn(data, model): return 1
"""
HANGS = """
import os, time
class Hangs:
    def __setstate__(self, seconds): time.sleep(seconds)
    def predict(self, rows): return [1]
"""


@pytest.mark.parametrize("kind", ["process", "replicas", "worker"])
def test_a_load_that_never_returns_ends_with_its_process(tmp_path: Path, kind: str) -> None:
    folders = [tmp_path / "base" / name for name in ("endless", "quick")]
    for folder in folders:
        folder.mkdir(parents=True)
    if kind == "worker":
        (tmp_path / "hangs.py").write_text(HANGS)
        for folder, seconds in zip(folders, (600, 0), strict=True):
            (folder / "model.pkl").write_bytes(b"changs\nHangs\n)\x81I%d\nb." % seconds)
    else:
        script(folders[0], ENDLESS)
        script(folders[1], "def model_fn(folder): return 1\ndef predict_fn(data, model): return 1")
    outcomes, ended = play(kind, tmp_path)
    [status, message], loaded = outcomes
    assert status == 500
    words = "no whole answer in 6 s" if kind == "worker" else "its process did not load it within 6 seconds"
    assert words in message
    assert loaded == "loaded"
    assert ended == (kind == "worker"), "the other worker goes on"


def play(kind: str, folder: Path) -> Any:
    command = [sys.executable, "-c", PROGRAM, kind, str(folder / "base")]
    environment = {"PYTHONPATH": f"{SOURCE}:{folder}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
