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

SOURCE = Path(__file__).resolve().parents[2] / "src"
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
PROBED = 16 * 2**20  # bytes of instance memory in which one target's share is found out


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
        (self.place.folder / "hostler.toml").write_text("\n".join(["[images]", *mapped]))
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
        """The instance memory in which there is room for so many; 0, the instance type's own, where all have room.

        Targets weigh what they take in memory, so how many are resident in a known memory is tried first.
        """
        if service.room >= service.targets:
            return 0
        self._host_targets(service.room, PROBED, "probe")
        client = Client(self.port)
        for target in range(service.room):
            client.ask(self.call(target, "0,0,0,0,0,0"))
        resident = self._metric("hostler_resident_targets")
        self.stop()
        if not 0 < resident < service.room:
            raise Failed(f"{resident} of {service.room} targets are resident in {PROBED} bytes")
        return int(PROBED / (resident + 0.5) * (service.room + 0.5))

    def _host_targets(self, targets: int, memory: int, data: str = "data") -> None:
        bucket = self.place.folder / data / "s3" / "models" / "bench"
        bucket.mkdir(parents=True)
        for target in range(targets):
            shutil.copyfile(self.place.models.archive(target), bucket / f"{target}.tar.gz")
        self._up(data, memory)
        self._deploy({"Image": XGBOOST, "ModelDataUrl": "s3://models/bench/", "Mode": "MultiModel"})

    def _up(self, data: str, memory: int) -> None:
        self.port = free_port()
        self.run(
            self.python(), "-m", "hostler.cli", "up", "--port", str(self.port), "--data", self.place.folder / data,
            HOSTLER_INSTANCE_MEMORY=str(memory), PYTHONPATH=self.source, **self.variables,
        )  # fmt: skip
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
            told = sm.describe_endpoint(EndpointName="bench")
            if told["EndpointStatus"] == "Failed":
                raise Failed(told.get("FailureReason", "Failed"))
            return bool(told["EndpointStatus"] == "InService")

        self.wait(in_service)

    def _metric(self, name: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_hostler/metrics", timeout=10) as answer:
            lines = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", answer.read().decode(), re.MULTILINE)
        return int(sum(map(float, lines)))


class HostlerLRU(Hostler):
    name = "hostler-LRU"
    settings = "the same with eviction = lru"
    variables: Mapping[str, str] = {"HOSTLER_EVICTION": "lru"}
    only = ("churn",)
