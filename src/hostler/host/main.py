"""The host, which is `hostler up` itself: it starts all other processes, keeps them running, and ends them all.

It decides nothing about endpoints. Its only HTTP request asks whether hostler is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from hostler import contract
from hostler import settings as settings_module
from hostler.control import leaving
from hostler.engines import house
from hostler.errors import UserError
from hostler.host import data_dir, listener, namespaces, proxy, sandbox
from hostler.host.containers import ContainerTable
from hostler.host.control_socket import HostLink
from hostler.host.namespaces import Allowed
from hostler.host.proxy import ProxyProcess
from hostler.host.reaper import Reaper
from hostler.host.respawn import Respawned
from hostler.host.zygote_client import ZygoteClient
from hostler.processes.lifeline import ended
from hostler.processes.spawn import spawn
from hostler.processes.tree import kill
from hostler.settings import Settings

log = logging.getLogger("hostler.host")

_LAST_GRACE = 5.0  # seconds for containers, and for control, when everything stops
_PORT_WAIT = 3.0  # seconds for the processes of a killed host to release its port
_MOST_EXITS = 3  # of one process before hostler was ever ready
_EXIT_HOPELESS = 2  # the exit code of a process that another start cannot help
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Programs:
    """The programs of hostler's other processes."""

    control: tuple[str, ...] = (sys.executable, "-P", "-m", "hostler.control.main")
    gateway: tuple[str, ...] = (sys.executable, "-P", "-m", "hostler.gateway.main")
    server: str = "hostler.servers.main:run"  # forked from the zygote
    proxy: tuple[str, ...] = (sys.executable, "-P", "-m", "hostler.proxy.main")


class Sockets(NamedTuple):
    """The listening sockets: the port, the gateways' socket for AWS's host names, the proxy's port (None: taken)."""

    port: socket.socket
    aws: socket.socket
    proxy: socket.socket | None


def run(settings: Settings, programs: Programs = Programs(), end_with: int | None = None, ahead: bool = True) -> int:
    """Host models until SIGTERM or SIGINT (a second one: at once). Returns the exit code.

    `end_with`: pid of a process whose end, whatever the cause, has the effect of a SIGTERM. `ahead`: frameworks are
    imported before a container needs them.

    Raises UserError, in one clear line, for a setting that a person must correct, such as an address or a port.
    """
    if settings.engine == "kubernetes":
        raise UserError("`hostler up` hosts models on this machine: engine = kubernetes is for `hostler control`")
    verified = settings.signatures == "verify"
    if verified:
        settings_module.access_keys(settings)  # the gateways read them; their mistakes are reported here
    elif settings.keys_file:
        raise UserError(
            'keys_file is set, but signatures are not verified: set signatures = "verify" too, or do not set keys_file'
        )
    if settings.canned_answers:
        from hostler.engines import canned_answers

        canned_answers.read(settings.canned_answers)  # a mistake in it is reported here
    remote = verified or settings.allow_remote_access_without_authentication
    listener.check_remote_access(settings.host, settings.port, remote)
    os.umask(0o077)
    lock = data_dir.lock(settings.data)
    try:
        was_killed = data_dir.clear_stale(settings.data)
        bubblewrap = settings.bubblewrap != "off" and sandbox.bubblewrap_works()
        if settings.bubblewrap == "on" and not bubblewrap:
            raise UserError("bubblewrap does not work here, and the setting `bubblewrap` is on")
        allowed = namespaces.trial()
        if allowed.opt_ml:
            _say(f"There is no {contract.BASE_DIR} for scripts and hostler's own servers here: {allowed.opt_ml}")
        patience = _PORT_WAIT if was_killed else 0.0
        with contextlib.ExitStack() as bound:
            port = bound.enter_context(listener.listen(settings.host, settings.port, patience))
            aws_hosts = proxy.listen(settings, port.getsockname()[1], patience)
            if aws_hosts is not None:
                bound.enter_context(aws_hosts)
            # From here on the setting is the port that the proxy has; 0: there is no proxy.
            settings = replace(settings, aws_hosts_port=aws_hosts.getsockname()[1] if aws_hosts else 0)
            folder = _prepare(settings)
            try:
                sockets = Sockets(port, bound.enter_context(listener.listen_unix(folder / "aws.sock")), aws_hosts)
                code = asyncio.run(_Host(settings, programs, folder, sockets, bubblewrap, allowed).run(end_with, ahead))
            finally:
                data_dir.remove_run_folder(settings.data, folder)
        _say("stopped")
        return code
    finally:
        os.close(lock)


