"""`hostler env --aws-hosts` and `--unset`, on the data folder of a hostler that seems to run."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from click_runner import RUNNER

from hostler import settings
from hostler.cli.main import main
from hostler.host import data_dir

BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
OWN = "http://127.0.0.1:4567"


def run(*words: str, **environment: str) -> Result:
    """One command, in a shell with these variables alone."""
    clean = {name: None for name in os.environ if name != "PATH"}
    return RUNNER.invoke(main, words, env={**clean, "HOME": "/nonexistent", **environment})


@contextlib.contextmanager
def running(data: Path, **more: Any) -> Iterator[Path]:
    """What a host writes into its data folder, and holds, while it runs."""
    lock, folder = data_dir.lock(data), data_dir.make_run_folder(data)
    table = settings.dump(settings.Settings(**{"data": data, "aws_hosts_port": 4567, **more}))
    (folder / "settings.json").write_text(json.dumps(table))
    (data / "url").write_text("http://127.0.0.1:2\n")
    try:
        yield data
    finally:
        os.close(lock)
        data_dir.remove_run_folder(data, folder)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    with running(tmp_path / "data") as folder:
        yield folder


def variables(data: Path, *words: str, **environment: str) -> dict[str, str]:
    result = run("env", "--json", "--data", str(data), *words, **environment)
    assert result.exit_code == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout)
    return found


def certificates(path: str) -> list[str]:
    return Path(path).read_text().split("-----BEGIN CERTIFICATE-----\n")[1:]


def test_plain_env_prints_none_of_it(data: Path) -> None:
    assert not {*BUNDLES, "HTTPS_PROXY", "NO_PROXY", "HOSTLER_UNSET"} & variables(data).keys()
    assert not (data / "aws-hosts").exists()


def test_an_empty_shell_gets_the_proxy_and_the_systems_authorities_with_ours(data: Path) -> None:
    found = variables(data, "--aws-hosts")
    assert variables(data).items() <= found.items()
    assert (found["HTTPS_PROXY"], found["NO_PROXY"]) == (OWN, "localhost,127.0.0.1")
    ours = certificates(str(data / "aws-hosts" / "authority.pem"))
    assert certificates(found["NODE_EXTRA_CA_CERTS"]) == ours
    for name in BUNDLES[:-1]:
        assert certificates(found[name])[-1:] == ours
        assert len(certificates(found[name])) > 50
        assert "PRIVATE" not in Path(found[name]).read_text()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (data / "aws-hosts").iterdir()}
    assert modes == {0o600}


def test_bundles_that_are_set_are_joined_with_ours_each_with_its_own(data: Path, tmp_path: Path) -> None:
    theirs = {}
    for name in BUNDLES:
        path = tmp_path / f"{name}.pem"
        path.write_text(f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----")
        theirs[name] = str(path)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in (1, 2, 2):
        (folder / f"{number}.{len([*folder.iterdir()])}").write_text(
            f"text\n-----BEGIN CERTIFICATE-----\n{number}\n-----END CERTIFICATE-----\n"
        )
    theirs["REQUESTS_CA_BUNDLE"] = str(folder)
    found = variables(data, "--aws-hosts", **theirs)
    for name in BUNDLES:
        joined = certificates(found[name])
        expected = ["1", "2"] if name == "REQUESTS_CA_BUNDLE" else [name]
        assert [text.split("\n")[0] for text in joined[:-1]] == expected
        assert joined[-1:] == certificates(str(data / "aws-hosts" / "authority.pem"))


def test_a_bundle_that_cannot_be_read_is_a_warning(data: Path) -> None:
    result = run("env", "--json", "--aws-hosts", "--data", str(data), AWS_CA_BUNDLE="/not/there.pem")
    assert result.exit_code == 0
    assert "hostler: /not/there.pem (AWS_CA_BUNDLE) cannot be read: No such file or directory" in result.stderr


def test_a_proxy_that_is_set_is_kept_for_ours_and_never_printed(data: Path) -> None:
    environment = {"HTTPS_PROXY": "http://me:secret@proxy.example:3128", "NO_PROXY": "corp,.amazonaws.com"}
    result = run("env", "--aws-hosts", "--data", str(data), **environment)
    assert result.exit_code == 0
    assert "secret" not in result.output
    path = data / "aws-hosts" / "upstream.json"
    assert json.loads(path.read_text()) == {"url": environment["HTTPS_PROXY"], "no_proxy": environment["NO_PROXY"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    variables(data, "--aws-hosts")  # the last call decides
    assert json.loads(path.read_text())["url"] == ""


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            "socks5://me:secret@proxy:1080",
            "speaks socks5; hostler's proxy can go through one that speaks http or https",
        ),
        ("http://me:secret@proxy:port", "is no URL"),
        ("http://[secret", "is no URL"),
    ],
)
def test_a_proxy_that_cannot_be_behind_ours_is_one_clear_line(data: Path, url: str, sentence: str) -> None:
    result = run("env", "--aws-hosts", "--data", str(data), HTTPS_PROXY=url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence in result.stderr
    assert "secret" not in result.stderr


ENVIRONMENT = {
    "PATH": os.environ["PATH"], "HOME": "/nonexistent", "HTTPS_PROXY": "http://me:it's@proxy:3128", "no_proxy": "corp",
    "AWS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt", "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s e",
    "AWS_REGION": "eu-west-1", "PYTHONPATH": str(Path(__file__).parents[3] / "src"), "HOSTLER_PORT": "1",
}  # fmt: skip


def shell(script: str, *more: str) -> dict[str, str]:
    """Run a script in sh, then print the environment."""
    show = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(
        ["sh", "-c", f"{script}\n{show}", "sh", *more], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return {name: value for name, value in found.items() if name not in ("PWD", "_", "SHLVL", "OLDPWD")}


def test_in_a_shell_two_calls_are_as_one_and_unset_restores_all_also_without_hostler(tmp_path: Path) -> None:
    hostler = f"{sys.executable} -m hostler.cli env"
    with running(tmp_path / "data") as data:
        call = f'eval "$({hostler} --aws-hosts --data {shlex.quote(str(data))} 2>/dev/null)"'
        once = shell(call)
        assert once["HTTPS_PROXY"] == OWN
        assert shell(f"{call}\n{call}") == once
        again = f'eval "$({hostler} --aws-hosts 2>/dev/null)"'  # HOSTLER_DATA names the folder
        assert shell(f"{call}\n{again}") == once
        undo = f'eval "$({hostler} --unset)"'
        assert shell(f"{call}\n{call}\n{undo}") == shell("")
        record = once["HOSTLER_UNSET"]
    assert stat.S_IMODE(Path(record).stat().st_mode) == 0o600
    restored = run("env", "--aws-hosts", "--unset", **once)
    assert restored.exit_code == 0
    assert f"export AWS_SECRET_ACCESS_KEY={shlex.quote('s e')}\n" in restored.stdout
    assert "unset HOSTLER_UNSET\n" in restored.stdout


def test_unset_speaks_each_shells_language(data: Path) -> None:
    found = variables(data, "--aws-hosts", AWS_REGION="eu-west-1")
    assert "\nset -e HTTPS_PROXY\n" in run("env", "--unset", "--fish", **found).stdout
    powershell = run("env", "--unset", "--powershell", **found).stdout
    assert "Remove-Item Env:HTTPS_PROXY -ErrorAction Ignore\n" in powershell
    assert "$Env:AWS_REGION = 'eu-west-1'\n" in powershell
    assert run("env", "--unset", "--dotenv", **found).stdout == "AWS_REGION=eu-west-1\n"
    as_json = json.loads(run("env", "--unset", "--json", **found).stdout)
    assert as_json == {**dict.fromkeys(found), "AWS_REGION": "eu-west-1"}


def test_unset_in_a_shell_without_any_of_it_does_nothing() -> None:
    result = run("env", "--unset")
    assert (result.exit_code, result.output) == (0, "")


def test_without_its_record_unset_unsets_what_is_ours(data: Path) -> None:
    found = variables(data, "--aws-hosts")
    Path(found["HOSTLER_UNSET"]).unlink()
    result = run("env", "--unset", "--json", **found, SSL_CERT_DIR="/etc/ssl/certs")
    assert json.loads(result.stdout) == dict.fromkeys(["HTTPS_PROXY", *BUNDLES, "HOSTLER_UNSET"])
    assert result.stderr.count("\n") == 1
    assert "HOSTLER_UNSET" not in run("env", **found).stderr.replace(found["HOSTLER_UNSET"], "")
    again = variables(data, "--aws-hosts", **found)  # another call makes it good
    assert again | {"HOSTLER_UNSET": ""} == found | {"HOSTLER_UNSET": ""}
    assert json.loads(run("env", "--unset", "--json", **again).stdout)["HTTPS_PROXY"] is None


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"aws_hosts_port": 0}, "the proxy's port was taken when this hostler started"),
        ({"s3_endpoint": "aws"}, "the setting s3_endpoint names AWS's own S3, which no program would reach"),
    ],
)
def test_where_there_can_be_no_proxy_it_is_one_clear_line(tmp_path: Path, more: dict[str, Any], sentence: str) -> None:
    with running(tmp_path, **more):
        result = run("env", "--aws-hosts", "--data", str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence in result.stderr


def test_without_a_running_hostler_it_is_one_clear_line() -> None:
    result = run("env", "--aws-hosts", HOSTLER_PORT="1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "hostler: no hostler runs in /nonexistent/.hostler; start one: hostler up" in result.stderr


def test_without_cryptography_it_is_one_clear_line(data: Path) -> None:
    program = "import sys; sys.modules['cryptography'] = None; from hostler.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "env", "--aws-hosts", "--data", str(data)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "hostler: certificates for AWS's host names need the package cryptography: pip install 'hostler[aws-hosts]'"
    )


def test_only_the_newest_records_are_kept(data: Path) -> None:
    for number in range(70):
        variables(data, "--aws-hosts", AWS_REGION=f"region-{number}")
    assert len([*(data / "aws-hosts").glob("shell-*.json")]) == 64
