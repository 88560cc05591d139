"""What is left of a container that failed is shown without this machine's folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.engines.autopsy import examine, presentable, with_ports
from hostler.engines.engine import Autopsy
from hostler.engines.images import Server
from hostler.engines.rooms import Room
from hostler.processes.listening import Listener

FOLDER = Path("/home/me/.hostler/containers/1.1.0.0.0")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("one\ntwo\n", "one\ntwo"),
        ("\x1b[31mred\x1b[0m\tand\0", "?[31mred?[0m\tand?"),
        (f"no model in {FOLDER}/model/x.json", "no model in /opt/ml/model/x.json"),
        ('File "/usr/lib/python3.11/site-packages/a/b.py", line 3', 'File "b.py", line 3'),
        ('File "/usr/lib/python3.11/json/decoder.py", line 3', 'File "decoder.py", line 3'),
        ("no '/home/me/secret/a.txt', /home/me/", "no 'a.txt', me"),
        ("--config=/home/me/a:/home/me/b file:///home/me/c", "--config=a:b file://c"),
        ("exec /home/me/bin/prog: /home/me/bin/other", "exec /home/me/bin/prog: other"),
        ("/home/mercury/a.txt /home/me-too/a.txt", "/home/mercury/a.txt /home/me-too/a.txt"),
        ("no '/opt/app/config/x.yaml'", "no '/opt/app/config/x.yaml'"),
        ("GET /v2/models/foo HTTP/1.1 404", "GET /v2/models/foo HTTP/1.1 404"),
        (
            "see https://host/home/me/b and 1/2, 3 /4/5 and a/b/c",
            "see https://host/home/me/b and 1/2, 3 /4/5 and a/b/c",
        ),
    ],
)
def test_a_log_shows_none_of_this_machines_private_folders(text: str, shown: str) -> None:
    assert presentable(text, FOLDER, ["/home/me", "/"], ["/home/me/bin/prog", "--x"]) == shown


def test_lines_of_hostlers_own_explain_no_failure(tmp_path: Path) -> None:
    room = Room("i.0", tmp_path, "log", Server(reference="it:1"), None)  # type: ignore[arg-type]
    log = "hostler: pulled it:1\nfirst\nhostler: Docker runs it:1\nlast, of hostler: odd\n"
    assert examine(room, log, tmp_path).log == "first\nlast, of hostler: odd"


@pytest.mark.parametrize(
    ("listeners", "listening", "loopback"),
    [
        ([], (), False),
        ([Listener(8081, False, 1)], (8081,), False),
        ([Listener(8081, True, 1)], (8081,), True),
        ([Listener(8081, True, 1), Listener(8081, False, 2)], (8081,), False),
        (
            [Listener(8080, False, 1), Listener(8082, True, 2), Listener(5000, True, 3), Listener(7901, False, 4)],
            (5000,),
            False,
        ),
    ],
)
def test_a_container_listens_on_its_port_for_all_or_for_itself_and_others_ports_are_not_its(
    listeners: list[Listener], listening: tuple[int, ...], loopback: bool
) -> None:
    found = with_ports(Autopsy(log="l"), listeners, 1, 3, {7901})
    assert (found.port, found.listening, found.loopback, found.log) == (8081, listening, loopback, "l")
