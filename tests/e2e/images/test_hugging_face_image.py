"""The Hugging Face image: scripts as its toolkit calls them, and models' folders by transformers' pipeline.

Sources: handler_service.py, decoder_encoder.py and transformers_utils.py of
aws/sagemaker-huggingface-inference-toolkit; mms/context.py and NettyUtils.java of awslabs/multi-model-server.
"""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError
from running import BUCKET, ROLE, Hostler, eventually
from targets import archive, script_target

TAG = "2.3.0-transformers4.48.0-cpu-py311-ubuntu22.04"
REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
IMAGE = f"{REGISTRY}/huggingface-pytorch-inference:{TAG}"
JSON, CSV = "application/json", "text/csv"

ECHO = "def model_fn(folder): return 1\ndef predict_fn(data, model): return data\n"
CALLED = "def model_fn(folder): return lambda inputs, **more: [{'label': inputs, **more}]\n"
SCRIPTS = {
    "echo": ECHO,
    "called": CALLED,
    "kind": ECHO.replace("return data", "return {'is': type(data).__name__, 'of': type(data[0]).__name__}"),
    "bytes": ECHO.replace("return data", "return {'is': type(data['inputs']).__name__, 'of': len(data['inputs'])}"),
    "size": ECHO.replace("return data", "return data['inputs'].size"),
    "numpy": "import numpy, datetime\n" + ECHO.replace(
        "return data", "return [numpy.float32(0.5), numpy.arange(2), datetime.datetime(2020, 1, 2)]"),
    "records": ECHO.replace("return data", "return [{'label': 'A', 'score': 0.5}]"),
    "raises": ECHO.replace("return data", "return data['inputs']"),
    "nan": ECHO.replace("return data", "return float('nan')"),
    "transform": "def model_fn(folder): return 2\n"
    "def transform_fn(model, data, content_type, accept):\n"
    "    return f'{model} {type(data).__name__} {content_type} {accept}'\n",
    "output": ECHO + "def output_fn(prediction, accept): return {'a': 1}\n",
    "input": ECHO + "def input_fn(data, content_type): return [type(data).__name__, content_type]\n",
    "pieces": "def model_fn(folder): return 1\ndef transform_fn(m, d, c, a): yield from 'ab'\n",
    "context": "def model_fn(folder, context): return context.system_properties['model_dir'] == folder\n"
    "def predict_fn(data, model, context):\n"
    "    context.set_response_status(data)\n"
    "    return [model, context.get_request_header(0, 'X-Amzn-SageMaker-Custom-Attributes')]\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def scripts(hostler: Hostler) -> Hostler:
    """The endpoint `scripts`, whose targets are SCRIPTS."""
    for name, script in SCRIPTS.items():
        hostler.put(f"scripts/{name}.tar.gz", script_target(script))
    hostler.create_endpoint("scripts", image=IMAGE)
    return hostler


def answer(
    hostler: Hostler, target: str, body: bytes, content_type: str = JSON, endpoint: str = "scripts", **more: str
) -> tuple[str, bytes]:
    """Return content type and body."""
    found = hostler.runtime.invoke_endpoint(
        EndpointName=endpoint, TargetModel=f"{target}.tar.gz", Body=body, ContentType=content_type, **more
    )
    return found["ContentType"], found["Body"].read()


def refusal(hostler: Hostler, target: str, body: bytes, content_type: str = JSON, **more: str) -> dict[str, Any]:
    """Return the error that the image answers, as JSON: AWS passes it on in OriginalMessage."""
    with pytest.raises(ClientError) as caught:
        answer(hostler, target, body, content_type, **more)
    assert caught.value.response["OriginalStatusCode"] == 400
    told: dict[str, Any] = json.loads(caught.value.response["OriginalMessage"])
    assert (told["code"], told["type"]) == (400, "InternalServerException")
    return told


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def png() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (2, 3)).save(stream, format="PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("target", "body", "content_type", "wanted"),
    [
        ("kind", b'["a"]', JSON, b'{"is":"list","of":"str"}'),
        ("kind", b"[1]", JSON, b'{"is":"list","of":"int"}'),
        ("kind", npy(np.array([1.5])), "application/x-npy", b'{"is":"ndarray","of":"float64"}'),
        ("echo", b'{"inputs": "\xc3\xa9"}', JSON, b'{"inputs":"\xc3\xa9"}'),
        ("echo", b"inputs\nhello\nworld\n", CSV, b'{"inputs":["hello","world"]}'),
        ("echo", b"question,context\nwho,me\n", CSV, b'{"inputs":[{"question":"who","context":"me"}]}'),
        ("bytes", b"RIFF1234", "audio/wave", b'{"is":"bytes","of":8}'),
        ("bytes", b"ID3", "audio/mpeg", b'{"is":"bytes","of":3}'),
        ("size", png(), "image/png", b"[2,3]"),
        ("called", b'{"inputs": "yes"}', JSON, b'[{"label":"yes"}]'),
        ("called", b'{"inputs": "yes", "parameters": {"top_k": 1}}', JSON, b'[{"label":"yes","top_k":1}]'),
        ("called", b'{"text": "yes"}', JSON, b'[{"label":{"text":"yes"}}]'),
        ("numpy", b"1", JSON, b'[0.5,[0,1],"2020-01-02 00:00:00"]'),
        ("transform", b"\xff", "application/x-mine", b"2 bytearray application/x-mine application/json"),
        ("transform", b"a", CSV, b"2 str text/csv application/json"),
        ("transform", b"a", "text/csv; charset=utf-8", b"2 bytearray text/csv; charset=utf-8 application/json"),
        ("input", b"{}", JSON, b'["str","application/json"]'),
        ("input", b"\xff", "audio/wave", b'["bytearray","audio/wave"]'),
        ("output", b"1", JSON, b'{\n  "a": 1\n}'),
    ],
)
def test_a_missing_function_is_the_toolkits(
    scripts: Hostler, target: str, body: bytes, content_type: str, wanted: bytes
) -> None:
    assert answer(scripts, target, body, content_type) == (JSON, wanted)


