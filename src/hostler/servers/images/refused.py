"""The images that nothing here stands in for, by repository name: what each is, and what may be done instead.

An endpoint with such an image fails, and starts nothing. Source of AWS's names: image_uri_config of the SageMaker SDK.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Refused(NamedTuple):
    """`what`: what the image is, to come after "it is". `advice`: whole sentences."""

    what: str
    advice: str


_ONNX = (
    "Export the model to ONNX: an archive with a model.onnx is served under the name pytorch-inference, or under any"
    " image name that nobody knows."
)
_LANGUAGE_MODEL = (
    "A model's folder from the Hugging Face Hub (config.json and weights) is served under the name"
    " huggingface-pytorch-inference, and a script with model_fn and predict_fn under pytorch-inference."
)
_BEFORE_COMPILATION = (
    "The model as it was before its compilation is served under its framework's image: pytorch-inference,"
    " huggingface-pytorch-inference or sagemaker-xgboost."
)
_NO_SERVER = "Name the image that is for inference."

TRITON = Refused(
    "NVIDIA's Triton Inference Server, which serves a model repository",
    "Where its model is model.onnx or TorchScript (model.pt), put that at the top of an archive: it is served under the"
    " name pytorch-inference, or under any image name that nobody knows.",
)
LMI = Refused("DJL Serving (LMI), which serves what serving.properties describes", _LANGUAGE_MODEL)
TENSORFLOW = Refused(
    "TensorFlow Serving, which serves a SavedModel",
    f"{_ONNX} A script with model_fn and predict_fn is served there, too: TensorFlow's images call their scripts"
    " otherwise.",
)
MXNET = Refused("Apache MXNet, which is retired", _ONNX)
SPARK_ML = Refused("Spark ML Serving, which serves an MLeap bundle", _ONNX)
NEURON = Refused("for models that are compiled for AWS's Neuron chips (Inferentia, Trainium)", _BEFORE_COMPILATION)
LLAMA_CPP = Refused("llama.cpp, which serves GGUF files", _LANGUAGE_MODEL)
ALGORITHM = Refused(
    "one of Amazon's built-in algorithms, and only that image reads the models that it trains",
    "The same kind of model, trained with XGBoost, scikit-learn or PyTorch, is served under those frameworks' images.",
)

# Model servers, whoever has built the image, by the last part of its name.
SERVERS = (
    (r"djl-(?:inference|serving|lmi)|lmi(?:-dist)?", LMI),
    (r"tgi|(?:huggingface-)?(?:pytorch-)?(?:tgi|text-generation)-inference(?:-neuronx?)?", Refused(
        "Hugging Face's Text Generation Inference (TGI)", _LANGUAGE_MODEL)),
    (r"tei(?:-cpu)?|(?:huggingface-)?(?:tei|text-embeddings-inference)(?:-cpu|-gpu)?", Refused(
        "Hugging Face's Text Embeddings Inference (TEI)", _LANGUAGE_MODEL)),
    (r"(?:huggingface-)?vllm(?:-openai|-omni|-server|-arm64|-inference)?(?:-neuronx?)?", Refused(
        "vLLM, a server of language models", _LANGUAGE_MODEL)),
    (r"(?:huggingface-)?sglang(?:-server|-inference)?", Refused(
        "SGLang, a server of language models", _LANGUAGE_MODEL)),
    (r"(?:huggingface-)?llama[.-]?cpp(?:-arm64)?", LLAMA_CPP),
    (r"(?:sagemaker-)?tritonserver", TRITON),
)  # fmt: skip

# AWS's repositories, with names that may mean anything in other registries.
REPOSITORIES = (
    (
        r"blazingtext|factorization-machines|forecasting-deepar|image-classification|ipinsights|kmeans|knn|lda"
        r"|linear-learner|ntm|object-detection|object2vec|pca|randomcutforest|semantic-segmentation|seq2seq",
        ALGORITHM,
    ),
    (r"sagemaker-sklearn-automl", Refused(
        "SageMaker Autopilot's, whose feature pipelines use a library that is in that image alone",
        "A scikit-learn pipeline of your own is served under the name sagemaker-scikit-learn.",
    )),
    (r"xgboost-neo|image-classification-neo|sagemaker-(?:inference|neo)-(?:mxnet|pytorch|tensorflow)", Refused(
        "for models that SageMaker Neo has compiled for one kind of machine", _BEFORE_COMPILATION)),
    (r"(?:huggingface-(?:pytorch|tensorflow)|pytorch|tensorflow|mxnet)-inference-neuronx?", NEURON),
    (r"(?:huggingface-)?pytorch-inference-eia", Refused(
        "for Amazon Elastic Inference, which is retired", "The model is served under the name pytorch-inference.")),
    (r"(?:sagemaker-tensorflow(?:-serving)?|tensorflow-inference)(?:-eia|-graviton|-arm64)?", TENSORFLOW),
    (r"(?:sagemaker-)?mxnet(?:-inference|-serving)?(?:-eia)?", MXNET),
    (r"sagemaker-chainer", Refused("Chainer, which is retired", _ONNX)),
    (r"sagemaker-sparkml-serving", SPARK_ML),
    (r"autogluon-inference", Refused(
        "AutoGluon, whose models are loaded by AutoGluon alone",
        "Where AutoGluon is installed beside hostler, its script is served under the name pytorch-inference.",
    )),
    (r"stabilityai-pytorch-inference", Refused(
        "Stability AI's, with libraries that are in that image alone",
        "A script with model_fn and predict_fn that needs none of them is served under the name pytorch-inference.",
    )),
    (r"nova-inference(?:-repo)?", Refused("Amazon Nova, whose models are served on AWS alone", _LANGUAGE_MODEL)),
    (r"ray", Refused("Ray Serve", "A script with model_fn and predict_fn is served under the name pytorch-inference.")),
    (r"sagemaker-rl-(?:coach|ray|vw)-container|sagemaker-rl-(?:mxnet|ray|tensorflow|vw)", Refused(
        "for reinforcement learning", _ONNX)),
    (r"whisperx", Refused("WhisperX, a server of speech recognition", _LANGUAGE_MODEL)),
    (
        r"(?:huggingface-)?(?:autogluon|mxnet|pytorch|tensorflow)(?:-trcomp)?-training(?:-(?:neuronx?|graviton|arm64))?"
        r"|smdistributed-modelparallel|sagemaker-tensorflow-scriptmode",
        Refused("for training, without a model server in it", _NO_SERVER),
    ),
    (
        r"(?:sagemaker-(?:clarify|spark)|detailed-profiler)-processing|sagemaker-model-monitor-analyzer"
        r"|sagemaker-debugger-rules|sagemaker-data-wrangler-container|sagemaker-geospatial-v1-0|sagemaker-inspect-ai",
        Refused("for processing jobs, without a model server in it", _NO_SERVER),
    ),
    (r"sagemaker-base-python(?:-\d+)?|sagemaker-distribution(?:-prod)?", Refused(
        "for notebooks and jobs, without a model server in it", _NO_SERVER)),
)  # fmt: skip


def find(repository: str) -> Refused | None:
    """Return what a repository of AWS's is, if nothing here stands in for it."""
    return _first((*REPOSITORIES, *SERVERS), repository)


def find_server(name: str) -> Refused | None:
    """Return what an image of anybody's is, by its name without tag, if that is a known model server's."""
    return _first(SERVERS, name.rpartition("/")[2])


def _first(table: tuple[tuple[str, Refused], ...], name: str) -> Refused | None:
    return next((refused for pattern, refused in table if re.fullmatch(pattern, name)), None)
