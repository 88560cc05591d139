"""The variables of a container: those of its launch, and those by which hostler's own servers know where they run."""

from __future__ import annotations

from collections.abc import Mapping

from hostler import contract
from hostler.engines.engine import ContainerLaunch
from hostler.engines.images import Server
from hostler.settings import Settings


def environment(
    container: ContainerLaunch, server: Server, settings: Settings, *, base: str, artifacts: str
) -> dict[str, str]:
    """Return them. `base`: the folder that becomes /opt/ml; `artifacts`: that of the shared artifacts."""
    variables = dict(container.environment)
    if server.framework:
        variables[contract.ENV_ARTIFACTS] = artifacts
        variables[contract.ENV_IMAGE] = server.image
        if settings.lenient_bodies:
            variables[contract.ENV_LENIENT_BODIES] = "true"
    if variables.get(contract.ENV_SUBMIT_DIRECTORY, "").startswith("s3://"):
        variables[contract.ENV_SUBMIT_DIRECTORY] = f"{base}/{contract.CODE_DIR}"
    return variables


def names_script(environment: Mapping[str, str]) -> bool:
    """Return whether a container's environment names a script, which then serves every model."""
    return contract.ENV_PROGRAM in environment or contract.ENV_SUBMIT_DIRECTORY in environment