@pytest.mark.parametrize(
    ("target", "accept", "wanted"),
    [
        ("records", "*/*", (JSON, b'[{"label":"A","score":0.5}]')),
        ("records", CSV, (CSV, b"label,score\r\nA,0.5\r\n")),
        ("transform", "text/plain", ("text/plain", b"2 str application/json text/plain")),
    ],
)
def test_accept_chooses_the_encoding_and_is_the_answers_type(
    scripts: Hostler, target: str, accept: str, wanted: tuple[str, bytes]
) -> None:
    assert answer(scripts, target, b"{}", Accept=accept) == wanted


@pytest.mark.parametrize(
    ("target", "body", "content_type", "message"),
    [
        ("raises", b'{"a": 1}', JSON, "'inputs'"),
        ("nan", b"1", JSON, "Out of range float values are not JSON compliant"),
        ("echo", b"{", JSON, "Expecting property name"),
        ("echo", b"\xff", JSON, "can't decode byte 0xff"),
        ("echo", b"1,2\n", CSV, "a first line of column names"),
        ("echo", b"{}", "application/json; charset=utf-8", "charset=utf-8 has no default input_fn"),
        ("echo", b"PNG", "image/png", "cannot identify image file"),
        ("called", b'["a"]', JSON, "pop expected at most 1 argument"),
    ],
)
def test_whatever_is_raised_is_a_client_error_in_the_images_json(
    scripts: Hostler, target: str, body: bytes, content_type: str, message: str
) -> None:
    assert message in refusal(scripts, target, body, content_type)["message"]


def test_an_accept_that_has_no_encoder_is_a_client_error(scripts: Hostler) -> None:
    assert "application/jsonlines" in refusal(scripts, "echo", b"1", Accept="application/jsonlines")["message"]


def test_an_iterator_is_sent_piece_by_piece(scripts: Hostler) -> None:
    assert answer(scripts, "pieces", b"1", Accept="text/plain") == ("text/plain", b"ab")


def test_each_function_may_take_the_context(scripts: Hostler) -> None:
    found = scripts.runtime.invoke_endpoint(
        EndpointName="scripts", TargetModel="context.tar.gz", Body=b"200", ContentType=JSON, CustomAttributes="a=1"
    )
    assert json.loads(found["Body"].read()) == [True, "a=1"]
    with pytest.raises(ClientError) as caught:
        answer(scripts, "context", b"418")
    assert caught.value.response["OriginalStatusCode"] == 418


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("def model_fn(): pass\n", "model_fn takes 0 arguments, not 1 or 2"),
        (f"{ECHO}def input_fn(a, b, c, d): pass\n", "input_fn takes 4 arguments, not 2 or 3"),
        (f"{ECHO}def transform_fn(m, d, c, a): pass\n", "has transform_fn beside input_fn, predict_fn or output_fn"),
        ("def predict_fn(data, model): return 1\n", "has no model_fn, and there is no config.json, and no HF_TASK"),
    ],
)
def test_a_script_that_the_toolkit_cannot_call_fails_to_load(scripts: Hostler, script: str, reason: str) -> None:
    scripts.put("scripts/bad.tar.gz", script_target(script))
    with pytest.raises(ClientError, match=reason):
        answer(scripts, "bad", b"1")


