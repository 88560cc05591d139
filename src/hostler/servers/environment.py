"""The container's environment, read once (§5.2), and the artifact folders that it allows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hostler import contract
from hostler.servers import cgroup
from hostler.servers.images import table
from hostler.servers.images.profile import Profile
from hostler.text import is_count

LAST_PORT = 65_535
MAX_WORKERS = 64  # a typing error must not fill the machine with processes


class BadFolder(Exception):
    """A model's url that is no folder below the base. `status` is 404 (not found) or 400 (not allowed)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Environment:
    """A server's configuration. Sizes are bytes."""

    socket: str  # unix path to listen on; empty: listen on `port`
    port: int
    ports: range  # for its processes, one each; empty: they have none
    base: Path  # the contract's /opt/ml
    multi_model: bool
    framework: str  # xgboost | sklearn | torch | onnx | catboost | lightgbm | script | canned | auto
    image: str  # repository and tag of AWS's image; empty: any other image
    program: str  # a script's file name
    program_named: bool  # the script is required, on every image
    submit_directory: str  # a folder for the script outside the artifact; empty: none
    default_accept: str  # empty: the framework's default
    ensemble: bool  # XGBoost: several models answer together, where the image does that
    inference_output: str | None  # XGBoost: what SAGEMAKER_INFERENCE_OUTPUT selects; None: unset
    batch: bool  # XGBoost: SAGEMAKER_BATCH is set
    lenient_bodies: bool  # bodies are accepted that the image refuses
    max_body: int
    artifacts: Path | None  # another folder for models, to which the platform's links lead
    lifeline: int | None  # read end of the host's lifeline
    workers: int  # processes with a replica of each target; 1: the server itself

    @property
    def alone(self) -> bool:
        """Whether a container is the server's own machine, on which it serves its port: no engine started it here."""
        return _alone(self.socket, self.base)

    def folder(self, url: str) -> Path:
        """Return the folder that a model's url names. Raises BadFolder.

        A url below /opt/ml is a path below the base. Links may lead into the artifacts, and nowhere else.
        """
        if not url.startswith("/"):
            raise BadFolder(404, f"Relative path is not allowed in url: {url}")
        if "\0" in url or ".." in url.split("/"):
            raise BadFolder(404, "A path that leads upwards is not allowed in url")
        path = self.below_base(url)
        real = os.path.realpath(path)
        if not real.startswith(self._roots):
            raise BadFolder(400, f"The url is not below {contract.BASE_DIR}")
        if not os.path.isdir(real):
            raise BadFolder(404, f"There is no folder at the url: {self.contract_paths(url)}")
        return path

    def profile(self, framework: str) -> Profile:
        """Return the profile of the container's image; for an unknown image, that of an artifact's framework."""
        return self._profile or table.of_framework(framework if self.framework == "auto" else self.framework)

    @cached_property
    def _profile(self) -> Profile | None:
        repository, _, tag = self.image.partition(":")
        found = table.find(repository, tag)
        return found if isinstance(found, Profile) else None

    @cached_property
    def _roots(self) -> tuple[str, ...]:
        """The real paths of the folders below which models lie, each with a slash at its end."""
        return tuple(os.path.join(os.path.realpath(root), "") for root in (self.base, self.artifacts) if root)

    def below_base(self, path: str) -> Path:
        """Return the path on this machine of a path of the contract (/opt/ml/...); any other path unchanged."""
        if path == contract.BASE_DIR or path.startswith(contract.BASE_DIR + "/"):
            return self.base / path[len(contract.BASE_DIR) + 1 :]
        return Path(path)

    def contract_paths(self, text: str) -> str:
        """Replace this machine's base and artifacts folders in a text by /opt/ml."""
        for folder in (self.base, self.artifacts):
            for path in (os.path.realpath(folder), str(folder)) if folder else ():
                text = text.replace(path, contract.BASE_DIR)
        return text


def read(environ: Mapping[str, str]) -> Environment:
    """Read the environment. Raises ValueError, which names the variable, for an invalid or a forbidden number."""
    megabytes = _number(environ, contract.ENV_MAX_PAYLOAD_MB, 0)
    path, base = environ.get(contract.ENV_SOCKET, ""), Path(environ.get(contract.ENV_BASE_DIR) or contract.BASE_DIR)
    lifeline = environ.get(contract.ENV_LIFELINE)
    has_ports = environ.get(contract.ENV_PORTS) == "true" and not path
    return Environment(
        socket=path,
        port=_number(environ, contract.ENV_BIND_TO_PORT, contract.DEFAULT_PORT),
        ports=_safe_ports(environ) if has_ports else range(0),
        base=base,
        artifacts=Path(environ[contract.ENV_ARTIFACTS]) if environ.get(contract.ENV_ARTIFACTS) else None,
        multi_model=environ.get(contract.ENV_MULTI_MODEL) == "true",
        framework=environ.get(contract.ENV_FRAMEWORK) or "auto",
        image=environ.get(contract.ENV_IMAGE, ""),
        program=environ.get(contract.ENV_PROGRAM) or contract.DEFAULT_PROGRAM,
        program_named=bool(environ.get(contract.ENV_PROGRAM)),
        submit_directory=environ.get(contract.ENV_SUBMIT_DIRECTORY, ""),
        default_accept=environ.get(contract.ENV_DEFAULT_ACCEPT, ""),
        ensemble=environ.get(contract.ENV_INFERENCE_ENSEMBLE, "true") == "true",
        inference_output=environ.get(contract.ENV_INFERENCE_OUTPUT),
        batch=bool(environ.get(contract.ENV_BATCH)),
        lenient_bodies=bool(environ.get(contract.ENV_LENIENT_BODIES)),
        max_body=megabytes * 2**20 or contract.MAX_BODY,
        lifeline=int(lifeline) if lifeline else None,
        workers=_workers(environ, _alone(path, base)),
    )


def _alone(path: str, base: Path) -> bool:
    return not path and base == Path(contract.BASE_DIR)


def _workers(environ: Mapping[str, str], alone: bool) -> int:
    """Return the number of workers. Alone, it is that of the processors, as with AWS's servers."""
    text = environ.get(contract.ENV_WORKERS) or (str(min(cgroup.processors(), MAX_WORKERS)) if alone else "1")
    if not (is_count(text) and 1 <= int(text) <= MAX_WORKERS):
        raise ValueError(f"{contract.ENV_WORKERS} is not a number from 1 to {MAX_WORKERS}: {text[:40]}")
    return int(text)


def _safe_ports(environ: Mapping[str, str]) -> range:
    """Return the ports that the container may use besides its own (§5.2). Raises ValueError."""
    text = environ.get(contract.ENV_SAFE_PORT_RANGE, "")
    first, _, last = text.partition("-")
    if not (is_count(first) and is_count(last) and 1 <= int(first) <= int(last) <= LAST_PORT):
        raise ValueError(f"{contract.ENV_SAFE_PORT_RANGE} is not a range of ports: {text[:40]}")
    return range(int(first), int(last) + 1)


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{name} is not a number: {text}")
    return int(text)
