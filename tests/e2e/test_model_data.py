"""Sources of model data and its time on disk: https:// addresses, no cache, replaced objects."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import targets
from hop_endpoints import create_model, deploy, hops, image, trace, variant
from running import BUCKET, Hostler, eventually


@pytest.mark.parametrize("host", [f"{BUCKET}.s3.us-east-1.amazonaws.com", f"{BUCKET}.s3.amazonaws.com"])
def test_model_data_is_read_by_its_https_address(hostler: Hostler, host: str):
    hostler.put("by-address/model.tar.gz", targets.xgboost_target(17))
    name = host.replace(".", "-")
    url = f"https://{host}/by-address/model.tar.gz"
    deploy(hostler, name, [{"Image": image("sagemaker-xgboost"), "ModelDataUrl": url}])
    answer = hostler.runtime.invoke_endpoint(EndpointName=name, ContentType="text/csv", Body=b"1,2")
    assert targets.number(answer["Body"].read()) == 17
    hostler.sm.delete_endpoint(EndpointName=name)


SCRIPT = """
import json, os

def model_fn(folder):
    above = os.path.dirname(folder.rstrip("/"))
    return {
        os.path.relpath(os.path.join(path, name), above): open(os.path.join(path, name)).read()
        for part in ("model", "additional-model-data-sources")
        for path, _, names in os.walk(os.path.join(above, part)) for name in names if not name.endswith(".pyc")
    }