def _prepare(settings: Settings) -> Path:
    """Make the run folder with the settings in it, and the folders that all processes write to. Raises UserError."""
    try:
        folder = data_dir.make_run_folder(settings.data)
        (folder / "settings.json").write_text(json.dumps(settings_module.dump(settings)))
        for name in ("containers", "logs"):
            (settings.data / name).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename or settings.data} cannot be used: {error.strerror}") from None
    return folder


class _Host:
    def __init__(
        self, settings: Settings, programs: Programs, folder: Path, sockets: Sockets, bubblewrap: bool,
        allowed: Allowed,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._programs = programs
        self._folder = folder
        self._sockets = sockets
        self._bubblewrap = bubblewrap
        self._allowed = allowed
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()  # a second signal: nobody gets time to finish
        self._ready = False
        self._exits: dict[str, int] = {}  # by process
        self._code = 0

    async def run(self, end_with: int | None, ahead: bool) -> int:
        """Start everything, run until a signal or a hopeless process, stop everything. Returns the exit code."""
        # 1. Catch the signals, and allow many open files.
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores the terminal's end
                loop.add_signal_handler(number, self._on_signal)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))

        # 2. Start the processes. The lifeline's write end is only here: it closes with this process.
        lifeline, _ = os.pipe()
        reaper = Reaper()
        zygote = ZygoteClient(self._programs.server, lifeline, reaper)
        link = HostLink(self._end_gateway)
        containers = ContainerTable(
            self._folder, self._settings.data, lifeline, reaper, zygote, self._bubblewrap, self._allowed, link.changed
        )
        await link.serve(self._folder / "host.sock", containers)
        start_control = self._spawner(self._programs.control, lifeline)
        control = self._needed("control", start_control, reaper)
        listening = {"--listen": self._sockets.port, "--aws-listen": self._sockets.aws}
        self._gateways = [
            self._needed(name, self._spawner(self._programs.gateway, lifeline, listening, "--name", name), reaper)
            for name in (f"g{number + 1}" for number in range(max(1, self._settings.gateways)))
        ]
        listening = {"--listen": self._sockets.proxy} if self._sockets.proxy else {}
        proxy_process = ProxyProcess(
            self._sockets.proxy, Respawned("proxy", self._spawner(self._programs.proxy, lifeline, listening), reaper)
        )
        for process in (zygote.process, control, *self._gateways):
            process.start()
        tasks = [asyncio.create_task(self._announce(zygote if ahead else None))]
        if end_with is not None:
            tasks.append(asyncio.create_task(self._end_with(end_with)))
        await self._stopping.wait()
        _say("stopping")

        # 3. Stop: callers first, containers last.
        for task in tasks:
            task.cancel()
        drain = self._settings.drain_timeout
        self._sockets.port.close()
        self._sockets.aws.close()
        await asyncio.gather(*(gateway.stop(drain + 1, self._hurry) for gateway in self._gateways))
        await proxy_process.stop(self._hurry)
        await self._end_control(control, start_control, reaper)
        link.close()
        await zygote.stop(self._hurry)
        await containers.stop_all(_LAST_GRACE, self._hurry)
        # 4. After the loop's end another signal would end this process before it removes its folders.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        return self._code

    def _spawner(
        self, program: tuple[str, ...], lifeline: int,
        listening: Mapping[str, socket.socket] = MappingProxyType({}), *more: str,
    ) -> Callable[[], int]:  # fmt: skip
        """Return a function that starts the program. `listening`: the sockets that it is given, by their options."""
        fds = {option: sock.fileno() for option, sock in listening.items()}
        options = [word for option, fd in fds.items() for word in (option, str(fd))]
        argv = [*program, "--run", str(self._folder), "--lifeline", str(lifeline), *options, *more]
        return lambda: spawn(argv, os.environ, keep=[lifeline, *fds.values()])

    def _needed(self, name: str, start: Callable[[], int], reaper: Reaper) -> Respawned:
        """Return a process without which there is no hostler."""
        return Respawned(name, start, reaper, lambda code: self._has_exited(name, code))

    async def _end_control(self, control: Respawned, start: Callable[[], int], reaper: Reaper) -> None:
        """Stop control, which stops the containers in Docker before it ends: they are no children of the host.

        If it was dead, hung or had to hurry, it has not done so. Then a last control does it, and nothing else.
        """
        leaving.announce(self._folder, _LAST_GRACE)
        docker = house.exists(self._settings.data)
        patience = leaving.PATIENCE if docker else 0.0
        await control.stop(_LAST_GRACE + patience, self._hurry)
        if not docker or control.exit == 0:
            return
        leaving.announce(self._folder, 0.0 if self._hurry.is_set() else _LAST_GRACE)
        ended = asyncio.Event()
        try:
            pid = start()
        except OSError as error:
            log.error("containers may be left in Docker, which `hostler gc` removes: %s", error.strerror)
            return
        reaper.watch(pid, lambda code: ended.set())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), _LAST_GRACE + 2 * patience)
        if not ended.is_set():
            kill(pid, signal.SIGKILL)
            log.error("containers may be left in Docker, which `hostler gc` removes: control does not end")
            await ended.wait()

    def _has_exited(self, name: str, code: int) -> None:
        """Stop hostler if a process exits repeatedly before it was ever ready."""
        self._exits[name] = self._exits.get(name, 0) + 1
        if not self._ready and (code == _EXIT_HOPELESS or self._exits[name] >= _MOST_EXITS):
            log.error("%s cannot be started; its messages are above", name)
            self._code = 1
            self._stopping.set()

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def _end_with(self, pid: int) -> None:
        await ended(pid)
        self._stopping.set()

    def _end_gateway(self, pid: int) -> None:
        if pid and pid in [gateway.pid for gateway in self._gateways]:
            kill(pid, signal.SIGKILL)

    async def _announce(self, zygote: ZygoteClient | None) -> None:
        """Wait until hostler answers through its own port, print its URL, then have the zygote import ahead."""
        host, port = self._sockets.port.getsockname()[:2]
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        while not await _is_ready(reachable, port):  # noqa: ASYNC110 (the answer is another process's)
            await asyncio.sleep(0.02)
        self._ready = True
        url = f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"
        with contextlib.suppress(OSError):  # the disk may be full
            (self._settings.data / "url").write_text(url + "\n")
        _say(f"hostler is ready on {url}")
        _say(f'Point AWS programs at it: eval "$({env_command(self._settings.data)})"    Stop it: Ctrl-C')
        if zygote:
            await zygote.preload()


def _say(text: str) -> None:
    """Print a line. A closed stdout is no reason to stop."""
    try:
        print(text, flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)  # at its exit Python writes the unwritten rest there
        os.close(null)


def env_command(data: Path) -> str:
    """Return the command that finds the hostler of this data folder in a shell without our settings."""
    default = os.path.expanduser(Settings.data)
    return "hostler env" if str(data) == default else f"hostler env --data {shlex.quote(str(data))}"


async def _is_ready(host: str, port: int) -> bool:
    """True if GET /_hostler/ready answers 200 through the port."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"GET /_hostler/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        return run(settings_module.load({}))
    except UserError as error:
        print(f"hostler: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
