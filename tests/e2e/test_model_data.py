"""Sources of model data and its time on disk: https:// addresses, no cache, replaced objects."""

from __future__ import annotations

import hashlib
import os

import pytest
import targets
from hop_endpoints import deploy, hops, image, trace
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
        eventually(lambda: not [*(folder / "models").iterdir()], 30, "the target's folder is removed")
        eventually(
            lambda: hostler.metric("hostler_resident_targets", endpoint="fleeting") == 0, 30, "no target is resident"
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
