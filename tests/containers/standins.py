"""Stand-ins for the host's processes: control, a gateway, a forked server, a mapped command; and a host of these.

They only run, and have descendants of the kinds that easily become orphans.
Run as `python standins.py host|control|gateway|command ...`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from hostler import contract
from hostler.processes.lifeline import leave_with


def server() -> None:
    """A container forked from the zygote."""
    leave_with(int(os.environ[contract.ENV_LIFELINE]))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ[contract.ENV_SOCKET])
    _behave(listener)


def command() -> None:
    """A mapped command: it listens on SAGEMAKER_BIND_TO_PORT."""
    assert sys.argv[-1] == contract.SERVE
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", int(os.environ[contract.ENV_BIND_TO_PORT])))
    _behave(listener)


def _behave(listener: socket.socket) -> None:
    """Obey STANDIN_*: EXIT with a code, ignore SIGTERM (STUBBORN), try to WRITE and SEE paths, print the host NAME,
    WORK for so many seconds of processor time.
    """
    print("a stand-in speaks", flush=True)
    if "STANDIN_EXIT" in os.environ:
        sys.exit(int(os.environ["STANDIN_EXIT"]))
    if "STANDIN_STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for path in filter(None, os.environ.get("STANDIN_WRITE", "").split(":")):
        try:
            open(path, "a").close()  # changes no file of the machine, even if it succeeds
            print("may write", path, flush=True)
        except OSError as error:
            print("may not write", path, error.strerror, flush=True)
    for path in filter(None, os.environ.get("STANDIN_SEE", "").split(":")):
        print("sees" if os.path.exists(path) else "does not see", path, flush=True)
    if "STANDIN_NAME" in os.environ:
        print("is", socket.gethostname(), "at", socket.gethostbyname(socket.gethostname()), flush=True)
    while time.process_time() < float(os.environ.get("STANDIN_WORK", "0")):
        pass
    _spawn_descendants()
    new = Path("environment.new")
    new.write_text("".join(f"{name}={value}\n" for name, value in sorted(os.environ.items())))
    listener.listen()
    new.rename("environment")  # readers find it complete, and may connect
    while True:
        listener.accept()[0].close()


DESCENDANTS = 3  # a child, a grandchild, and a daemon by two forks and its own session


def _spawn_descendants() -> None:
    reading, writing = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            _run_forever(writing)
        _run_forever(writing)
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            _run_forever(writing)
        os._exit(0)
    os.waitpid(middle, 0)
    for _ in range(DESCENDANTS):
        os.read(reading, 1)


def _run_forever(writing: int) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(writing, b".")
    while True:
        time.sleep(60)


def control() -> None:
    """Run, and end as control does when it is told to: with 0, so that the host needs no last one to end containers."""
    leave_with(int(sys.argv[sys.argv.index("--lifeline") + 1]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if "STANDIN_CONTROL_EXIT" in os.environ:
        sys.exit(int(os.environ["STANDIN_CONTROL_EXIT"]))
    while True:
        time.sleep(60)


def gateway() -> None:
    """Answer every request with 200 and the pid, or with 503 if control cannot start. On SIGTERM exit at once."""
    leave_with(int(sys.argv[sys.argv.index("--lifeline") + 1]))
    status = b"503 Later" if "STANDIN_CONTROL_EXIT" in os.environ else b"200 OK"
    listener = socket.socket(fileno=int(sys.argv[sys.argv.index("--listen") + 1]))
    while True:
        connection = listener.accept()[0]
        with connection:
            connection.recv(4096)
            pid = b"%d" % os.getpid()
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(pid), pid))


def host() -> None:
    """Run the real host with settings from HOSTLER_*, over these stand-ins."""
    from hostler.errors import UserError
    from hostler.host.main import Programs, run
    from hostler.settings import load

    me = (sys.executable, __file__)
    try:
        sys.exit(run(load({}), Programs((*me, "control"), (*me, "gateway"), "standins:server")))
    except UserError as error:
        print(f"hostler: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    {"host": host, "control": control, "gateway": gateway, "command": command}[sys.argv[1]]()
