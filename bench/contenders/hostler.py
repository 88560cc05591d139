"""This project, as `hostler up` starts it."""

from __future__ import annotations

import json
import re
import shutil
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import boto3

from contenders.aws import invocation
from contenders.contender import SERVERS, Call, Client, Contender, Failed, Service, free_port, listens
from hostler.testing import process

SOURCE = Path(__file__).resolve().parents[2] / "src"
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
PROBED = 16 * 2**20  # bytes of instance memory in which a target's share is measured


class Hostler(Contender):
    name = "hostler"
    source: ClassVar[Path] = SOURCE  # the folder of its code
    variables: Mapping[str, str] = {}
    settings = (
        "as it comes: 1 gateway, 1 instance, metrics, request ids, access log; targets in the embedded S3; for room,"
        " `instance_memory`; echo and pipeline: the echo server as a mapped image"
    )

    def start(self, service: Service) -> None:
        echo = [sys.executable, str(SERVERS / "echo.py")]
        images = {"echo": echo, "stage": [*echo, "mark"]}
        mapped = [f'"{REGISTRY}/{name}" = {json.dumps(words)}' for name, words in images.items()]
        (self.workspace.folder / "hostler.toml").write_text("\n".join(["[images]", *mapped]))
        if service.kind == "targets":
            self._host_targets(service.targets, self._memory(service))
        else:
            self._up("data", 0)
            image, count = ("stage", 3) if service.kind == "pipeline" else ("echo", 1)
            self._deploy(*[{"Image": f"{REGISTRY}/{image}:1"}] * count)

    def call(self, target: int, row: str) -> Call:
        return invocation("bench", row.encode(), target)

    def echo(self, body: bytes) -> Call:
        return invocation("bench", body)

    def loads(self) -> int | None:
        return self._metric("hostler_model_loads_total")

    def _memory(self, service: Service) -> int:
        """Return the instance memory that has room for so many targets; 0, the instance type's own, if all have room.

        A target's size is its memory, so the number of residents in a given memory is measured first.
        """
        if service.room >= service.targets:
            return 0
        self._host_targets(service.room, PROBED, "probe")
        client = Client(self.port)
        for target in range(service.room):
            client.send(self.call(target, "0,0,0,0,0,0"))
        resident = self._metric("hostler_resident_targets")
        self.stop()
        if not 0 < resident < service.room:
            raise Failed(f"{resident} of {service.room} targets are resident in {PROBED} bytes")
        return int(PROBED / (resident + 0.5) * (service.room + 0.5))

    def _host_targets(self, targets: int, memory: int, data: str = "data") -> None:
        bucket = self.workspace.folder / data / "s3" / "models" / "bench"
        bucket.mkdir(parents=True)
        for target in range(targets):
            shutil.copyfile(self.workspace.models.archive(target), bucket / f"{target}.tar.gz")
        self._up(data, memory)
        self._deploy({"Image": XGBOOST, "ModelDataUrl": "s3://models/bench/", "Mode": "MultiModel"})

    def _up(self, data: str, memory: int) -> None:
        self.port = free_port()
        command = process.up(self.workspace.folder / data, self.port, self.python())
        self.run(*command, HOSTLER_INSTANCE_MEMORY=str(memory), PYTHONPATH=self.source, **self.variables)
        self.wait(lambda: listens(self.port) and self.answers("/_hostler/ready"))

    def _deploy(self, *containers: dict[str, Any]) -> None:
        sm = boto3.client(
            "sagemaker", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        sm.create_model(
            ModelName="bench", ExecutionRoleArn="arn:aws:iam::123456789012:role/bench", Containers=containers
        )
        variant = {
            "VariantName": "AllTraffic", "ModelName": "bench", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1,
        }  # fmt: skip
        sm.create_endpoint_config(EndpointConfigName="bench", ProductionVariants=[variant])
        sm.create_endpoint(EndpointName="bench", EndpointConfigName="bench")

        def in_service() -> bool:
            description = sm.describe_endpoint(EndpointName="bench")
            if description["EndpointStatus"] == "Failed":
                raise Failed(description.get("FailureReason", "Failed"))
            return bool(description["EndpointStatus"] == "InService")

        self.wait(in_service)

    def _metric(self, name: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_hostler/metrics", timeout=10) as answer:
            lines = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", answer.read().decode(), re.MULTILINE)
        return int(sum(map(float, lines)))


class HostlerLRU(Hostler):
    name = "hostler-LRU"
    settings = "the same with eviction = lru"
    variables: Mapping[str, str] = {"HOSTLER_EVICTION": "lru"}
    only_workloads = ("churn",)
