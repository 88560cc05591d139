"""Model data by file://: an archive, the folder of a multi-model endpoint, and a file that is added there later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import targets
from botocore.exceptions import ClientError
from hop_endpoints import image
from running import ROLE, hostler_up


def test_model_data_by_file_url_is_read_below_file_root_and_nowhere_else(tmp_path: Path):
    root = tmp_path / "models"
    (root / "many").mkdir(parents=True)
    (root / "one.tar.gz").write_bytes(targets.xgboost_target(17))
    (root / "many/a.tar.gz").write_bytes(targets.xgboost_target(1))
    (root / "many/out.tar.gz").symlink_to(tmp_path / "secret.tar.gz")
    (tmp_path / "secret.tar.gz").write_bytes(targets.xgboost_target(99))
    with hostler_up(tmp_path / "up", file_root=str(root)) as hostler:
        for name, data in {
            "one": {"ModelDataUrl": f"file://{root}/one.tar.gz"},
            "many": {"ModelDataUrl": f"file://{root}/many/", "Mode": "MultiModel"},
        }.items():
            container = {"Image": image("sagemaker-xgboost"), **data}
            hostler.sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
            variant = {
                "VariantName": "v", "ModelName": name, "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1,
            }  # fmt: skip
            hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
            hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
            hostler.wait_in_service(name)
        answer = hostler.runtime.invoke_endpoint(EndpointName="one", ContentType="text/csv", Body=b"1,2")
        assert targets.number(answer["Body"].read()) == 17
        assert targets.number(hostler.invoke("many", "a.tar.gz")) == 1
        (root / "many/later.tar.gz").write_bytes(targets.xgboost_target(2))
        assert targets.number(hostler.invoke("many", "later.tar.gz")) == 2
        for target in ("out.tar.gz", "none.tar.gz", "../one.tar.gz"):
            with pytest.raises(hostler.runtime.exceptions.ClientError) as refused:
                hostler.invoke("many", target)
            response = refused.value.response
            assert 400 <= response["ResponseMetadata"]["HTTPStatusCode"] < 500
            assert str(tmp_path) not in response["Error"]["Message"].replace(f"file://{root}", "")
            if target == "none.tar.gz":
                assert (
                    f"Failed to download model data (file://{root}/many/none.tar.gz)." in response["Error"]["Message"]
                )


def test_a_folder_that_cannot_be_model_data_is_refused_with_the_entry_that_is_at_fault(tmp_path: Path):
    root = tmp_path / "models"
    (root / "m").mkdir(parents=True)
    with open(os.path.join(os.fsencode(root), b"m", b"caf\xe9"), "wb"):
        pass
    source = {"S3Uri": f"file://{root}/m/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {"Image": image("pytorch-inference"), "ModelDataSource": {"S3DataSource": source}}
    with hostler_up(tmp_path / "up", file_root=str(root)) as hostler, pytest.raises(ClientError) as refused:
        hostler.sm.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert r"The folder's entry 'caf\udce9' cannot be used: it is not UTF-8." in str(refused.value)
