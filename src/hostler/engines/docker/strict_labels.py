"""The labels of images, asked for when a model is created, with the setting `strict_labels`. Nothing is pulled."""

from __future__ import annotations

from collections.abc import Iterable

from hostler.engines import images
from hostler.engines.docker import labels
from hostler.engines.docker.client import connect, disconnect
from hostler.engines.docker.images import Images
from hostler.engines.docker.reach import address, reach
from hostler.errors import EngineError
from hostler.settings import Settings


async def refusal(settings: Settings, containers: Iterable[tuple[str, bool]]) -> str:
    """Return AWS's sentence, and what helps, for the first image that lacks a label; empty if none does (§3, rule 8).

    `containers`: each one's image, and whether it holds many models. An image that Docker has not, or a Docker that
    cannot be asked, shows when an instance starts.
    """
    asked = [*containers]
    run = [(image, many, images.choose(image, settings, has_artifact=True)) for image, many in asked]
    if settings.engine == "process" or not any(choice.reference for _, _, choice in run):
        return ""
    docker = connect(where := address(settings))
    try:
        await reach(where)
        for image, multi_model, choice in run:
            found = await Images(docker).present(choice.reference) if choice.reference else None
            if found:
                alone = len(asked) == 1
                labels.check(image, found.labels, multi_model=multi_model, alone=alone, strict=True)
    except labels.LabelsMissing as error:
        return str(error)
    except EngineError:
        return ""
    finally:
        await disconnect(docker)
    return ""
