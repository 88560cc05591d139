"""hostler in a cluster, installed by its chart: `with cell(folder) as hostler:`.

The cluster is our own (fake_cluster). With HOSTLER_TEST_REQUIRE=cluster it is that of KUBECONFIG, of which nothing is
assumed but that it has the images. `PYTHONPATH=tests python tests/kubernetes/cell.py` builds them and prints their
names, for `kind load docker-image` or the like. HOSTLER_TEST_REGISTRY, such as registry.example/tests, is put before
the names if they were pushed there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import running
from aws_clients import ROLE, Clients
from botocore.exceptions import BotoCoreError, ClientError
from fake_cluster import cluster as clusters
from fake_cluster.cluster import Cluster

import docker_rig
import helm_chart
from our_images import our_image

T = TypeVar("T")

KUBECTL = helm_chart.ROOT / ".venv" / "cluster" / "kubectl"
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
PATIENCE = 300.0  # seconds; a guard against hanging
_REGISTRY = "hostler-test-registry"  # in place of the registries of these accounts of README's
_ACCOUNTS = ("123456789012", "763104351884")
TYPES = [  # one for which there is no node, one with little memory, and all others
    {"type": "ml.p4d.*", "cpu": 1000},
    {"type": "ml.t2.*", "cpu": 1, "memory": "64MiB"},
    {"type": "ml.*", "cpu": 1, "memory": "2GiB"},
]
SMALL = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}


def is_real() -> bool:
    return "cluster" in os.environ.get("HOSTLER_TEST_REQUIRE", "").split(",")


def images(registry: str = f"{_REGISTRY}/cell") -> dict[str, str]:
    """Build all images of the suite, if they are not there; return their names by role, users' below this name."""
    users = {"myimage1": ("flask", "3"), "myimage2": ("flask", "10")}
    found = {each: our_image(each) for each in ("hostler", "hostler-server")}
    # Users may push our model servers as an image of theirs: then it is one that hostler does not know.
    docker_rig.docker("tag", found["hostler-server"], image := f"{registry}/myimage:mytag")
    found["myimage"] = image
    for repository, (name, factor) in users.items():
        parent = docker_rig.image(name)
        found[repository] = f"{registry}/{repository}:mytag"
        lines = f"FROM {parent}\nENV FACTOR={factor}\n"
        docker_rig.docker("build", "--quiet", "--tag", found[repository], "-", stdin=lines.encode())
    return found


def eventually(what: Callable[[], T | None], why: str, seconds: float = PATIENCE) -> T:
    """Return what a call returns as soon as that is true. kubectl is dear: it is called less often."""
    return running.eventually(what, seconds, why, pause=0.1)


