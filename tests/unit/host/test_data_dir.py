"""The data folder, the port and the run folder."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from free_ports import free_port
from hostler import settings
from hostler.engines.house import open_house
from hostler.errors import UserError
from hostler.host import data_dir, listener


def test_a_data_folder_is_made_private_and_locked_once(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    lock = data_dir.lock(data)
    assert data.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UserError, match=rf"is in use by another hostler \(process {os.getpid()}\)"):
        data_dir.lock(data)
    os.close(lock)
    os.close(data_dir.lock(data))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.9.9.9"])
def test_loopback_addresses_need_no_leave(host: str) -> None:
    listener.check_remote_access(host, 4566, allow_remote=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_are_refused_unless_they_are_allowed(host: str) -> None:
    with pytest.raises(UserError, match="--allow-remote-access-without-authentication"):
        listener.check_remote_access(host, 4566, allow_remote=False)
    listener.check_remote_access(host, 4566, allow_remote=True)


@pytest.mark.parametrize("host", ["nohost.invalid", "a..b"])
def test_a_name_that_cannot_be_resolved_is_an_error_with_its_port_and_cause(host: str) -> None:
    with pytest.raises(UserError, match=rf"^hostler cannot listen on {re.escape(host)} port 14567: [^\[]+$") as caught:
        listener.check_remote_access(host, 14567, allow_remote=False)
    assert "codec" not in str(caught.value)


def test_a_port_is_had_once() -> None:
    port = free_port()
    with listener.listen("127.0.0.1", port) as bound:
        assert not bound.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        with pytest.raises(UserError, match=rf"port {port} on 127\.0\.0\.1 is taken"):
            listener.listen("127.0.0.1", port)
    listener.listen("127.0.0.1", port).close()


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("a..b", 0)])
def test_an_address_that_cannot_be_had_is_one_clear_line(host: str, port: int) -> None:
    with pytest.raises(UserError, match="hostler cannot listen on"):
        listener.listen(host, port)


def test_a_killed_hosts_files_are_removed_and_no_others(tmp_path: Path) -> None:
    assert not data_dir.clear_stale(tmp_path)
    program = (
        "import pathlib, sys; from hostler.host import data_dir; data_dir.make_run_folder(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    run = Path((tmp_path / "run").read_text())
    assert run.stat().st_mode & 0o777 == 0o700
    assert len(str(run)) < 45
    (tmp_path / "containers" / "one").mkdir(parents=True)
    (tmp_path / "hostler.db").touch()
    assert data_dir.clear_stale(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["hostler.db"]
    assert not run.exists()


@pytest.mark.parametrize("record", ["/", "", "hostler-relative", "\0", "TMP/precious", "TMP/hostler-link"])
def test_a_record_that_names_no_run_folder_removes_nothing(tmp_path: Path, record: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "hostler-link").symlink_to(precious)
    data = tmp_path / "data"
    data.mkdir()
    (data / "run").write_text(record.replace("TMP", str(tmp_path)))
    data_dir.clear_stale(data)
    assert (precious / "file").exists()


def test_leaving_removes_the_run_folder_and_its_signs(tmp_path: Path) -> None:
    run = data_dir.make_run_folder(tmp_path)
    (tmp_path / "url").touch()
    data_dir.remove_run_folder(tmp_path, run)
    assert not run.exists()
    assert not list(tmp_path.iterdir())


def test_a_running_hostler_is_found_with_its_address_and_a_killed_one_is_not(
    tmp_path: Path,
) -> None:
    assert data_dir.running(tmp_path / "misspelt") is None
    data = tmp_path / "data"
    lock = data_dir.lock(data)
    assert data_dir.running(data) is None
    run = data_dir.make_run_folder(data)
    told = settings.Settings(host="::", port=0, data=data, signatures="verify", keys_file="/keys", region="eu-west-1")
    (run / "settings.json").write_text(json.dumps(settings.dump(told)))
    (data / "url").touch()
    assert data_dir.running(data) is None
    (data / "url").write_text("http://[::1]:40123\n")
    found = data_dir.running(data)
    assert found
    assert (found.host, found.port, found.signatures, found.region) == ("::1", 40123, "verify", "eu-west-1")
    os.close(lock)
    assert data_dir.running(data) is None
    data_dir.remove_run_folder(data, run)


def test_a_running_hostler_of_another_version_is_an_error(tmp_path: Path) -> None:
    lock = data_dir.lock(tmp_path)
    run = data_dir.make_run_folder(tmp_path)
    (tmp_path / "url").write_text("http://127.0.0.1:1\n")
    (run / "settings.json").write_text('{"data": "/", "allowed_hosts": [], "images": {}, "colour": "red"}')
    with pytest.raises(UserError, match="another version"):
        data_dir.running(tmp_path)
    os.close(lock)
    data_dir.remove_run_folder(tmp_path, run)


# --- temporary data folders


def test_a_temporary_data_folder_is_private_and_removed_with_what_is_in_it(tmp_path: Path) -> None:
    with data_dir.temporary(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        os.close(data_dir.lock(folder))
    assert [*tmp_path.iterdir()] == []


def test_those_that_killed_hosts_left_are_removed_but_never_one_that_is_in_use_or_new(tmp_path: Path) -> None:
    folders = {}
    for name in ("left", "new", "used", "foreign"):
        folders[name] = tmp_path / f"hostler-data-{name}"
        folders[name].mkdir()
    locks = {name: data_dir.lock(folders[name]) for name in ("left", "new", "used")}
    for name in ("left", "used"):
        os.utime(folders[name] / "lock", (1, 1))
    os.close(locks["left"])
    os.close(locks["new"])
    with data_dir.temporary(tmp_path):
        assert not folders["left"].exists()
        assert all(folders[name].exists() for name in ("new", "used", "foreign"))
    os.close(locks["used"])


def test_containers_folders_stay_once_docker_was_used_which_may_have_them_mounted(tmp_path: Path) -> None:
    (tmp_path / "containers" / "one").mkdir(parents=True)
    open_house(tmp_path)
    data_dir.clear_stale(tmp_path)
    assert (tmp_path / "containers" / "one").is_dir()


def test_a_copy_of_a_living_hosts_data_folder_leaves_its_run_folder_alone(tmp_path: Path) -> None:
    run = data_dir.make_run_folder(tmp_path)
    data_dir.clear_stale(tmp_path)
    assert (run / "c").is_dir()
    data_dir.remove_run_folder(tmp_path, run)
    assert not run.exists()
