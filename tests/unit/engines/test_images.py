"""From image names to what runs them."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hostler import __version__, names
from hostler.engines.images import Choice, Server, choose, resolve
from hostler.errors import EngineError
from hostler.servers.images import refused
from hostler.servers.images.table import PROFILES
from hostler.settings import Settings

ECR = "683313688378.dkr.ecr.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("place", "name", "framework"),
    [
        (ECR, "sagemaker-xgboost:1.7-1", "xgboost"),
        ("257758044811.dkr.ecr.us-east-2.amazonaws.com", "sagemaker-xgboost:1.5-1-cpu-py3", "xgboost"),
        ("811284229777.dkr.ecr.us-east-1.amazonaws.com", "xgboost:latest", "xgboost"),
        ("727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn", "pytorch-inference:2.1-cpu-py310", "torch"),
        ("763104351884.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "pytorch-inference", "torch"),
        (ECR, "pytorch-inference-graviton:1", "torch"),
    ],
)
def test_awss_own_images_are_recognised_in_any_account_and_region(place: str, name: str, framework: str) -> None:
    assert resolve(f"{place}/{name}", Settings(), has_artifact=False) == Server(framework=framework, image=name)


@pytest.mark.parametrize(
    ("uri", "image"),
    [
        ("sagemaker-scikit-learn@sha256:0123", "sagemaker-scikit-learn"),
        ("sagemaker-scikit-learn:1.2-1@sha256:0123", "sagemaker-scikit-learn:1.2-1"),
        ("sagemaker-scikit-learn:-no", "sagemaker-scikit-learn"),
    ],
)
def test_a_server_is_handed_repository_and_tag_and_no_digest(uri: str, image: str) -> None:
    server = resolve(f"{ECR}/{uri}", Settings(), has_artifact=False)
    assert server == Server(framework="sklearn", image=image)


HUGGING_FACE = f"{ECR}/huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04"


def test_hugging_face_images_are_served_where_there_is_a_model() -> None:
    for image in (HUGGING_FACE, HUGGING_FACE.replace("pytorch", "tensorflow")):
        assert resolve(image, Settings(strict_images=True), has_artifact=True).framework == "huggingface"
    with pytest.raises(
        EngineError, match=r"nothing here fetches a model from the Hugging Face Hub.*ModelDataUrl.*\[im"
    ):
        resolve(HUGGING_FACE, Settings(), has_artifact=False)


@pytest.mark.parametrize(
    ("repository", "advice"),
    [
        ("sagemaker-tritonserver", "Triton Inference Server, .* model.onnx or TorchScript"),
        ("mxnet-inference", "MXNet, which is retired.* Export the model to ONNX"),
        ("sagemaker-mxnet-serving-eia", "MXNet, which is retired"),
        ("tensorflow-inference", "TensorFlow Serving, .* model_fn and predict_fn"),
        ("sagemaker-tensorflow-serving", "TensorFlow Serving"),
        ("linear-learner", "one of Amazon's built-in algorithms.* XGBoost"),
        ("djl-inference", r"DJL Serving \(LMI\).* huggingface-pytorch-inference"),
        ("huggingface-pytorch-tgi-inference", r"Text Generation Inference \(TGI\)"),
        ("huggingface-pytorch-inference-neuronx", "Neuron chips"),
    ],
)
def test_an_image_that_no_server_replaces_is_refused_with_advice(repository: str, advice: str) -> None:
    image = f"{ECR}/{repository}:2.13-cpu"
    for has_artifact in (True, False):
        with pytest.raises(EngineError, match=rf"{advice}.*\[images\], \"{ECR}/{repository}\" = "):
            resolve(image, Settings(), has_artifact)
    settings = Settings(images={f"{ECR}/{repository}": ("server",)})
    assert resolve(image, settings, has_artifact=True) == Server(command=("server",))


@pytest.mark.parametrize(
    "image",
    ["nvcr.io/nvidia/tritonserver:24.01-py3", "vllm/vllm-openai", "ghcr.io/huggingface/text-generation-inference:3.0"],
)
def test_a_known_model_server_is_refused_in_any_registry(image: str) -> None:
    with pytest.raises(EngineError, match=r"It is .*under \[images\]"):
        resolve(image, Settings(), has_artifact=True)


def test_a_mapped_image_runs_its_command_and_the_exact_uri_wins() -> None:
    settings = Settings(
        images={f"{ECR}/xgboost": ("any",), f"{ECR}/xgboost:2": ("two", "words"), "host:5000/it": ("x",)}
    )
    assert resolve(f"{ECR}/xgboost:2", settings, has_artifact=True) == Server(command=("two", "words"))
    assert resolve(f"{ECR}/xgboost:3", settings, has_artifact=True) == Server(command=("any",))
    assert resolve("host:5000/it:tag", settings, has_artifact=True) == Server(command=("x",))
    assert resolve("host:5000/it@sha256:ab", settings, has_artifact=True) == Server(command=("x",))


def test_any_other_image_with_an_artifact_runs_our_own_server_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert resolve("me/sagemaker-xgboost:1", Settings(), has_artifact=True) == Server(framework="auto")
    assert "me/sagemaker-xgboost:1 is not known here" in caplog.text


@pytest.mark.parametrize(("strict", "has_artifact"), [(False, False), (True, True), (True, False)])
def test_a_refused_images_error_has_the_line_that_would_map_it(strict: bool, has_artifact: bool) -> None:
    with pytest.raises(EngineError, match=r"under \[images\], \"me/mine\" = \"/path/to/program\""):
        resolve("me/mine:1", Settings(strict_images=strict), has_artifact=has_artifact)


def test_the_page_of_images_names_every_repository_that_is_known() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/images.md").read_text()
    named = {
        name for row in re.findall(r"^\|([^|]*)\|", page, re.MULTILINE) for name in re.findall(r"`([a-z0-9-]+)`", row)
    }
    assert set(PROFILES) <= named
    for pattern, _ in (*refused.REPOSITORIES, *refused.SERVERS):
        assert any(re.fullmatch(pattern, name) for name in named), pattern


MAPPED = Settings(images={"me/mine": ("run",)}, registries={"me": "mirror.example/us"})
STRICT, EVERYWHERE = Settings(strict_images=True), Settings(engine="docker")
TRITON = f"{ECR}/sagemaker-tritonserver:24.01"
AUTO = Server(framework="auto")


@pytest.mark.parametrize(
    ("image", "settings", "has_artifact", "expected", "refusal"),
    [
        ("me/mine:1", MAPPED, True, Choice(Server(command=("run",))), ""),
        ("me/mine:1", Settings(canned_answers="file"), False, Choice(Server(framework="canned")), ""),
        (f"{ECR}/xgboost:1", STRICT, False, Choice(Server(framework="xgboost", image="xgboost:1")), ""),
        (f"{ECR}/pytorch-inference", MAPPED, True, Choice(Server(framework="torch", image="pytorch-inference")), ""),
        (TRITON, Settings(), True, Choice(reference=TRITON), "It is NVIDIA's Triton"),
        (f"{ECR}/tensorflow-inference:2", Settings(), False, None, "It is TensorFlow Serving"),
        (f"{ECR}/djl-inference:1", Settings(), True, None, r"It is DJL Serving \(LMI\)"),
        (HUGGING_FACE, Settings(), False, Choice(reference=HUGGING_FACE), "Hugging Face Hub"),
        ("vllm/vllm-openai", Settings(), True, Choice(reference="vllm/vllm-openai"), "It is vLLM"),
        ("you/it:1", Settings(), True, Choice(reference="you/it:1", fallback=AUTO), ""),
        ("you/it:1", Settings(), False, Choice(reference="you/it:1"), "no model data to serve"),
        ("you/it:1", STRICT, True, Choice(reference="you/it:1"), "strict_images is set"),
        ("me/it:1", MAPPED, True, Choice(reference="mirror.example/us/it:1", fallback=AUTO), ""),
        ("you//it", Settings(), True, Choice(fallback=AUTO), ""),
        ("you/it:", Settings(), False, Choice(), "no model data to serve"),
    ],
)
def test_what_may_run_for_an_image(
    image: str, settings: Settings, has_artifact: bool, expected: Choice | None, refusal: str
) -> None:
    choice = choose(image, settings, has_artifact)
    assert bool(choice.server) + bool(choice.refusal) + bool(choice.fallback) == 1
    assert re.search(refusal, choice.refusal)
    assert not choice.refusal or f'"{names.untagged(image)}" = ' in choice.refusal
    assert not choice.reference or not choice.invalid
    if choice.server is None and not choice.reference:
        assert choice.invalid.startswith(f"{image} is no reference to an image: ")
    if expected:
        assert replace(choice, refusal="", invalid="") == replace(expected, invalid="")


def test_where_all_runs_in_docker_our_own_servers_run_in_their_image() -> None:
    ours = choose(f"{ECR}/xgboost:1", EVERYWHERE, has_artifact=True).server
    assert ours == Server(framework="xgboost", image="xgboost:1", reference=f"hostler-server:{__version__}")
    other = choose("you/it", replace(EVERYWHERE, server_image="mine:2"), has_artifact=True)
    assert other == Choice(reference="you/it", fallback=Server(framework="auto", reference="mine:2"))
    assert resolve(f"{ECR}/xgboost:1", EVERYWHERE, has_artifact=True).reference == ""