class Cell(Clients):
    """One hostler. `cluster`: our own; None: a real one."""

    def __init__(self, kubeconfig: Path, folder: Path, cluster: Cluster | None, names: dict[str, str]) -> None:
        self.kubeconfig, self.folder, self.cluster, self.images = kubeconfig, folder, cluster, names
        self.namespace = "hostler" if cluster else f"hostler-test-{secrets.token_hex(3)}"
        self.instances = f"{self.namespace}-instances"
        self.url = ""
        self.signed = True  # its clients sign with a key that hostler knows
        self._forward: subprocess.Popen[bytes] | None = None

    # --- the chart

    def values(self, **more: Any) -> dict[str, Any]:
        """Return the chart's values: these images, and little memory for what is hostler's own."""
        prefix = os.environ.get("HOSTLER_TEST_REGISTRY", "")
        prefix += "/" if prefix else ""
        ours, servers = (self.images[each].rpartition(":") for each in ("hostler", "hostler-server"))
        registry = prefix + self.images["myimage"].rpartition("/")[0]
        return {
            "image": {"repository": prefix + ours[0], "tag": ours[2]},
            "serverImage": {"repository": prefix + servers[0], "tag": servers[2]},
            "registries": [{"pattern": f"{each}.dkr.ecr.*.amazonaws.com", "registry": registry} for each in _ACCOUNTS],
            "control": {"resources": SMALL},
            "gateways": {"resources": SMALL},
            "instances": {"types": TYPES},
            "settings": {"hold": 20},  # waiters learn at once what has come
            **more,
        }

    def install(self, **values: Any) -> None:
        """Install hostler, or upgrade it, and wait until it is ready."""
        self.signed = values.get("signatures", {}).get("verify", True)
        file = self.folder / "values.json"
        file.write_text(json.dumps(self.values(**values)))
        words = ["upgrade", "--install", "hostler", str(helm_chart.CHART), "--namespace", self.namespace]
        try:
            self.helm(*words, "--create-namespace", "--values", str(file), "--wait", "--timeout", f"{PATIENCE:g}s")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.report()}") from None
        if not self.url:
            self.url = self._front()
        eventually(self._answers, f"hostler answers\n{self.report()}")

    def uninstall(self) -> None:
        self.helm("uninstall", "hostler", "--namespace", self.namespace, "--wait", "--timeout", f"{PATIENCE:g}s")

    def close(self) -> None:
        if self._forward:
            self._forward.terminate()
            self._forward.wait()
        if not self.cluster:
            self.kubectl("delete", "namespace", self.namespace, self.instances, "--ignore-not-found", "--wait=false")

    def _front(self) -> str:
        """Return the URL of a port of this machine that leads to the gateways."""
        if self.cluster:
            return self.cluster.front(self.namespace, "hostler", 4566)
        words = self._words(KUBECTL, "--namespace", self.namespace, "port-forward", "service/hostler", ":4566")
        self._forward = subprocess.Popen(words, stdout=subprocess.PIPE, env=self._environment())
        assert self._forward.stdout
        line = self._forward.stdout.readline().decode()  # Forwarding from 127.0.0.1:40001 -> 4566
        return f"http://{line.split()[2]}"

    def _answers(self) -> bool:
        try:
            return "Endpoints" in self.sm.list_endpoints()
        except (BotoCoreError, ClientError):
            return False

    # --- kubectl and helm

    def kubectl(self, *words: str, timeout: float = PATIENCE) -> str:
        return self._run(KUBECTL, *words, timeout=timeout)

    def helm(self, *words: str) -> str:
        return self._run(helm_chart.HELM, *words, timeout=PATIENCE + 30)

    def read(self, *words: str) -> Any:
        """Return what `kubectl get` prints as JSON."""
        return json.loads(self.kubectl("get", *words, "--output", "json"))

    def pods(self, namespace: str = "") -> list[dict[str, Any]]:
        """Return the pods of the instances, or of another namespace."""
        return list(self.read("pods", "--namespace", namespace or self.instances)["items"])

    def _run(self, program: Path, *words: str, timeout: float) -> str:
        done = subprocess.run(
            self._words(program, *words),
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{program.name} {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def _words(self, program: Path, *words: str) -> list[str]:
        return [str(program), "--kubeconfig", str(self.kubeconfig), *words]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder)}

    # --- AWS's clients

    @cached_property
    def keys(self) -> tuple[str, str]:
        """Those of the Secret that the chart made, or any where none are asked for."""
        if not self.signed:
            return super().keys
        secret = self.read("secret/hostler-keys", "--namespace", self.namespace)
        [pair] = tomllib.loads(base64.b64decode(secret["data"]["keys.toml"]).decode()).items()
        return pair

    @property
    def variables(self) -> dict[str, str]:
        """The variables of a user's shell: the address, and a key."""
        key, hidden = self.keys
        region = dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1")
        return {"AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": hidden, **region}

    def python(self, program: str, folder: Path) -> Any:
        """Run a user's program in a folder, and return the JSON that it prints in its last line."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **self.variables}
        words = [sys.executable, "-c", program]
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.report()}"
        return json.loads(done.stdout.splitlines()[-1])

    def command(self, *words: str) -> str:
        """Run one of hostler's commands, and return its output."""
        port = self.url.rpartition(":")[2]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.variables}
        environment |= {"HOSTLER_PORT": port, "HOSTLER_SIGNATURES": "verify"}
        command = [sys.executable, "-m", "hostler.cli", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # --- endpoints

    def configure(
        self,
        name: str,
        containers: list[dict[str, Any]],
        count: int = 1,
        mode: str = "",
        type: str = "ml.m5.large",
        isolated: bool = False,
        **more: Any,
    ) -> None:
        """Create a model and an endpoint configuration of one variant, with `more` members."""
        model: dict[str, Any] = {"ExecutionRoleArn": ROLE, "Containers": containers, "EnableNetworkIsolation": isolated}
        if mode:
            model["InferenceExecutionConfig"] = {"Mode": mode}
        self.sm.create_model(ModelName=name, **model)
        variant = {"VariantName": "v", "ModelName": name, "InstanceType": type, "InitialInstanceCount": count}
        self.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[{**variant, **more}])

    def deploy(self, name: str, containers: list[dict[str, Any]], count: int = 1, mode: str = "") -> None:
        self.configure(name, containers, count, mode)
        self.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def status(self, name: str) -> tuple[str, str]:
        """Return (EndpointStatus, FailureReason)."""
        described = self.sm.describe_endpoint(EndpointName=name)
        return described["EndpointStatus"], described.get("FailureReason", "")

    def wait_in_service(self, name: str, seconds: float = PATIENCE) -> None:
        def is_settled() -> tuple[str, str] | None:
            status = self.status(name)
            return status if status[0] in ("InService", "Failed") else None

        deadline = time.monotonic() + seconds
        while not (settled := is_settled()):
            assert time.monotonic() < deadline, f"{name} is {self.status(name)}\n{self.report()}"
            time.sleep(0.2)
        assert settled[0] == "InService", f"{settled}\n{self.report()}"

    def delete(self, name: str) -> None:
        """Delete an endpoint, with what `deploy` made for it, and wait until no pod of it is left."""
        self.sm.delete_endpoint(EndpointName=name)
        for delete in (self.sm.delete_endpoint_config, self.sm.delete_model):
            with contextlib.suppress(ClientError):
                delete(**{"EndpointConfigName" if "config" in delete.__name__ else "ModelName": name})

    def no_pods_left(self) -> None:
        eventually(lambda: not self.pods(), "no pod of an instance is left")

    def report(self) -> str:
        """Return what is known of all pods, for a failure."""
        parts = []
        for namespace in (self.namespace, self.instances):
            with contextlib.suppress(AssertionError):
                for pod in self.pods(namespace):
                    name = pod["metadata"]["name"]
                    parts.append(f"--- {name}: {json.dumps(pod.get('status'))[:3000]}")
                    for each in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
                        with contextlib.suppress(AssertionError):
                            log = self.kubectl(
                                "logs", "--namespace", namespace, name, "--container", each["name"], "--tail=40"
                            )
                            parts.append(f"--- log of {each['name']}:\n{log[-6000:]}")
        return "\n".join(parts)