# --- a folder without a script ----------------------------------------------------------------------------------------

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "paris", "is", "in", "france", "where", "?")


def folder(architecture: str, weights: dict[str, list[Any]], **more: Any) -> dict[str, bytes]:
    """Return a tiny BERT whose last layer has these weights, so that its bias alone decides. The rest is random."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in {"bert.embeddings.LayerNorm.bias": [0, 0], **weights}.items():
        array = np.array(values, dtype="<f4")
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    head = json.dumps(header).encode()
    config = {
        "architectures": [architecture], "model_type": "bert", "vocab_size": len(WORDS), "hidden_size": 2,
        "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 2, "max_position_embeddings": 64, **more,
    }  # fmt: skip
    return {
        "config.json": json.dumps(config).encode(),
        "vocab.txt": "\n".join(WORDS).encode(),
        "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizerFast"}',
        "model.safetensors": struct.pack("<Q", len(head)) + head + data,
    }


def classifier(low: float, high: float, architecture: str = "BertForSequenceClassification", **more: Any) -> bytes:
    """Return an archive of a model that finds the second of two labels with the odds of e**(high - low)."""
    weights = {"classifier.weight": [[0, 0], [0, 0]], "classifier.bias": [low, high]}
    return archive(folder(architecture, weights, **more))


OFFLINE = """
import os, huggingface_hub, transformers
def output_fn(prediction, accept):
    hub = huggingface_hub.constants.HF_HUB_OFFLINE
    offline = os.environ["HF_HUB_OFFLINE"], hub, transformers.utils.is_offline_mode()
    return f"{prediction[0]['label']} {offline}"
"""
MINE = """
from transformers import BertConfig, BertForSequenceClassification
from .helper import LABELS
class MineConfig(BertConfig):
    model_type = "mine"
class MineForSequenceClassification(BertForSequenceClassification):
    config_class = MineConfig
    def __init__(self, config):
        config.id2label = LABELS
        super().__init__(config)
