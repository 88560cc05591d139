"""The commands: their output, and their errors."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from click_runner import RUNNER

from hostler import __version__, settings
from hostler.cli.logs import last_lines, new_lines
from hostler.cli.main import main
from hostler.host import data_dir


def run(*words: str, input: bytes | None = None, **environment: str) -> Result:
    """One command, with none of this shell's settings and nothing on hostler's port."""
    clean = {name: None for name in os.environ if name.startswith(("HOSTLER_", "AWS_"))}
    defaults = {"HOME": "/nonexistent/home", "HOSTLER_PORT": "1"}
    return RUNNER.invoke(main, words, input=input, env={**clean, **defaults, **environment})


def test_help_names_every_command():
    result = run("--help")
    assert result.exit_code == 0
    for command in ("up", "demo", "env", "ls", "invoke", "logs", "lint", "doctor", "fault"):
        assert f"\n  {command} " in result.output


def test_commands_that_ask_docker_say_which_extra_they_need():
    for words, code in (("gc",), 1), (("lint", "--image", "mine"), 2):
        program = "import sys; sys.modules['aiodocker'] = None; from hostler.cli.main import main; main()"
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (code, "")
        assert "Docker's client is not installed: pip install 'hostler[docker]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_every_command_has_help_that_begins_with_what_it_does():
    for name, command in main.commands.items():
        assert run(name, "--help").exit_code == 0
        assert command.help
        assert command.help[0].isupper()


def test_every_command_that_prints_data_speaks_json():
    for name in ("demo", "env", "ls", "invoke", "logs", "lint", "doctor"):
        assert "--json" in run(name, "--help").output


def test_wrong_words_for_a_fault_are_told_before_anybody_is_asked():
    for words, reason in (
        (("add", "ModelError", "first"), "first is not NAME=VALUE"),
        (("rm",), "name a fault, or give --all"),
        (("rm", "mine", "--all"), "name a fault, or give --all"),
    ):
        result = run("fault", *words)
        assert (result.exit_code, result.stderr) == (2, f"hostler: {reason}\n")
    assert run("fault", "add", "modelerror").exit_code == 2
    for words in (("add", "ModelError", "first=x"), ("ls",), ("rm", "--all")):
        result = run("fault", *words)
        assert (result.exit_code, result.stderr.partition(" (")[0]) == (
            1,
            "hostler: no hostler answers at http://127.0.0.1:1",
        )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--temporary", "--data", "/nonexistent/data"), "--temporary and --data exclude each other"),
        (("--end-with", "0"), "0 is not in the range x>=1"),
        (("--end-with", "me"), "'me' is not a valid integer"),
    ],
)
def test_wrong_words_for_up_are_told_before_anything_starts(words: tuple[str, ...], reason: str):
    result = run("up", *words)
    assert result.exit_code == 2
    assert reason in result.stderr


def test_version():
    assert run("--version").output == f"hostler {__version__}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from hostler.cli import main as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncio', 'botocore', 'boto3', 'numpy', 'sqlalchemy', 'uvloop', 'urllib.request'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# --- env ----------------------------------------------------------------------------------------------------------


def variables(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "hostler",
        "AWS_SECRET_ACCESS_KEY": "hostler",
    }


def test_env_prints_all_variables_that_a_shell_needs():
    script = run("env").stdout + "env"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, timeout=120
    )
    printed = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert variables("http://127.0.0.1:1").items() <= printed.items()


@contextlib.contextmanager
def running(data: Path, **more: Any) -> Iterator[None]:
    """What a host writes into its data folder, and holds, while it runs."""
    lock, folder = data_dir.lock(data), data_dir.make_run_folder(data)
    (folder / "settings.json").write_text(json.dumps(settings.dump(settings.Settings(data=data, **more))))
    (data / "url").write_text("http://127.0.0.1:2\n")
    try:
        yield
    finally:
        os.close(lock)
        data_dir.remove_run_folder(data, folder)


def test_env_names_the_address_that_the_data_folder_remembers(tmp_path: Path):
    with running(tmp_path, port=0):
        printed = json.loads(run("env", "--json", "--data", str(tmp_path)).stdout)
        assert printed == variables("http://127.0.0.1:2") | {"HOSTLER_DATA": str(tmp_path)}


@pytest.mark.parametrize("words", [("ls",), ("logs", "e"), ("invoke", "e", "--body", "1")])
def test_after_env_has_named_a_data_folder_the_other_commands_ask_the_hostler_of_that_folder(
    words: tuple[str, ...], tmp_path: Path
):
    with running(tmp_path, port=0):
        printed = json.loads(run("env", "--json", "--data", os.path.relpath(tmp_path)).stdout)
        assert "http://127.0.0.1:2" in run(*words, **printed).stderr  # that of the folder, where nobody answers


def test_env_prints_the_settings_of_the_running_hostler_and_not_those_of_the_shell(tmp_path: Path):
    with running(tmp_path, signatures="verify", keys_file="/keys", region="eu-west-1"):
        printed = json.loads(run("env", "--json", HOSTLER_DATA=str(tmp_path)).stdout)
        assert printed == {
            "AWS_ENDPOINT_URL": "http://127.0.0.1:2",
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }
        printed = json.loads(run("env", "--json", HOSTLER_DATA=str(tmp_path), HOSTLER_REGION="us-west-2").stdout)
        assert printed["AWS_REGION"] == "us-west-2"
    with running(tmp_path, s3_endpoint="http://127.0.0.1:3"):
        printed = json.loads(run("env", "--json", "--data", str(tmp_path)).stdout)
        assert printed["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:3"


@pytest.mark.parametrize("words", [("env",), ("ls",), ("logs", "e"), ("invoke", "e", "--body", "1")])
def test_a_named_folder_without_a_running_hostler_is_an_error_and_no_request_is_sent(
    words: tuple[str, ...], tmp_path: Path
):
    (tmp_path / "url").write_text("http://127.0.0.1:2\n")  # as a killed hostler leaves it
    for result in (run(*words, "--data", str(tmp_path)), run(*words, HOSTLER_DATA=str(tmp_path))):
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"hostler: no hostler runs in {tmp_path}; start one: hostler up --data {tmp_path}\n"


def test_env_prints_the_syntax_of_other_shells():
    assert "set -gx AWS_REGION us-east-1\n" in run("env", "--fish").output
    assert "$Env:AWS_REGION = 'us-east-1'\n" in run("env", "--powershell").output
    assert "\nAWS_REGION=us-east-1\n" in run("env", "--dotenv").output


def test_env_quotes_special_characters():
    assert "export AWS_REGION='$(true)'\n" in run("env", HOSTLER_REGION="$(true)").stdout


def test_env_warns_on_stderr_if_no_hostler_answers():
    result = run("env")
    assert result.exit_code == 0
    assert result.stderr.startswith("hostler: no hostler answers at http://127.0.0.1:1 (")
    assert result.stderr.count("\n") == 1
    assert "Errno" not in result.stderr


def test_env_points_s3_calls_at_the_s3_that_artifacts_come_from_and_gives_it_no_dummy_credentials():
    printed = json.loads(run("env", "--json", HOSTLER_S3_ENDPOINT="http://127.0.0.1:8333").stdout)
    assert printed["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:8333"
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & set(printed)
    printed = json.loads(run("env", "--json", HOSTLER_S3_ENDPOINT="aws", HOSTLER_REGION="eu-west-1").stdout)
    assert printed["AWS_ENDPOINT_URL_S3"] == "https://s3.eu-west-1.amazonaws.com"


def test_env_prints_no_credentials_if_signatures_are_verified():
    printed = json.loads(run("env", "--json", HOSTLER_SIGNATURES="verify").stdout)
    assert sorted(printed) == ["AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_REGION"]


def test_an_ipv6_address_is_in_brackets():
    assert "AWS_ENDPOINT_URL=http://[::1]:1\n" in run("env", "--dotenv", HOSTLER_HOST="::1").stdout


def test_a_body_given_twice_is_refused_before_the_file_is_read():
    result = run("invoke", "e", "--body", "1", "--file", "/nonexistent/body")
    assert result.exit_code == 2
    assert "--body and --file exclude each other" in result.stderr


def test_env_warns_when_clients_are_told_to_ignore_it():
    result = run("env", AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true")
    assert result.exit_code == 0
    assert "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" in result.stderr
    assert "IGNORE" not in result.stdout


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [("ls",), ("ls", "--targets"), ("logs", "nobody"), ("logs", "--access"), ("invoke", "nobody", "--body", "1")],
)
def test_a_missing_hostler_is_one_line_and_exit_code_1(words: tuple[str, ...]):
    result = run(*words)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("hostler: ")
    assert result.stderr.count("\n") == 1
    assert "no hostler answers at http://127.0.0.1:1" in result.stderr
    assert result.stderr.endswith("; start one: hostler up\n")


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (("frobnicate",), {}),
        (("up", "--port", "70000"), {}),
        (("up", "--gateways", "0"), {}),
        (("invoke",), {}),
        (("invoke", "e", "--body", "1", "--file", __file__), {}),
        (("invoke", "e", "--file", "/nonexistent/body"), {}),
        (("invoke", "e", "--file", "/"), {}),
        (("env", "--fish", "--json"), {}),
        (("up", "--host", ""), {}),
        (("logs",), {}),
        (("logs", "e", "--tail", "0"), {}),
        (("ls",), {"HOSTLER_PORT": "many"}),
        (("ls", "--match", "a"), {}),
        (("ls", "--region", "eu-west-1"), {}),
        (("ls", "--targets", "--sort", "colour"), {}),
        (("ls", "--targets", "--limit", "-1"), {}),
        (("ls",), {"HOSTLER_CONFIG": "/nonexistent/hostler.toml"}),
        (("up",), {"HOSTLER_HOLD": "soon"}),
    ],
)
def test_wrong_usage_is_exit_code_2_and_no_traceback(words: tuple[str, ...], environment: dict[str, str]):
    result = run(*words, **environment)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.stderr


def test_a_setting_is_named_with_the_place_it_came_from():
    assert run("ls", HOSTLER_PORT="many").stderr.startswith("hostler: HOSTLER_PORT: 'many' is ")
    assert run("up", "--port", "70000").stderr == "hostler: --port: 70000 is more than 65535\n"


def test_a_misspelt_setting_is_a_warning():
    result = run("env", HOSTLER_IDLETTL="5")
    assert result.exit_code == 0
    assert result.stderr.startswith("hostler: HOSTLER_IDLETTL is no setting; is HOSTLER_IDLE_TTL meant?\n")


def test_keys_that_would_never_be_verified_are_refused(tmp_path: Path):
    result = run("up", "--data", str(tmp_path), HOSTLER_KEYS_FILE="/nonexistent/keys")
    assert result.exit_code == 1
    assert result.stderr.startswith("hostler: keys_file is set, but signatures are not verified: ")
    assert result.stderr.count("\n") == 1


# --- logs ---------------------------------------------------------------------------------------------------------


def test_following_a_log_prints_each_line_once():
    assert new_lines("one\n", "one\ntwo\n") == "two\n"
    assert new_lines("one\ntwo\n", "one\ntwo\n") == ""


def test_following_a_log_goes_on_when_the_window_has_moved():
    assert new_lines("one\ntwo\n" * 300, ("one\ntwo\n" * 300)[8:] + "three\n") == "three\n"


def test_the_tail_of_a_log_is_its_last_lines():
    assert last_lines("one\ntwo\nthree", 2) == "two\nthree"
