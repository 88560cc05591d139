"""What `hostler up` says of itself: how to find it, that it stops, that it has stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hostler.host.main import env_command
from hostler.settings import Settings

# A host whose parts are up when they say so, and end at nothing but SIGKILL.
PROGRAM = """
import sys
from pathlib import Path
from hostler.host.main import Programs, run
from hostler.settings import Settings
part = ("sh", "-c", "trap '' TERM; echo a part is up; exec sleep 60")
settings = Settings(port=0, data=Path(sys.argv[1]), aws_hosts_port=int(sys.argv[2]), bubblewrap="off")
sys.exit(run(settings, Programs(control=part, gateway=part)))
"""


@contextlib.contextmanager
def hosting(data: Path, proxy_port: int = 0) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(data), str(proxy_port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as host:
        assert host.stderr
        try:
            for _ in range(2):
                while "a part is up" not in host.stderr.readline():
                    assert host.poll() is None
            yield host
        finally:
            host.kill()


def test_the_stop_is_printed_even_if_a_second_signal_shortens_it(tmp_path: Path) -> None:
    with hosting(tmp_path / "data") as host:
        assert host.stdout
        host.send_signal(signal.SIGTERM)
        assert host.stdout.readline() == "stopping\n"
        host.send_signal(signal.SIGTERM)
        assert host.stdout.readline() == "stopped\n"
        assert host.wait(30) == 0


def test_a_host_with_a_closed_stdout_stops_as_well(tmp_path: Path) -> None:
    with hosting(tmp_path / "data") as host:
        assert host.stdout
        host.stdout.close()
        while host.poll() is None:  # the first asks, any other hurries
            host.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                host.wait(0.1)
        assert host.returncode == 0


def test_with_a_taken_port_for_the_proxy_the_settings_that_all_read_say_that_there_is_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        data = tmp_path / "data"
        with hosting(data, taken.getsockname()[1]):
            assert json.loads((Path((data / "run").read_text()) / "settings.json").read_text())["aws_hosts_port"] == 0


def test_the_hint_names_the_data_folder_where_it_is_not_the_usual_one(tmp_path: Path) -> None:
    assert env_command(Path(os.path.expanduser(Settings.data))) == "hostler env"
    folder = tmp_path / "it's mine"
    assert shlex.split(env_command(folder)) == ["hostler", "env", "--data", str(folder)]
