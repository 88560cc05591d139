"""Credentials of the Docker configuration: from the file, and from the programs that it names."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from hostler.engines.docker import credentials

AUTH = base64.b64encode(b"me:se:cret").decode()


async def found(folder: Path, config: object, registry: str = "r.example:5000") -> tuple[dict[str, str], str]:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    login = await credentials.find(registry, {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:/usr/bin:/bin"})
    assert "cret" not in repr(login)
    return json.loads(base64.urlsafe_b64decode(login.header)) if login.header else {}, login.problem


def helper(folder: Path, script: str) -> None:
    program = folder / "docker-credential-mine"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)


@pytest.mark.parametrize(
    ("auths", "registry", "expected"),
    [
        ({"r.example:5000": {"auth": AUTH}}, "r.example:5000", {"username": "me", "password": "se:cret"}),
        (
            {"r.example:5000": {"username": "me", "password": "x"}},
            "r.example:5000",
            {"username": "me", "password": "x"},
        ),
        ({"https://r.example:5000/v1/": {"auth": AUTH}}, "r.example:5000", {"username": "me", "password": "se:cret"}),
        ({"https://index.docker.io/v1/": {"auth": AUTH}}, "docker.io", {"username": "me", "password": "se:cret"}),
        ({"r.example": {"identitytoken": "t"}}, "r.example", {"identitytoken": "t"}),
        ({"other.example": {"auth": AUTH}, "r.example": {}}, "r.example", {}),
        ({"r.example": "text"}, "r.example", {}),
        (["no table"], "r.example", {}),
    ],
)
async def test_the_file_has_them_by_registry(tmp_path: Path, auths: object, registry: str, expected: dict[str, str]):
    header, problem = await found(tmp_path, {"auths": auths}, registry)
    key = "https://index.docker.io/v1/" if registry == "docker.io" else registry
    assert header == ({**expected, "serveraddress": key} if expected else {})
    assert not problem


async def test_without_a_configuration_there_are_none(tmp_path: Path):
    assert await credentials.find("r.example", {"HOME": str(tmp_path)}) == credentials.Credentials()


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", ""),
        ({"auths": {"r.example:5000": {"auth": "!"}}}, "entry for r.example:5000 cannot be read"),
        ({"auths": {"r.example:5000": {"auth": "bWU="}}}, "entry for r.example:5000 cannot be read"),
        ({"credsStore": "../x"}, "no program's name"),
        (
            {"credsStore": "not-there"},
            "docker-credential-not-there, which the Docker configuration names, is not there",
        ),
    ],
)
async def test_what_is_wrong_with_a_configuration_is_said(tmp_path: Path, config: object, problem: str):
    header, said = await found(tmp_path, config)
    assert header == {}
    assert problem in said
    assert bool(problem) == bool(said)


@pytest.mark.parametrize(
    "config", [{"credsStore": "mine"}, {"credsStore": "no", "credHelpers": {"r.example:5000": "mine"}}]
)
async def test_a_helper_is_asked_for_the_registry_on_its_input(tmp_path: Path, config: object):
    helper(tmp_path, """read server; printf '{"Username":"%s %s","Secret":"se:cret"}' "$1" "$server" """)
    header, _ = await found(tmp_path, config)
    assert header == {"username": "get r.example:5000", "password": "se:cret", "serveraddress": "r.example:5000"}


async def test_a_helper_may_give_an_identity_token(tmp_path: Path):
    helper(tmp_path, """printf '{"Username":"<token>","Secret":"t"}'""")
    assert (await found(tmp_path, {"credsStore": "mine"}))[0] == {
        "identitytoken": "t",
        "serveraddress": "r.example:5000",
    }


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 'credentials not found in native keychain'; exit 1", ""),
        ("echo secret; exit 1", "docker-credential-mine, which the Docker configuration names, gave none"),
        ("echo secret", "docker-credential-mine, which the Docker configuration names, gave none"),
        ("echo '[]'", "gave none"),
    ],
)
async def test_a_helper_that_fails_is_named_and_its_output_is_not(tmp_path: Path, script: str, problem: str):
    helper(tmp_path, script)
    header, said = await found(tmp_path, {"credsStore": "mine"})
    assert header == {}
    assert problem in said
    assert bool(problem) == bool(said)
    assert "secret" not in said
