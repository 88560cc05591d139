"""The table of containers, the only record of those that run: their start, their stop, and how they ended.

It does not know why a container is needed. An exited container stays in the table until it is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hostler import contract
from hostler.errors import EngineError
from hostler.host import sandbox
from hostler.host.namespaces import Allowed, View
from hostler.host.ports import Ports, ports_environment
from hostler.host.reaper import Reaper
from hostler.host.respawn import exit_words, wait_unless_hurried
from hostler.host.zygote import Fork
from hostler.host.zygote_client import ONE_THREAD, ZygoteClient
from hostler.processes import relay
from hostler.processes.tree import kill
from hostler.wire.host_messages import Child, Spawn

log = logging.getLogger("hostler.host")

_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")  # the variables that a container inherits


class Container:
    """A container. It runs if `pid` is set and `exit` is None."""

    def __init__(self, spawn: Spawn) -> None:
        self.spawn = spawn
        self.pid = 0
        self.port = 0  # of one that runs a command
        self.wrapped = False  # it runs under bubblewrap
        self.address = ""
        self.base = spawn.folder
        self.started = time.time()
        self.exit: int | None = None
        self.start_done = asyncio.Event()  # it has started, or its start has failed
        self.ended = asyncio.Event()

    def child(self) -> Child:
        """Return the container as control is sent it."""
        spawn = self.spawn
        return Child(spawn.id, self.pid, self.address, self.started, spawn.labels, self.exit, self.base, spawn.isolated)


class ContainerTable:
    """`changed` is called whenever a container started or ended."""

    def __init__(
        self, run: Path, data: Path, lifeline: int, reaper: Reaper, zygote: ZygoteClient, bubblewrap: bool,
        allowed: Allowed, changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._run = run
        self._data = data
        self._lifeline = lifeline
        self._reaper = reaper
        self._zygote = zygote
        self._bubblewrap = bubblewrap
        self._allowed = allowed
        self._changed = changed
        self._ports = Ports()
        self.containers: dict[str, Container] = {}

    def list(self) -> tuple[Child, ...]:
        """List the containers that were started and not stopped."""
        return tuple(container.child() for container in self.containers.values() if container.pid)

    async def start(self, spawn: Spawn) -> Child:
        """Start a container, once for each id, and return it. Raises EngineError if it cannot be started."""
        if container := self.containers.get(spawn.id):
            await container.start_done.wait()
            if spawn.id not in self.containers:
                raise EngineError("it could not be started just now")
            return container.child()
        if not _ID.fullmatch(spawn.id) or bool(spawn.framework) == bool(spawn.command):
            raise EngineError("this starts no container: a short plain id, and either a framework or a command")
        container = self.containers[spawn.id] = Container(spawn)
        try:
            await (self._execute(container) if spawn.command else self._fork(container))
        except Exception as error:
            self._drop(container)
            if not isinstance(error, (OSError, ValueError, EngineError)):
                raise
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise EngineError(reason) from None
        finally:
            container.start_done.set()
        log.info("container %s started, process %d", spawn.id, container.pid)
        self._changed()
        return container.child()

    async def stop(self, id: str, grace: float, hurry: asyncio.Event | None = None) -> None:
        """Send SIGTERM, after `grace` seconds (or a hurry) SIGKILL, then drop it. Returns when nothing of it runs."""
        if (container := self.containers.get(id)) is None:
            return
        await container.start_done.wait()
        if container.pid and container.exit is None:
            if container.wrapped and not container.spawn.isolated:  # else the shim passes it on
                sandbox.terminate_wrapped(container.pid)
            else:
                kill(container.pid, signal.SIGTERM)
            await wait_unless_hurried(container.ended, grace, hurry or asyncio.Event())
        if container.pid and container.exit is None:
            kill(container.pid, signal.SIGKILL)
            await container.ended.wait()
        await self._reaper.wait_for_strangers()
        if self.containers.get(id) is container:
            self._drop(container)
            self._changed()

    async def stop_all(self, grace: float, hurry: asyncio.Event) -> None:
        """Stop every container at the same time."""
        await asyncio.gather(*(self.stop(id, grace, hurry) for id in [*self.containers]))

    async def _fork(self, container: Container) -> None:
        spawn = container.spawn
        self._check_isolation(spawn)
        sockets = self._sockets(spawn)
        container.address = f"unix:{sockets}/s"
        view = None
        if not self._allowed.opt_ml:
            container.base = contract.BASE_DIR
            artifacts = spawn.environment.get(contract.ENV_ARTIFACTS, "")
            view = View(spawn.folder, artifacts, spawn.isolated, str(self._run), str(sockets))
        environment = {
            **_inherited(),
            **ONE_THREAD,
            "HOME": container.base,
            "TMPDIR": f"{container.base if view else sockets}/tmp",
            **{name: _container_path(container, value) for name, value in spawn.environment.items()},
            contract.ENV_BASE_DIR: container.base,
            contract.ENV_BIND_TO_PORT: str(
                contract.DEFAULT_PORT
            ),  # as every container has it; ours listens on its socket
            contract.ENV_SOCKET: f"{sockets}/s",
            contract.ENV_LIFELINE: str(self._lifeline),
            contract.ENV_FRAMEWORK: spawn.framework,
        }
        with self._reaper.spawning():
            pid = await self._zygote.fork(Fork(spawn.folder, spawn.log, _checked(environment), spawn.framework, view))
            self._watch(container, pid)

    async def _execute(self, container: Container) -> None:
        spawn = container.spawn
        self._check_isolation(spawn)
        sockets = self._sockets(spawn)
        if spawn.isolated:  # its ports are its own
            port, container.address = contract.DEFAULT_PORT, f"unix:{sockets}/s"
        else:
            port = container.port = self._ports.take()
            container.address = f"tcp:127.0.0.1:{port}"
        container.wrapped = self._bubblewrap
        container.base = contract.BASE_DIR if self._bubblewrap else spawn.folder
        environment = {
            **_inherited(),
            "PYTHONUNBUFFERED": "1",  # so that a killed container's log is complete
            "HOME": container.base,
            "TMPDIR": "/tmp" if self._bubblewrap else f"{sockets}/tmp",
            **{name: _container_path(container, value) for name, value in spawn.environment.items()},
            contract.ENV_BASE_DIR: container.base,
            **ports_environment(port),
        }
        if not self._bubblewrap:  # Java reads no other variable, and two of its servers would share /tmp
            environment.setdefault("JAVA_TOOL_OPTIONS", f"-Djava.io.tmpdir={sockets}/tmp")
        command = sandbox.with_serve(spawn.command)
        folder = Path(spawn.folder)
        with contextlib.ExitStack() as opened:
            output = os.open(spawn.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            opened.callback(os.close, output)
            if self._bubblewrap:
                listener = opened.enter_context(relay.listen(f"{sockets}/s")) if spawn.isolated else None
                relayed = sandbox.Relay(listener.fileno(), port, self._lifeline) if listener else None
                walls = sandbox.Walls(folder, (self._data, self._run), spawn.tmpfs, relayed)
                pid = sandbox.start_wrapped(command, _checked(environment), output, walls)
            else:
                pid = sandbox.start_shimmed(command, _checked(environment), folder, output, self._lifeline)
        sandbox.prefer_for_oom_kill(pid)
        self._watch(container, pid)

    def _check_isolation(self, spawn: Spawn) -> None:
        """Raise EngineError if a container must have no network, and this machine cannot take it away."""
        reason = self._allowed.isolation
        if not reason and spawn.command and not self._bubblewrap:
            reason = "a command has no network only under bubblewrap, which does not work here or is switched off"
        if spawn.isolated and reason:
            raise EngineError(f"its model has EnableNetworkIsolation, which this machine does not allow: {reason}")

    def _watch(self, container: Container, pid: int) -> None:
        container.pid = pid
        self._reaper.watch(pid, lambda code: self._has_ended(container, code))

    def _has_ended(self, container: Container, code: int) -> None:
        container.exit = sandbox.wrapped_exit(code) if container.wrapped else code
        container.ended.set()
        log.info("container %s ended (%s)", container.spawn.id, exit_words(container.exit))
        self._changed()

    def _drop(self, container: Container) -> None:
        self.containers.pop(container.spawn.id, None)
        self._ports.release(container.port)
        shutil.rmtree(self._run / "c" / container.spawn.id, ignore_errors=True)

    def _sockets(self, spawn: Spawn) -> Path:
        """Create the container's folder for sockets, with a short path to its temporary folder, for sockets there."""
        temporary = Path(spawn.folder, "tmp")
        temporary.mkdir(exist_ok=True)
        sockets = self._run / "c" / spawn.id
        shutil.rmtree(sockets, ignore_errors=True)
        sockets.mkdir(parents=True)
        (sockets / "tmp").symlink_to(temporary)
        return sockets


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def _checked(environment: dict[str, str]) -> dict[str, str]:
    """Check that a process can have this environment. Raises ValueError."""
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"the environment variable {name!r} cannot be set")
    return environment


def _container_path(container: Container, value: str) -> str:
    """Return a path below the container's folder as the container's own path; any other value unchanged."""
    folder = container.spawn.folder
    if value == folder or value.startswith(folder + "/"):
        return container.base + value.removeprefix(folder)
    return value
