"""The zygote: the fork server that forks our own model servers in milliseconds.

It only imports; between requests it imports frameworks ahead. Its exit ends no container: the host adopts them.

Run as `python -m hostler.host.zygote --requests FD --lifeline FD --server MODULE:FUNCTION`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import socket
import sys
import traceback
from functools import partial
from typing import NoReturn

import msgspec

from hostler import contract
from hostler.host import namespaces
from hostler.processes.forkserver import ForkServer
from hostler.processes.tree import adopt_orphans

# The imports of a framework's server, in an order that spreads the time; those that fail are skipped.
IMPORTS = {
    "xgboost": ("numpy", "scipy.sparse", "xgboost", "hostler.servers.frameworks.xgboost"),
    "sklearn": (
        "numpy",
        "scipy.sparse",
        "joblib",
        "sklearn.ensemble",
        "sklearn.pipeline",
        "hostler.servers.frameworks.sklearn",
    ),
    "torch": ("numpy", "torch", "hostler.servers.frameworks.torch"),
    # Not transformers: what it takes from the environment, such as HF_HOME, must be the container's.
    "huggingface": ("numpy", "torch"),
    # Not onnxruntime: it starts a thread when it is imported, which takes 20 ms in a container of its own.
}
_AHEAD = ("xgboost", "sklearn")  # torch, 190 MB, is imported for its first container alone
IMPORTS_AHEAD = tuple(dict.fromkeys(module for framework in _AHEAD for module in IMPORTS[framework]))


class Fork(msgspec.Struct, frozen=True):
    """A container to fork. `environment` is its whole environment; its output goes to the file `log`.

    `view`: what it sees in namespaces of its own; None: this machine does not allow them.
    """

    folder: str
    log: str
    environment: dict[str, str]
    framework: str
    view: namespaces.View | None = None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--server", required=True)
    arguments = parser.parse_args()
    requests = socket.socket(fileno=arguments.requests)
    requests.set_inheritable(False)
    os.set_inheritable(arguments.lifeline, False)
    with contextlib.suppress(Exception):  # what fails here fails again, and is reported, in the container
        import_ahead(arguments.server.partition(":")[0])
    # This process ends with the host's end of the socket; the lifeline is for the containers.
    run = partial(run_container, arguments.server, arguments.lifeline)
    ForkServer(requests, run, import_ahead, adopted=True).serve()


def import_ahead(module: str) -> None:
    """Import a module that is not imported yet. Raises what its import raises."""
    if module not in sys.modules:
        importlib.import_module(module)


def run_container(server: str, lifeline: int, spec: bytes, fds: list[int]) -> NoReturn:
    """In the container: close and replace everything of the zygote's, and serve."""
    code = 1
    try:
        fork = msgspec.msgpack.decode(spec, type=Fork)
        os.setsid()
        log = os.open(fork.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        os.closerange(3, lifeline)
        os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
        adopt_orphans()
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # out of memory, the kernel kills a container before any of hostler's processes
        if fork.view:
            _enter(fork.view)
        os.chdir(contract.BASE_DIR if fork.view else fork.folder)
        os.environ.clear()
        os.environ.update(fork.environment)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        if random := sys.modules.get("numpy.random"):
            random.seed()  # else every container would draw the same numbers
        module, _, function = server.partition(":")
        getattr(importlib.import_module(module), function)()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


def _enter(view: namespaces.View) -> None:
    try:
        namespaces.enter(view)
    except OSError as error:  # such as: the system's limit of namespaces is reached
        sys.exit(f"The container gets no namespaces of its own: {error.strerror}.")


if __name__ == "__main__":
    main()