def input_fn(body, content_type): return body
def predict_fn(data, model): return model
def output_fn(prediction, accept): return json.dumps(prediction)
"""


def source(uri: str, type: str = "S3Prefix", compression: str = "None") -> dict[str, Any]:
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": type, "CompressionType": compression}}


def test_a_script_finds_the_objects_below_a_prefix_and_the_data_of_its_channels(hostler: Hostler):
    hostler.put("apart/code/inference.py", SCRIPT.encode())
    hostler.put("apart/weights/part-1", b"first")
    hostler.put("words/list.txt", b"words")
    hostler.put("words.tar.gz", targets.archive({"deep/list.txt": b"packed"}))
    container = {
        "Image": image("pytorch-inference"),
        "ModelDataSource": source(f"s3://{BUCKET}/apart/"),
        "AdditionalModelDataSources": [
            {"ChannelName": "words", **source(f"s3://{BUCKET}/words/")},
            {"ChannelName": "one", **source(f"s3://{BUCKET}/words/list.txt", "S3Object")},
            {"ChannelName": "packed.v1", **source(f"s3://{BUCKET}/words.tar.gz", "S3Object", "Gzip")},
        ],
    }
    more = "additional-model-data-sources"
    expected = {
        "model/code/inference.py": SCRIPT,
        "model/weights/part-1": "first",
        f"{more}/words/list.txt": "words",
        f"{more}/one/list.txt": "words",
        f"{more}/packed.v1/deep/list.txt": "packed",
    }
    for name, first in (("apart", "first"), ("apart-again", "second")):  # a changed object is noticed by the next start
        hostler.put("apart/weights/part-1", first.encode())
        deploy(hostler, name, [container])
        answer = hostler.runtime.invoke_endpoint(EndpointName=name, ContentType="text/plain", Body=b"x")
        assert json.loads(answer["Body"].read()) == expected | {"model/weights/part-1": first}
    for name in ("apart", "apart-again"):
        hostler.sm.delete_endpoint(EndpointName=name)


def test_a_command_and_a_model_of_ours_take_one_object_as_it_is(hostler: Hostler):
    with tarfile.open(fileobj=io.BytesIO(targets.xgboost_target(17))) as archive:
        [member] = archive.getmembers()
        hostler.put(f"single/{member.name}", archive.extractfile(member).read())
    hostler.put("single/name", b"a name")
    data = source(f"s3://{BUCKET}/single/{member.name}", "S3Object")
    deploy(hostler, "one-object", [{"Image": image("sagemaker-xgboost"), "ModelDataSource": data}])
    answer = hostler.runtime.invoke_endpoint(EndpointName="one-object", ContentType="text/csv", Body=b"1,2")
    assert targets.number(answer["Body"].read()) == 17
    [container] = hops("hop")
    deploy(hostler, "hop-object", [container | {"ModelDataSource": source(f"s3://{BUCKET}/single/name", "S3Object")}])
    assert [path.read_text() for path in (hostler.data / "containers").glob("*/model/name")] == ["a name"]
    for name in ("one-object", "hop-object"):
        hostler.sm.delete_endpoint(EndpointName=name)


def test_a_prefix_with_a_folder_of_the_console_fails_with_the_key_and_the_way_out(hostler: Hostler):
    hostler.put("folders/xgboost-model", b"{}")
    hostler.s3.put_object(Bucket=BUCKET, Key="folders/empty/")
    data = source(f"s3://{BUCKET}/folders/")
    create_model(hostler, "folders", [{"Image": image("sagemaker-xgboost"), "ModelDataSource": data}])
    hostler.sm.create_endpoint_config(EndpointConfigName="folders", ProductionVariants=[variant("folders")])
    hostler.sm.create_endpoint(EndpointName="folders", EndpointConfigName="folders")
    eventually(lambda: described(hostler, "folders")["EndpointStatus"] == "Failed", 60, "the endpoint fails")
    assert described(hostler, "folders")["FailureReason"] == (
        f'Failed to download model data for container "container_1" from URL: "s3://{BUCKET}/folders/". Please ensure'
        " that there is an object located at the URL and that the role passed to CreateModel has permissions to"
        " download the object. The object 'folders/empty/' cannot be a file of the model: it ends with a slash, as"
        " folders do that S3's console makes. Put the files alone there, by aws s3 cp --recursive or aws s3 sync."
    )
    hostler.sm.delete_endpoint(EndpointName="folders")


def described(hostler: Hostler, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = hostler.sm.describe_endpoint(EndpointName=name)
    return answer


PACK = {  # coralogix/protofetch#85, composefs/tar-rs#295, chshersh/tool-sync#86
    "sparse": "tar -Sczf out.tgz xgboost-model table.bin",
    "sparse-pax": "tar --format=posix -Sczf out.tgz xgboost-model table.bin",
    "appended": "mv xgboost-model new && echo old > xgboost-model && tar -cf a.tar xgboost-model"
    " && mv new xgboost-model && tar -rf a.tar xgboost-model && gzip -c a.tar > out.tgz",
    "linked": "ln xgboost-model a-first-name && tar -czf out.tgz a-first-name xgboost-model",
}


def test_archives_that_any_tar_writes_are_served(hostler: Hostler, tmp_path: Path):
    with tarfile.open(fileobj=io.BytesIO(targets.xgboost_target(17))) as archive:
        archive.extractall(tmp_path, filter="data")
    with (tmp_path / "table.bin").open("wb") as table:
        table.truncate(2**20)
    for name, command in PACK.items():
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
        hostler.put(f"packed/{name}.tar.gz", (tmp_path / "out.tgz").read_bytes())
    aws = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
    container = {"Image": aws, "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/packed/"}
    deploy(hostler, "packed", [container])
    for name in PACK:
        assert targets.number(hostler.invoke("packed", f"{name}.tar.gz")) == 17, name
    hostler.sm.delete_endpoint(EndpointName="packed")


def test_without_a_cache_a_target_is_unloaded_after_its_last_request(hostler: Hostler):
    for name in ("a", "b"):
        hostler.put(f"fleeting/{name}.tar.gz", targets.archive({"name": name.encode()}))
    many = {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/fleeting/"}
    [container] = hops("hop")
    deploy(hostler, "fleeting", [container | many | {"MultiModelConfig": {"ModelCacheSetting": "Disabled"}}])
    container = hostler.sm.describe_model(ModelName="fleeting")["Containers"][0]
    assert container["MultiModelConfig"] == {"ModelCacheSetting": "Disabled"}
    [folder] = (hostler.data / "containers").iterdir()
    for name in ("a", "b", "a"):
        [hop] = trace(hostler.invoke("fleeting", f"{name}.tar.gz"))[1]
        assert hop["model"] == name
        eventually(lambda: not [*(folder / "models").iterdir()], 60, "the target's folder is removed")
        eventually(
            lambda: hostler.metric("hostler_resident_targets", endpoint="fleeting") == 0, 60, "no target is resident"
        )
    hostler.sm.delete_endpoint(EndpointName="fleeting")


def test_a_file_moved_over_an_object_is_served_even_with_the_same_size_and_time(hostler: Hostler):
    first, second = targets.xgboost_target(5), targets.xgboost_target(6)
    size = max(len(first), len(second)) + 1
    path = hostler.data / "s3" / BUCKET / "moved" / "model.tar.gz"
    for number, packed in ((5, first), (6, second)):
        hostler.put("moved/new", packed.ljust(size, b"\0"))
        os.utime(path.with_name("new"), (1e9, 1e9))
        path.with_name("new").rename(path)
        data = f"s3://{BUCKET}/moved/model.tar.gz"
        deploy(hostler, f"moved-{number}", [{"Image": image("sagemaker-xgboost"), "ModelDataUrl": data}])
        answer = hostler.runtime.invoke_endpoint(EndpointName=f"moved-{number}", ContentType="text/csv", Body=b"1,2")
        assert targets.number(answer["Body"].read()) == number
        read = hostler.s3.get_object(Bucket=BUCKET, Key="moved/model.tar.gz")
        assert read["ETag"].strip('"') == hashlib.md5(read["Body"].read()).hexdigest()
        hostler.sm.delete_endpoint(EndpointName=f"moved-{number}")
