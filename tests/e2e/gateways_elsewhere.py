"""Gateways that link with the control of a `hostler up` over TLS, as those of other machines do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from running import REPOSITORY, Hostler, eventually

from certificates import CertificateAuthority
from free_ports import free_port

TOKEN = "a token that the gateways of these tests show"


class Network:
    """The addresses of control's door and API on `host`, their certificates and the gateways' token."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        folder.mkdir(exist_ok=True)
        self.door, self.api = (f"tls:{host}:{free_port()}" for _ in range(2))
        self.certificates = CertificateAuthority().issue(folder / "certificates", host)
        self.token, self.tokens = folder / "token", folder / "tokens.toml"
        self.token.write_text(TOKEN)
        self.tokens.touch(0o600)
        self.tokens.write_text(f'gateway = "{TOKEN}"\n')

    def settings(self) -> dict[str, Any]:
        """Those of `hostler up`."""
        return {
            "link_listen": self.door,
            "api_listen": self.api,
            "link_certificates": self.certificates,
            "link_tokens": self.tokens,
        }


class GatewayElsewhere:
    """A `hostler gateway`. `enter`: a command before it, such as one that enters another network."""

    def __init__(
        self, folder: Path, network: Network, *, host: str = "127.0.0.1", enter: Sequence[str] = (), **settings: Any
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.network, self.enter = folder, network, enter
        self.url = f"http://{host}:{free_port()}"
        self.output = folder / "output.txt"
        self.settings = {
            "host": host,
            "port": self.url.rpartition(":")[2],
            "data": folder / "data",
            "control_address": network.door,
            "link_certificates": network.certificates,
            "link_token": network.token,
            "allow_remote_access_without_authentication": host != "127.0.0.1",
            "pod": folder.name,
            **settings,
        }

    def start(self) -> GatewayElsewhere:
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.folder),
            "PYTHONPATH": str(REPOSITORY / "src"),
            **{f"HOSTLER_{name.upper()}": str(value) for name, value in self.settings.items()},
        }
        with self.output.open("ab") as output:
            self.popen = subprocess.Popen(
                [*self.enter, sys.executable, "-m", "hostler.cli", "gateway"],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        return self

    def page(self) -> tuple[int, dict[str, Any]]:
        """Status and content of its own page; status 0: it does not listen yet."""
        request = urllib.request.Request(f"{self.url}/_hostler/gateway", headers={"Host": "localhost"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            assert self.popen.poll() is None, f"it has ended:\n{self.tail()}"
            return 0, {}

    def wait_until_ready(self) -> GatewayElsewhere:
        eventually(lambda: self.page()[0] == 200, 60, "it is ready", self.tail)
        return self

    def tail(self) -> str:
        return self.output.read_text()[-8000:]

    def stop(self) -> None:
        """Send SIGTERM; it must end with code 0."""
        self.popen.send_signal(signal.SIGTERM)
        assert self.popen.wait(60) == 0, self.tail()

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self.popen.kill()
        self.popen.wait(60)


@contextlib.contextmanager
def gateway_elsewhere(folder: Path, network: Network, **settings: Any) -> Iterator[GatewayElsewhere]:
    gateway = GatewayElsewhere(folder, network, **settings).start()
    try:
        yield gateway.wait_until_ready()
    finally:
        gateway.kill()


class Machine:
    """A network namespace of this machine, with two cables to it: one for callers, one for control, which can be cut.

    A cut cable says nothing: what is sent is lost.
    """

    def __init__(self) -> None:
        self.name = f"hl{os.getpid()}"
        subnet = os.getpid() % 250
        self.here, self.control_here = f"10.251.{subnet}.1", f"10.252.{subnet}.1"
        self.there, self.enter = f"10.251.{subnet}.2", ("ip", "netns", "exec", self.name)
        self._cables = (f"{self.name}a", f"{self.name}b")

    def __enter__(self) -> Machine:
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        for cable, here in zip(self._cables, (self.here, self.control_here), strict=True):
            there = f"{here[:-1]}2"
            _ip("link", "add", cable, "type", "veth", "peer", "name", "there", "netns", self.name)
            _ip("-n", self.name, "link", "set", "there", "name", f"{cable}-")
            _ip("address", "add", f"{here}/24", "dev", cable)
            _ip("-n", self.name, "address", "add", f"{there}/24", "dev", f"{cable}-")
            _ip("link", "set", cable, "up")
            _ip("-n", self.name, "link", "set", f"{cable}-", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for cable in self._cables:
            subprocess.run(["ip", "link", "delete", cable], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)

    def cut_off_control(self) -> None:
        _ip("link", "set", self._cables[1], "down")

    def mend(self) -> None:
        _ip("link", "set", self._cables[1], "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def through(hostler: Hostler, gateway: GatewayElsewhere) -> Hostler:
    """The same hostler, called through another gateway."""
    other = Hostler(hostler.folder, hostler.settings)
    other.url = gateway.url
    return other
