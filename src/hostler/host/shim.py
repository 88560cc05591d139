"""The shim: runs one command and ends its whole process tree with it, where bubblewrap does not work.

It also runs bubblewrap itself, for a command that has no network: in a network namespace, with the relay to it.

It adopts the command's orphans. The whole tree ends when the command ends, when the host's lifeline closes, and when
the shim itself is killed (then the host finds the orphans). SIGTERM is passed to the command.

Run as `python -m hostler.host.shim LIFELINE PLAN`: two file descriptors; PLAN holds a Plan as JSON.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys

from hostler.host import namespaces
from hostler.host.sandbox import Plan, terminate_wrapped
from hostler.processes import relay
from hostler.processes.tree import adopt_orphans, end_descendants, kill, reap


def main() -> None:
    lifeline, plan_file = int(sys.argv[1]), int(sys.argv[2])
    with open(plan_file) as file:
        plan: Plan = json.load(file)
    os.set_inheritable(lifeline, False)
    adopt_orphans()
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)
    relayed = plan.get("relay")
    try:
        if relayed:
            namespaces.enter_network()  # before there is another thread
            listener = socket.socket(fileno=relayed[0])
            listener.set_inheritable(False)
            relay.start(listener, relayed[1])
        pid = _start(plan)
    except OSError as error:
        print(f"{plan['command'][0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)
    code: int | None = None
    while code is None:
        ready = select.select([woken, lifeline], [], [])[0]
        if lifeline in ready:
            break
        if signal.SIGTERM in os.read(woken, 512):
            if relayed:
                terminate_wrapped(pid)
            else:
                kill(pid, signal.SIGTERM)
        code = _reap(pid)
    end_descendants()
    _exit_like(code)


def _start(plan: Plan) -> int:
    os.chdir(plan["folder"])
    # Look the command up in its own PATH, not in ours.
    os.environ["PATH"] = plan["environment"].get("PATH", os.defpath)
    return os.posix_spawnp(
        plan["command"][0], plan["command"], plan["environment"],
        setsigmask=(), setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )  # fmt: skip


def _reap(command: int) -> int | None:
    """Collect the children that have exited. Returns the command's exit code, or None if it still runs."""
    return dict(reap()).get(command)


def _exit_like(code: int | None) -> None:
    """Exit as the command did, so that the host sees the same exit code or signal."""
    if code is not None and code < 0:
        if code not in (-signal.SIGKILL, -signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(1 if code is None else code)


if __name__ == "__main__":
    main()
