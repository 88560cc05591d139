"""`hostler control`, `gateway` and `agent` with wrong settings: one line that says which, and an exit code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from click_runner import RUNNER

from certificates import CertificateAuthority
from hostler.cli.main import main
from hostler.host import data_dir

TOKEN = "a token of this test's own"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with all that a gateway or an agent needs."""
    mask = os.umask(0o077)  # the commands set it
    CertificateAuthority().issue(tmp_path / "link", "127.0.0.1")
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "ca.crt").write_text("no certificate")
    yield tmp_path
    os.umask(mask)


def run(folder: Path, *words: str, **environment: str) -> Result:
    """One command, with right settings but for these; `{}` in a value is the folder."""
    clean = {name: None for name in os.environ if name.startswith(("HOSTLER_", "AWS_"))}
    right = {
        "HOME": str(folder),
        "HOSTLER_DATA": "{}/data",
        "HOSTLER_CONTROL_ADDRESS": "tls:127.0.0.1:7700",
        "HOSTLER_LINK_CERTIFICATES": "{}/link",
        "HOSTLER_LINK_TOKEN": "{}/token",
        "HOSTLER_ENGINE": "kubernetes" if "control" in words else "auto",
        "HOSTLER_INSTANCE": "i",
        "KUBECONFIG": "/nowhere",
    }
    given = {name: value.replace("{}", str(folder)) for name, value in {**right, **environment}.items()}
    return RUNNER.invoke(main, words, env={**clean, **given})


def is_one_line(result: Result, code: int, says: str) -> bool:
    return (
        result.exit_code == code
        and result.stderr.startswith("hostler: ")
        and result.stderr.count("\n") == 1
        and says in result.stderr
        and TOKEN not in result.stderr
    )


@pytest.mark.parametrize("role", ["gateway", "agent"])
@pytest.mark.parametrize(
    ("wrong", "code", "says"),
    [
        ({"HOSTLER_CONTROL_ADDRESS": "control"}, 2, "'control' is no address"),
        ({"HOSTLER_CONTROL_ADDRESS": "tcp:control:7700"}, 1, "tcp:control:7700 would be sent the token unencrypted"),
        ({"HOSTLER_LINK_TOKEN": "{}/none"}, 1, "link_token {}/none cannot be read: No such file or directory"),
        ({"HOSTLER_LINK_TOKEN": "{}"}, 1, "link_token {} cannot be read: Is a directory"),
        ({"HOSTLER_LINK_TOKEN": "/dev/null"}, 1, "link_token /dev/null is empty"),
        ({"HOSTLER_LINK_CERTIFICATES": "{}/none"}, 1, "ca.crt in {}/none cannot be used: No such file or directory"),
        ({"HOSTLER_LINK_CERTIFICATES": "{}/garbage"}, 1, "ca.crt in {}/garbage cannot be used: "),
    ],
)
def test_a_gateway_and_an_agent_say_why_they_cannot_link(
    folder: Path, role: str, wrong: dict[str, str], code: int, says: str
) -> None:
    result = run(folder, role, **wrong)
    assert is_one_line(result, code, says.replace("{}", str(folder))), result.output


def test_a_gateway_needs_control_a_token_and_over_tls_a_certificate(folder: Path) -> None:
    for name, says in (
        ("HOSTLER_CONTROL_ADDRESS", "needs control_address"),
        ("HOSTLER_LINK_TOKEN", "link_token must name the file"),
        ("HOSTLER_LINK_CERTIFICATES", "link_certificates must name the folder with ca.crt"),
    ):
        result = run(folder, "gateway", **{name: ""})
        assert is_one_line(result, 1, says), result.output


def test_control_is_for_a_cluster_and_needs_addresses(folder: Path) -> None:
    for wrong, says in (({"HOSTLER_ENGINE": "auto"}, "on this machine: `hostler up`"), ({}, "needs link_listen")):
        result = run(folder, "control", **wrong)
        assert is_one_line(result, 1, says), result.output


def test_two_controls_do_not_share_a_data_folder(folder: Path) -> None:
    lock = data_dir.lock(folder / "data")
    try:
        result = run(folder, "control")
        assert is_one_line(result, 1, "is in use by another hostler"), result.output
    finally:
        os.close(lock)
