"""From an image's repository and tag to its profile."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from hostler.servers import environment
from hostler.servers.images import refused, table
from hostler.servers.images.profile import Profile, version


@pytest.mark.parametrize(
    ("tag", "numbers"),
    [
        ("1.5-1", (1, 5, 1)),
        ("0.90-2-cpu-py3", (0, 90, 2)),
        ("1.2-1-cpu-py3", (1, 2, 1)),
        ("2.3.0-cpu-py311", (2, 3, 0)),
        ("2.3.0-transformers4.48.0-cpu-py311-ubuntu22.04", (2, 3, 0)),
        ("2.3-gpu-py311-cu121-ubuntu20.04-sagemaker", (2, 3)),
        ("1", (1,)),
        ("latest", ()),
        ("", ()),
        ("1.5a", ()),
    ],
)
def test_a_tag_begins_with_its_version(tag: str, numbers: tuple[int, ...]) -> None:
    assert version(tag) == numbers


@pytest.mark.parametrize(
    ("repository", "tag", "family", "numbers"),
    [
        ("sagemaker-xgboost", "1.5-1", "xgboost", (1, 5, 1)),
        ("sagemaker-xgboost", "1.7-1-cpu-py3", "xgboost", (1, 7, 1)),
        ("sagemaker-xgboost", "latest", "xgboost", (3, 0, 5)),
        ("sagemaker-xgboost", "", "xgboost", (3, 0, 5)),
        ("sagemaker-xgboost", "9.9-9", "xgboost", (3, 0, 5)),
        ("sagemaker-scikit-learn", "0.23-1-cpu-py3", "sklearn", (0, 23, 1)),
        ("sagemaker-scikit-learn", "1", "sklearn", (1, 4, 2)),
        ("pytorch-inference", "2.3.0-cpu-py311", "pytorch", (2, 3, 0)),
        ("huggingface-pytorch-inference", "2.3.0-transformers4.48.0-cpu-py311", "huggingface", (4, 48, 0)),
        ("huggingface-tensorflow-inference", "2.4.1-transformers4.6-gpu-py37", "huggingface", (4, 6)),
        ("huggingface-pytorch-inference", "latest", "huggingface", (4, 51, 3)),
    ],
)
def test_an_image_has_the_profile_of_its_tag_or_of_the_newest_version(
    repository: str, tag: str, family: str, numbers: tuple[int, ...]
) -> None:
    found = table.find(repository, tag)
    assert isinstance(found, Profile)
    assert (found.family, found.version) == (family, numbers)


def test_an_image_without_a_stand_in_is_refused_and_one_that_nobody_knows_is_neither() -> None:
    assert isinstance(table.find("tritonserver", "23.01-py3"), refused.Refused)
    assert table.find("my-own", "1") is None


def test_every_repository_that_the_sagemaker_sdk_knows_is_served_or_refused() -> None:
    """Source: image_uri_config of the installed SDK."""
    spec = importlib.util.find_spec("sagemaker")
    assert spec
    assert spec.submodule_search_locations
    configs = [*Path(spec.submodule_search_locations[0], "image_uri_config").glob("*.json")]
    repositories = {name for config in configs for name in re.findall(r'"repository": "([^"]+)"', config.read_text())}
    assert len(repositories) > 75
    assert not sorted(name for name in repositories if table.find(name, "1.0") is None)


def test_no_repository_is_both_served_and_refused() -> None:
    assert not [repository for repository in table.PROFILES if refused.find(repository)]


@pytest.mark.parametrize(
    ("image", "server", "artifact", "family"),
    [
        ("sagemaker-scikit-learn:1.2-1", "sklearn", "script", "sklearn"),
        ("", "auto", "xgboost", "xgboost"),
        ("", "auto", "onnx", "pytorch"),
        ("", "auto", "script", "script"),
        ("", "torch", "script", "pytorch"),
    ],
)
def test_a_server_has_its_images_profile_or_that_of_the_framework(
    image: str, server: str, artifact: str, family: str
) -> None:
    container = environment.read({"HOSTLER_IMAGE": image, "HOSTLER_FRAMEWORK": server})
    assert container.profile(artifact).family == family
