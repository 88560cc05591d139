"""Credentials for a registry, from the Docker configuration: config.json, and the programs that it names.

They are read anew for every pull, so that `docker login` helps at once. They go to Docker alone, never into a log or an
answer. Sources: the Docker CLI's documentation of config.json, and the protocol of docker-credential-helpers.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from hostler.engines.references import HUB

_HUB_KEY = "https://index.docker.io/v1/"  # the Hub's name in the configuration
_HELPER = re.compile(r"[\w.-]{1,64}", re.ASCII)
_HELPER_TIME = 20.0  # seconds
_TOKEN = "<token>"  # a helper's user name beside an identity token
_LARGEST = 2**20  # bytes of a configuration


@dataclass(frozen=True)
class Credentials:
    """`header`: the value of X-Registry-Auth; empty: there are none. `problem`: a sentence why not, if that is odd."""

    header: str = field(default="", repr=False)
    problem: str = ""


class _Answer(msgspec.Struct, rename="pascal"):
    """A helper's."""

    username: str
    secret: str


async def find(registry: str, environ: Mapping[str, str] = os.environ) -> Credentials:
    """Return the credentials for a registry. A helper program that is cancelled goes on, for some seconds at most."""
    return await asyncio.to_thread(_find, registry, environ)


def _find(registry: str, environ: Mapping[str, str]) -> Credentials:
    folder = environ.get("DOCKER_CONFIG") or str(Path(environ.get("HOME") or "~").expanduser() / ".docker")
    try:
        with open(Path(folder, "config.json"), "rb") as file:
            config = json.loads(file.read(_LARGEST))
    except OSError:
        return Credentials()
    except (ValueError, RecursionError):
        return Credentials(problem="The Docker configuration, config.json, is not JSON.")
    if not isinstance(config, dict):
        return Credentials()
    key = _HUB_KEY if registry == HUB else registry
    helpers = config.get("credHelpers")
    helper = helpers.get(key) if isinstance(helpers, dict) else None
    if helper := helper or config.get("credsStore"):
        return _of_helper(str(helper), key, environ)
    return _of_file(config.get("auths"), key)


def _of_helper(name: str, key: str, environ: Mapping[str, str]) -> Credentials:
    """Ask the program docker-credential-NAME, which takes the registry and answers JSON."""
    program = f"docker-credential-{name}"
    if not _HELPER.fullmatch(name):
        return Credentials(problem="The Docker configuration names a credential helper that is no program's name.")
    try:
        done = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_TIME, env=dict(environ),
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "did not answer" if isinstance(error, subprocess.TimeoutExpired) else "is not there"
        return Credentials(problem=f"The program {program}, which the Docker configuration names, {why}.")
    if b"credentials not found" in done.stdout:
        return Credentials()
    try:
        answer = msgspec.json.decode(done.stdout if done.returncode == 0 else b"", type=_Answer)
    except msgspec.DecodeError:
        return Credentials(problem=f"The program {program}, which the Docker configuration names, gave none.")
    if answer.username == _TOKEN:
        return _header(key, {"identitytoken": answer.secret})
    return _header(key, {"username": answer.username, "password": answer.secret})


def _of_file(auths: object, key: str) -> Credentials:
    if not isinstance(auths, dict):
        return Credentials()
    entry = auths.get(key) or next((auth for name, auth in auths.items() if _host(name) == _host(key)), None)
    if not isinstance(entry, dict):
        return Credentials()
    for token in ("identitytoken", "registrytoken"):
        if entry.get(token):
            return _header(key, {token: str(entry[token])})
    if entry.get("username"):
        return _header(key, {"username": str(entry["username"]), "password": str(entry.get("password", ""))})
    if not entry.get("auth"):
        return Credentials()
    try:
        user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        return Credentials(problem=f"The Docker configuration's entry for {key} cannot be read.")
    return _header(key, {"username": user, "password": password.rstrip("\0")})


def _host(key: str) -> str:
    """Return the host of a key that is a URL, as older versions of Docker wrote them."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _header(key: str, auth: dict[str, Any]) -> Credentials:
    return Credentials(base64.urlsafe_b64encode(json.dumps({**auth, "serveraddress": key}).encode()).decode())
