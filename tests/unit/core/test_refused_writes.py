"""Lines that programs write when the system refuses to write, and the folders that they would need."""

from __future__ import annotations

import pytest

from hostler.core.endpoints import refused_writes

LINES = {
    'nginx: [emerg] mkdir() "/var/lib/nginx/body" failed (30: Read-only file system)': "/var/lib/nginx",
    "OSError: [Errno 30] Read-only file system: '/var/log/server/today.log'": "/var/log/server",
    "ln: failed to create symbolic link '/var/log/nginx/access.log': Read-only file system": "/var/log/nginx",
    "mkdir: cannot create directory ‘/srv/cache/app’: Read-only file system": "/srv/cache",
    "touch: cannot touch '/var/x': Read-only file system": "/var/x",
    "/opt/program/serve: line 3: /var/app/state: Read-only file system": "/var/app",
    "sh: 1: cannot create /var/run2/server.pid: Read-only file system": "/var/run2",
    "java.io.FileNotFoundException: /var/server/x.log (Read-only file system)": "/var/server",
    "panic: open /srv/data/x: read-only file system": "/srv/data",
}


@pytest.mark.parametrize("line", LINES)
def test_the_folder_of_a_file_that_could_not_be_written_is_found(line: str) -> None:
    assert refused_writes.folders(f"starting\n{line}\nserving https://example.com/a/b") == (LINES[line],)


def test_each_folder_is_named_once_and_none_that_lies_in_another() -> None:
    log = "\n".join(f"open '/var/lib/{path}': Read-only file system" for path in ("a/x", "a/y", "a/b/z", "c/x"))
    assert refused_writes.folders(log) == ("/var/lib/a", "/var/lib/c")
    assert refused_writes.folders("all is well with /var/lib/a/x") == ()
    assert refused_writes.folders("Error: Read-only file system (os error 30)") == ()


@pytest.mark.parametrize(
    "line",
    [
        'nginx: [emerg] chown("/var/lib/nginx/body", 33) failed (1: Operation not permitted)',
        "2026/11/30 08:00:00 [emerg] 7#7: setgid(33) failed (1: Operation not permitted)",
        "chown: changing ownership of '/opt/ml/model/x': Operation not permitted",
    ],
)
def test_a_change_of_owner_or_user_that_is_refused_is_recognised(line: str) -> None:
    assert refused_writes.owner(line)
    assert not refused_writes.owner(line.replace("Operation not permitted", "No such file or directory"))
