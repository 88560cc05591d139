"""Where model data comes from and how long it stays: https:// addresses, and no cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import targets
from mapped import deploy, hops, image, mapped, way
from running import BUCKET, Hostler, eventually, hostler_up


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    folder = tmp_path_factory.mktemp("data")
    with hostler_up(folder / "up", config=mapped(folder, "hop")) as running:
        yield running


@pytest.mark.parametrize("host", [f"{BUCKET}.s3.us-east-1.amazonaws.com", f"{BUCKET}.s3.amazonaws.com"])
def test_model_data_is_found_by_its_https_address(hostler: Hostler, host: str):
    hostler.put("by-address/model.tar.gz", targets.xgboost_target(17))
    name = host.replace(".", "-")
    url = f"https://{host}/by-address/model.tar.gz"
    deploy(hostler, name, [{"Image": image("sagemaker-xgboost"), "ModelDataUrl": url}])
    answer = hostler.runtime.invoke_endpoint(EndpointName=name, ContentType="text/csv", Body=b"1,2")
    assert targets.number(answer["Body"].read()) == 17
    hostler.sm.delete_endpoint(EndpointName=name)


def test_without_a_cache_a_target_is_gone_when_its_last_request_is(hostler: Hostler):
    for name in ("a", "b"):
        hostler.put(f"fleeting/{name}.tar.gz", targets.archive({"name": name.encode()}))
    many = {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/fleeting/"}
    [container] = hops("hop")
    deploy(hostler, "fleeting", [container | many | {"MultiModelConfig": {"ModelCacheSetting": "Disabled"}}])
    shown = hostler.sm.describe_model(ModelName="fleeting")["Containers"][0]
    assert shown["MultiModelConfig"] == {"ModelCacheSetting": "Disabled"}
    [folder] = (hostler.data / "containers").iterdir()
    for name in ("a", "b", "a"):
        [hop] = way(hostler.invoke("fleeting", f"{name}.tar.gz"))[1]
        assert hop["model"] == name
        eventually(lambda: not [*(folder / "models").iterdir()], 10, "nothing of the target is left")
        eventually(
            lambda: hostler.metric("hostler_resident_targets", endpoint="fleeting") == 0, 10, "nothing is loaded"
        )
    hostler.sm.delete_endpoint(EndpointName="fleeting")
