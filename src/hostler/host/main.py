"""The host, which is `hostler up` itself: it starts the house, keeps it running, and leaves nothing of it behind.

It decides nothing about endpoints and speaks no HTTP but to ask whether the house is ready.
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
from dataclasses import dataclass
from pathlib import Path

from hostler import settings as settings_module
from hostler.errors import UserError
from hostler.host import data_dir, listener, sandbox
from hostler.host.containers import ContainerTable
from hostler.host.control_socket import HostLink
from hostler.host.reaper import Reaper
from hostler.host.respawn import Respawned
from hostler.host.zygote_client import ZygoteClient
from hostler.processes.spawn import spawn
from hostler.processes.tree import kill
from hostler.settings import Settings

log = logging.getLogger("hostler.host")

_LAST_GRACE = 5.0  # seconds for containers, and for control, when everything stops
_LET_GO = 3.0  # seconds for the processes of a host that was killed to let its port go
_HOPELESS = 3  # deaths of one process before the house was ever ready
_NEVER = 2  # the exit code by which a process says that it will never start like this
_SWEEP = 60.0
_LEAVE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Programs:
    """What the host runs."""

    control: tuple[str, ...] = (sys.executable, "-P", "-m", "hostler.control.main")
    gateway: tuple[str, ...] = (sys.executable, "-P", "-m", "hostler.gateway.main")
    server: str = "hostler.servers.main:run"  # forked from the zygote


def run(settings: Settings, programs: Programs = Programs()) -> int:
    """Host models until SIGTERM or SIGINT (a second one: at once). Returns the exit code.

    Raises UserError, with one clear line, for what a person has to set right: an address, a port, a data folder.
    """
    os.umask(0o077)
    verified = settings.signatures == "verify"
    if verified:
        settings_module.access_keys(settings)  # the gateways read them; what is wrong with them is said here
    elif settings.keys_file:
        raise UserError(
            'keys_file is set, but nobody is asked for a key: set signatures = "verify" too, or do not set keys_file'
        )
    remote = verified or settings.allow_remote_access_without_authentication
    listener.check_reach(settings.host, settings.port, remote)
    lock = data_dir.lock(settings.data)
    try:
        unclean = data_dir.left_behind(settings.data)
        bubblewrap = settings.bubblewrap != "off" and sandbox.bubblewrap_works()
        if settings.bubblewrap == "on" and not bubblewrap:
            raise UserError("bubblewrap does not work here, and the setting `bubblewrap` is on")
        with listener.listen(settings.host, settings.port, _LET_GO if unclean else 0.0) as bound:
            folder = _prepare(settings)
            try:
                code = asyncio.run(_Host(settings, programs, folder, bound, bubblewrap).live())
            finally:
                data_dir.leave(settings.data, folder)
        _say("stopped")
        return code
    finally:
        os.close(lock)


def _prepare(settings: Settings) -> Path:
    """A run folder with the settings in it, and the folders that all parts write to."""
    try:
        folder = data_dir.run_folder(settings.data)
        (folder / "settings.json").write_text(json.dumps(settings_module.dump(settings)))
        for name in ("containers", "logs"):
            (settings.data / name).mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename or settings.data} cannot be used: {error.strerror}") from None
    return folder


class _Host:
    def __init__(
        self, settings: Settings, programs: Programs, folder: Path, listener: socket.socket, bubblewrap: bool
    ) -> None:
        self._settings = settings
        self._programs = programs
        self._folder = folder
        self._listener = listener
        self._bubblewrap = bubblewrap
        self._leave = asyncio.Event()
        self._hurry = asyncio.Event()
        self._ready = False
        self._deaths: dict[str, int] = {}
        self._code = 0

    async def live(self) -> int:
        loop = asyncio.get_running_loop()
        for number in _LEAVE:
            if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup, the end of the terminal is no end
                loop.add_signal_handler(number, self._asked_to_leave)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))

        # Nobody ever writes to the lifeline. Its writing end is ours alone, so it closes when we are gone.
        lifeline, _ = os.pipe()
        reaper = Reaper()
        forks = ZygoteClient(self._programs.server, lifeline, reaper)
        link = HostLink(self._end_gateway)
        children = ContainerTable(
            self._folder, self._settings.data, lifeline, reaper, forks, self._bubblewrap, link.changed
        )
        await link.serve(self._folder / "host.sock", children)
        control = self._keep("control", self._programs.control, reaper, lifeline)
        self._gateways = [
            self._keep(
                name, self._programs.gateway, reaper, lifeline, "--listen", str(self._listener.fileno()), "--name", name
            )
            for name in (f"g{number + 1}" for number in range(max(1, self._settings.gateways)))
        ]
        for kept in (forks.zygote, control, *self._gateways):
            kept.start()
        chores = [asyncio.create_task(self._announce(forks)), asyncio.create_task(_sweep(children))]
        await self._leave.wait()
        _say("stopping")

        for chore in chores:
            chore.cancel()
        drain = self._settings.drain_timeout
        self._listener.close()
        await asyncio.gather(*(gateway.stop(drain + 1, self._hurry) for gateway in self._gateways))
        await control.stop(_LAST_GRACE, self._hurry)
        link.close()
        await forks.stop(self._hurry)
        await children.stop_all(_LAST_GRACE, self._hurry)
        # Once the loop is closed one more signal would end us on the spot, before our folders are cleared away.
        signal.pthread_sigmask(signal.SIG_BLOCK, _LEAVE)
        return self._code

    def _keep(self, name: str, program: tuple[str, ...], reaper: Reaper, lifeline: int, *more: str) -> Respawned:
        argv = [*program, "--run", str(self._folder), "--lifeline", str(lifeline), *more]
        keep = [lifeline, self._listener.fileno()] if more else [lifeline]
        return Respawned(name, lambda: spawn(argv, os.environ, keep=keep), reaper, lambda code: self._died(name, code))

    def _died(self, name: str, code: int) -> None:
        """Before the house was ever ready, a process that dies again and again is no accident."""
        self._deaths[name] = self._deaths.get(name, 0) + 1
        if not self._ready and (code == _NEVER or self._deaths[name] >= _HOPELESS):
            log.error("%s cannot be started; what it said stands above", name)
            self._code = 1
            self._leave.set()

    def _asked_to_leave(self) -> None:
        if self._leave.is_set():
            self._hurry.set()
        self._leave.set()

    def _end_gateway(self, pid: int) -> None:
        if pid and pid in [gateway.pid for gateway in self._gateways]:
            kill(pid, signal.SIGKILL)

    async def _announce(self, forks: ZygoteClient) -> None:
        """Wait until the house answers through its own port, and say so."""
        host, port = self._listener.getsockname()[:2]
        reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        while not await _answers(reach, port):  # noqa: ASYNC110 (the answer is another process's)
            await asyncio.sleep(0.02)
        self._ready = True
        url = f"http://{f'[{reach}]' if ':' in reach else reach}:{port}"
        with contextlib.suppress(OSError):  # the disk may be full
            (self._settings.data / "url").write_text(url + "\n")
        _say(f"hostler is ready on {url}")
        _say(f'Point AWS programs at it: eval "$({env_command(self._settings.data)})"    Stop it: Ctrl-C')
        await forks.warm()


def _say(text: str) -> None:
    """A line on stdout; that nobody listens any more is no reason to stop."""
    try:
        print(text, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # where Python finds room at its end for what it could not write
        os.close(nowhere)


def env_command(data: Path) -> str:
    """The command that finds the hostler of this data folder, for a shell that has none of our settings."""
    usual = os.path.expanduser(Settings.data)
    return "hostler env" if str(data) == usual else f"hostler env --data {shlex.quote(str(data))}"


async def _answers(host: str, port: int) -> bool:
    """Does GET /_hostler/ready answer 200 through the port?"""
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


async def _sweep(children: ContainerTable) -> None:
    while True:
        await asyncio.sleep(_SWEEP)
        children.trim_logs()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        return run(settings_module.load({}))
    except UserError as error:
        print(f"hostler: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
