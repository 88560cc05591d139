"""The control plane alone on a loopback port: the real app and store, a lifecycle and a source that tests steer."""

import asyncio
import functools
import itertools
import threading
import uuid
from contextlib import contextmanager

import boto3
import msgspec
import uvicorn
from botocore.config import Config

from hostler.artifacts.source import Listed, Unchanged
from hostler.aws import check, service
from hostler.control.app import create_app
from hostler.control.context import Context
from hostler.control.sagemaker.operations import OPERATIONS
from hostler.core.endpoints.rollout import Failed, Ready
from hostler.core.endpoints.status import EndpointView, VariantView
from hostler.engines.log_files import LogFiles
from hostler.errors import ArtifactMissing, StorageUnavailable
from hostler.hosting.faults import Faults
from hostler.settings import Settings
from hostler.store.documents import definitions
from hostler.store.metric_store import MetricStore
from hostler.store.store import Store
from hostler.store.thread import StoreThread

REGION = "us-east-1"
SERVICE = service.load("sagemaker", OPERATIONS)


class NoGateways:
    """Where faults are published: to nobody."""

    def set_faults(self, scopes):
        return 0

    async def acknowledged(self, version, timeout):
        pass


class Lifecycle:
    """Moves an endpoint by a word in its name or its newest config's: `broken` fails, `stuck` does not move, any other
    is ready at once. While it is `paused`, no endpoint moves.
    """

    paused = False

    def __init__(self, store):
        self._store = store

    def wake(self):
        if self.paused:
            return
        for endpoint, revisions, _ in self._store.changes().endpoints:
            name = f"{endpoint.name} {revisions[-1].config['EndpointConfigName']}"
            if endpoint.deleting and "stuck" not in endpoint.name:
                self._store.remove(endpoint.uid)
            elif endpoint.status not in ("Creating", "Updating") or "stuck" in name:
                continue
            elif "broken" in name:
                self._store.mark({endpoint.uid: Failed(endpoint.revision, "It is broken.")}, endpoint.modified + 0.5)
            else:
                self._store.mark({endpoint.uid: Ready(endpoint.revision)}, endpoint.modified + 0.5)

    def view(self, record, revisions):
        return _view(record, revisions)

    async def settled(self, uid, timeout):
        statuses = {endpoint.uid: endpoint.status for endpoint, *_ in self._store.changes().endpoints}
        if statuses.get(uid) in ("Creating", "Updating", "Deleting"):
            await asyncio.sleep(timeout)

    def describe_all(self):
        return [{"region": endpoint.region, "name": endpoint.name} for endpoint, *_ in self._store.changes().endpoints]

    def targets(self, region, name, match, order, limit):
        if name and self._store.endpoint(region, name) is None:
            return f"there is no endpoint {name!r} in {region}"
        return {"targets": [], "total": 0, "asked": [region, name, match, order, limit]}

    async def logs(self, region, name, tail):
        if self._store.endpoint(region, name) is None:
            return None
        return [{"instance": "1", "log": "x" * tail}]


def _view(endpoint, revisions):
    """While its revision is stuck, a new fleet has half of its instances."""
    oldest, newest = revisions[0], revisions[-1]
    serving = oldest if endpoint.ready_revision else newest
    pending = endpoint.status == "Updating" and newest.fleet != serving.fleet
    return EndpointView(_variants(serving, bool(endpoint.ready_revision)), _variants(newest, False) if pending else ())


def _variants(revision, whole):
    return tuple(
        VariantView(
            variant["VariantName"],
            variant["InitialInstanceCount"] if whole else variant["InitialInstanceCount"] // 2,
            *(("", "") if whole else ("Creating", f"Launching {variant['InitialInstanceCount']} instance(s).")),
            images=_images(revision.models[variant["ModelName"]]),
        )
        for variant in revision.config["ProductionVariants"]
    )


def _images(model):
    """Return what runs of a model: images whose names have `pulled` in them, from a mirror."""
    images = [container["Image"] for container in definitions(model)]
    return tuple(f"mirror.example/it@sha256:{'ab' * 32}" if "pulled" in image else "" for image in images)


async def _refused_labels(containers):
    """Refuse images for many models that are called `bare`."""
    return next((f"{image} lacks a label." for image, many in containers if many and "bare" in image), "")


class Source:
    """Has every object, except those with `missing` or `unreachable` in their key."""

    async def open(self, bucket, key, known=""):
        if "missing" in key:
            raise ArtifactMissing("Not Found")
        if "unreachable" in key:
            raise StorageUnavailable("connection refused")
        return Unchanged()

    async def list(self, bucket, prefix, most):
        await self.open(bucket, prefix)
        return () if "empty" in prefix else (Listed(f"{prefix}a", "1", 1),)


async def s3(scope, receive, send):
    """Stands for the embedded S3: its answer names the request."""
    body = f"objects: {scope['method']} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Stage:
    def __init__(self, context, port):
        self.context = context
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @functools.cache  # noqa: B019 - a stage is few and short-lived
    def client(self, name="sagemaker", region=REGION):
        """Return a real boto3 client; every answer of SageMaker's is checked against AWS's own model."""
        client = self.client_with_retries(name, region, retries={"total_max_attempts": 1})
        client.meta.events.register("after-call.sagemaker", _conforms)
        return client

    def client_with_retries(self, name, region=REGION, **config):
        """Return a boto3 client that repeats calls as it does by default. A prefix to 127.0.0.1 would be no host."""
        return boto3.client(
            name,
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(read_timeout=120, inject_host_prefix=False, **config),
        )


def _conforms(http_response, model, **_):
    uuid.UUID(http_response.headers["x-amzn-RequestId"])
    assert http_response.headers["Content-Type"] == "application/x-amz-json-1.1"
    if http_response.status_code == 200:
        output = SERVICE.operations[model.name].output
        if output is None:
            assert http_response.content == b""
        else:
            document = msgspec.json.decode(http_response.content)
            assert check.read(output, document) == document


@contextmanager
def running(folder, hold=0.2, **settings):
    """A Stage whose clock advances by a second each time it is read."""
    ticks = itertools.count(1_700_000_000)
    folder.mkdir(exist_ok=True)
    store = Store(folder / "hostler.db")
    metric_store = MetricStore(folder / "metrics.db", 2**26, lambda: 1_700_000_000)
    logs = LogFiles(folder / "logs")
    logs.all_taken_over()
    context = Context(
        settings=Settings(data=folder, hold=hold, **settings),
        store=store,
        store_thread=StoreThread(store),
        metric_store=metric_store,
        metric_thread=StoreThread(metric_store, "metrics"),
        collect_metrics=lambda: asyncio.sleep(0),
        lifecycle=Lifecycle(store),
        logs=logs,
        source=Source(),
        metrics=lambda: b"# metrics\n",
        s3=s3,
        faults=Faults(NoGateways()),
        ready=lambda: True,
        clock=lambda: next(ticks) + 0.125,
        refused_labels=_refused_labels,
    )
    config = uvicorn.Config(create_app(context), port=0, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    started = threading.Event()

    async def serve():
        task = asyncio.create_task(server.serve())
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.005)
        started.set()
        await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield Stage(context, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
        context.metric_thread.close()
        context.store_thread.close()