class Outcomes:
    """What became of the calls of callers: `outcomes` is how many had each, "right" or what came instead."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    @property
    def right(self) -> int:
        return self.outcomes["right"]

    def more(self, count: int) -> None:
        """Wait for so many more right answers."""
        enough = self.right + count
        while (now := self.right) < enough:  # on a slow machine for as long as one comes after the other
            eventually(lambda now=now: self.right > now, f"{count} more calls are answered: {self.outcomes}")


class Load(Outcomes):
    """Callers that invoke without a pause, each in a thread of its own."""

    def __init__(self, hostler: Cell, requests: Callable[[int], tuple[dict[str, Any], bytes]], callers: int) -> None:
        super().__init__()
        self._hostler, self._requests = hostler, requests
        self._ends, self._counts = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        runtime = self._hostler.client("sagemaker-runtime")
        while not self._ends.is_set():
            request, expected = self._requests(number)
            try:
                answer = runtime.invoke_endpoint(**request)["Body"].read()
                outcome = "right" if answer == expected else f"wrong: {answer[:80]!r}"
            except (BotoCoreError, ClientError) as error:
                outcome = f"lost: {error}"[:300]
            with self._counts:
                self.outcomes[outcome] += 1


@contextlib.contextmanager
def cell(folder: Path, names: dict[str, str] | None = None, machine: str = "", **values: Any) -> Iterator[Cell]:
    """Install hostler in a cluster (see not_installed), with these values beside the suite's own; remove it then."""
    with not_installed(folder, names, machine) as hostler:
        hostler.install(**values)
        yield hostler


@contextlib.contextmanager
def not_installed(folder: Path, names: dict[str, str] | None = None, machine: str = "") -> Iterator[Cell]:
    """A cluster in which hostler is yet to be installed.

    `names`: images by role, if not those of the suite. `machine`: see fake_cluster.cluster.running.
    """
    with contextlib.ExitStack() as stack:
        if names is None and is_real():
            names = _names()
        elif names is None:
            names = images(f"{_REGISTRY}/{secrets.token_hex(4)}")
            users = [name for name in names.values() if name.startswith(_REGISTRY)]
            stack.callback(docker_rig.docker, "rmi", "--force", *users)
        cluster = None
        if not is_real():
            cluster = stack.enter_context(
                clusters.running(nodes=clusters.ZONES, capacity={"cpu": "16", "memory": "64Gi"}, machine=machine)
            )
        kubeconfig = cluster.kubeconfig_file() if cluster else Path(os.environ["KUBECONFIG"])
        hostler = Cell(kubeconfig, folder, cluster, names)
        stack.callback(hostler.close)
        yield hostler


def _names() -> dict[str, str]:
    """Return the images' names, of a real cluster that has them already."""
    return images() if not docker_rig.missing() else json.loads(os.environ["HOSTLER_TEST_IMAGES"])


if __name__ == "__main__":
    for each in images().values():
        print(each, flush=True)