"""
FOLDERS = {
    "text": classifier(0.0, float(np.log(3)), id2label={"0": "NO", "1": "YES"}, label2id={"NO": 0, "YES": 1}),
    "token": classifier(0.0, float(np.log(3)), "BertForTokenClassification"),
    "answer": archive(
        folder("BertForQuestionAnswering", {"qa_outputs.weight": [[0, 0], [0, 0]], "qa_outputs.bias": [0, 0]})
    ),
    "mask": archive(
        folder(
            "BertForMaskedLM",
            {
                "bert.embeddings.word_embeddings.weight": [[0, 0]] * len(WORDS),
                "cls.predictions.decoder.weight": [[0, 0]] * len(WORDS),
                "cls.predictions.bias": [10.0 if word == "paris" else 0.0 for word in WORDS],
                "cls.predictions.decoder.bias": [10.0 if word == "paris" else 0.0 for word in WORDS],
            },
        )
    ),
    "script": archive(
        folder("BertForSequenceClassification", {"classifier.weight": [[0, 0], [0, 0]], "classifier.bias": [0, 9]})
        | {"code/inference.py": OFFLINE.encode()}
    ),
    "bare": archive({
        name: data
        for name, data in folder("BertForSequenceClassification", {}).items()
        if name in ("config.json", "model.safetensors")
    }),
    "own": archive(
        folder("MineForSequenceClassification", {"classifier.bias": [0, 9]}, model_type="mine", auto_map={
            "AutoConfig": "mine.MineConfig",
            "AutoModelForSequenceClassification": "mine.MineForSequenceClassification",
        })
        | {"mine.py": MINE.encode(), "helper.py": b"LABELS = {0: 'no', 1: 'my own'}\n"}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(hostler: Hostler, require: Any) -> Hostler:
    """The endpoint `folders`, whose targets are FOLDERS, without HF_TASK."""
    require("torch", "transformers")
    for name, content in FOLDERS.items():
        hostler.put(f"folders/{name}.tar.gz", content)
    hostler.create_endpoint("folders", image=IMAGE, Environment={"HF_TRUST_REMOTE_CODE": "True"})
    return hostler


def predicted(hostler: Hostler, target: str, inputs: Any, **parameters: Any) -> Any:
    body = {"inputs": inputs, **({"parameters": parameters} if parameters else {})}
    return json.loads(answer(hostler, target, json.dumps(body).encode(), endpoint="folders")[1])


def test_a_folders_task_is_that_of_its_architecture(folders: Hostler) -> None:
    assert predicted(folders, "text", "paris is in france") == [{"label": "YES", "score": pytest.approx(0.75)}]
    assert predicted(folders, "text", ["paris", "is"], top_k=None)[1] == [
        {"label": "YES", "score": pytest.approx(0.75)},
        {"label": "NO", "score": pytest.approx(0.25)},
    ]
    tokens = predicted(folders, "token", "paris is")
    assert [(token["word"], token["entity"]) for token in tokens] == [("paris", "LABEL_1"), ("is", "LABEL_1")]
    assert tokens[0]["score"] == pytest.approx(0.75)
    question = {"question": "where is paris ?", "context": "paris is in france"}
    assert predicted(folders, "answer", question)["answer"] in question["context"]
    assert predicted(folders, "mask", "[MASK] is in france")[0]["sequence"] == "paris is in france"


def test_a_csv_body_reaches_the_pipeline_as_its_column(folders: Hostler) -> None:
    found = answer(folders, "text", b"inputs\nparis\nis\n", CSV, endpoint="folders", Accept=CSV)
    assert [line.split(",")[0] for line in found[1].decode().split()] == ["label", "YES", "YES"]


def test_a_script_without_model_fn_gets_the_pipeline(folders: Hostler) -> None:
    assert answer(folders, "script", b'{"inputs": "paris"}', endpoint="folders")[1].startswith(b"LABEL_1")


def test_a_pipeline_is_loaded_offline(folders: Hostler) -> None:
    assert answer(folders, "script", b'{"inputs": "paris"}', endpoint="folders")[1].endswith(b"('1', True, True)")


def test_a_folder_without_a_tokenizer_is_told_so(folders: Hostler) -> None:
    with pytest.raises(ClientError, match=r"does not load it for text-classification: .*tokenizer\.save_pretrained"):
        predicted(folders, "bare", "paris")


def test_a_models_own_code_runs_where_that_is_trusted(folders: Hostler) -> None:
    assert predicted(folders, "own", "paris")[0]["label"] == "my own"
    assert not [*folders.data.glob("containers/*/remote-code-*")]
    assert not [*folders.data.glob("artifacts/**/__pycache__")]


def test_the_environment_says_task_and_model(hostler: Hostler) -> None:
    hostler.put("task.tar.gz", script_target(ECHO))
    variables = {
        "HF_TASK": "zero-shot-classification",
        "HF_MODEL_ID": "somebody/elses",
        "SAGEMAKER_PROGRAM": "inference.py",
    }
    deploy(hostler, "task", ModelDataUrl=f"s3://{BUCKET}/task.tar.gz", Environment=variables)
    hostler.wait_in_service("task")
    found = hostler.runtime.invoke_endpoint(EndpointName="task", Body=b'["a"]', ContentType=JSON)
    assert found["Body"].read() == b'["a"]'
    with pytest.raises(ClientError, match="text/csv cannot hold the inputs of zero-shot-classification"):
        hostler.runtime.invoke_endpoint(EndpointName="task", Body=b"inputs\na\n", ContentType=CSV)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (IMAGE, "nothing here fetches a model from the Hugging Face Hub"),
        (f"{REGISTRY}/huggingface-pytorch-tgi-inference:2.7.0-tgi3.3.6-gpu", r"Text Generation Inference \(TGI\)"),
        (f"{REGISTRY}/huggingface-pytorch-inference-neuronx:2.1.2-transformers4.43.2-neuronx", "Neuron chips"),
        (f"{REGISTRY}/djl-inference:0.30.0-lmi12.0.0-cu124", r"DJL Serving \(LMI\)"),
        ("382416733822.dkr.ecr.us-east-1.amazonaws.com/linear-learner:1", "Amazon's built-in algorithms"),
    ],
)
def test_what_nothing_stands_in_for_starts_nothing_and_fails_by_name(hostler: Hostler, image: str, reason: str) -> None:
    name = "refused"
    deploy(hostler, name, Image=image, Environment={"HF_MODEL_ID": "gpt2"})

    def failed() -> str:
        description = hostler.sm.describe_endpoint(EndpointName=name)
        assert description["EndpointStatus"] in ("Creating", "Failed")
        return str(description.get("FailureReason", ""))

    told = eventually(failed, 30, "the endpoint has failed")
    assert reason.replace("\\", "") in told
    assert f'under [images], "{image.rpartition(":")[0]}" = ' in told
    assert len(told) < 1024
    hostler.sm.delete_endpoint(EndpointName=name)
    hostler.sm.delete_endpoint_config(EndpointConfigName=name)
    hostler.sm.delete_model(ModelName=name)
    eventually(lambda: not hostler.sm.list_endpoints(NameContains=name)["Endpoints"], 60, "it is deleted")


def deploy(hostler: Hostler, name: str, **container: Any) -> None:
    """Create an endpoint of one container, and do not wait."""
    hostler.sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE, **container})
    variant = {
        "VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1,
    }  # fmt: skip
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
