"""A hostler for a test suite: one that runs for a while and keeps nothing, and models behind its endpoints.

Only the standard library is imported, and boto3 when a client is asked for: the caller's environment may be another
than that in which hostler runs.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hostler.testing import archives, aws_environment, faults
from hostler.testing.process import HostlerProcess, NotReady

READY_WITHIN = 60.0  # seconds; a guard against hanging, not a promise
_SETTLED_WITHIN = 300.0  # seconds
_CALL_WITHIN = 180.0  # seconds; longer than a reset that waits for calls in flight
_LOOK = 0.02  # seconds between two looks
_ROLE = "arn:aws:iam::123456789012:role/hostler-testing"
_NEEDED = {  # whatever a hostler.toml says: calls of `Hostler` must go through
    "HOST": "127.0.0.1",
    "REGION": "us-east-1",
    "SIGNATURES": "off",
    "KEYS_FILE": "",
    "S3_ENDPOINT": "",
    "RESET": "true",
    "FAULTS": "true",
}
_PACKAGES = "; its packages are not installed here: install them, or name the command of an environment that has them"


class Refused(Exception):
    """An answer of hostler's that is an error: its HTTP status, and AWS's code and sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


class EndpointFailed(Exception):
    """An endpoint is Failed; the text is its FailureReason."""


@contextlib.contextmanager
def running(
    *,
    command: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    folder: Path | None = None,
    within: float = READY_WITHIN,
) -> Iterator[Hostler]:
    """Run a hostler on a free port, its data in a folder of their own, which is removed with it.

    It ends with this process, too, if that is killed. `settings`: by their names, as in hostler.toml; those of the
    shell (HOSTLER_*) do not count. `command`: that of another environment's hostler, such as
    `/opt/hostler/bin/hostler up`. `folder`: where it is started, and finds a hostler.toml and relative paths; by
    default the working directory. Raises NotReady.
    """
    words = [*(command or (sys.executable, "-P", "-m", "hostler.cli", "up"))]
    words += ["--temporary", "--end-with", str(os.getpid()), "--port", "0"]
    given = {f"HOSTLER_{name.upper()}": str(value) for name, value in (settings or {}).items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HOSTLER_"))}
    environment |= {f"HOSTLER_{name}": value for name, value in _NEEDED.items()} | given
    with tempfile.TemporaryFile() as output:  # without a name, it is gone with its last user
        printed_to = Path(f"/dev/fd/{output.fileno()}")
        process = HostlerProcess(words, environment, folder or Path.cwd(), printed_to, own_session=True)
        try:
            try:
                url = process.wait_until_ready(within)
            except NotReady as error:
                printed = process.output()[-4000:].strip()
                advice = _PACKAGES if "ModuleNotFoundError" in printed else ""
                raise NotReady(f"hostler did not come up: {error}{advice}\n{printed}") from None
            if unknown := [name for name in given if f"{name} is no setting" in process.output()]:
                raise NotReady(f"hostler has no such setting: {unknown[0].removeprefix('HOSTLER_').lower()}")
            yield Hostler(url, environment["HOSTLER_REGION"], lambda: _names_variables(words, process))
        finally:
            process.end()


def _names_variables(up: list[str], process: HostlerProcess) -> dict[str, str]:
    """Have `hostler env --aws-hosts` make the proxy's files; return its variables. Raises NotReady."""
    command = [*up[: up.index("up")], *process.env_command()[1:], "--aws-hosts", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReady(f"AWS's host names do not lead to hostler: {done.stderr.strip()}")
    variables: dict[str, str] = json.loads(done.stdout)
    return variables


class Hostler:
    """A hostler that runs at `url`. `names_variables`: returns the variables by which AWS's host names lead here."""

    def __init__(self, url: str, region: str, names_variables: Callable[[], dict[str, str]]) -> None:
        self.url = url
        self._names_variables = functools.cache(names_variables)
        self.region = region
        self._environment = aws_environment.PointedAt(self.variables)

    # --- AWS's clients --------------------------------------------------------------------------------------------

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that point AWS clients here, for a process of its own."""
        return aws_environment.variables(self.url, self.region)

    def environment(self, *, aws_hosts: bool = False) -> contextlib.AbstractContextManager[None]:
        """Set the variables in this process within a block, and no other of AWS's.

        `aws_hosts`: also those by which AWS's own host names lead here, which the SageMaker SDK calls (the extra
        aws-hosts). Raises NotReady.
        """
        if not aws_hosts:
            return self._environment
        return aws_environment.PointedAt({**self.variables, **self._names_variables()})

    def client(self, service: str, **options: Any) -> Any:
        """Return a client of the caller's boto3, such as `client("logs")`; `options` as of boto3.client."""
        from botocore.config import Config

        config = Config(proxies={})
        if given := options.pop("config", None):
            config = config.merge(given)
        where = {"endpoint_url": self.url, "region_name": self.region, "config": config}
        key = {"aws_access_key_id": aws_environment.KEY, "aws_secret_access_key": aws_environment.KEY}
        return self._session.client(service, **{**where, **key, **options})

    @functools.cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.session.Session()

    # --- endpoints ------------------------------------------------------------------------------------------------

    def endpoint(
        self,
        name: str,
        model: Any = None,
        *,
        answer: Any = None,
        content_type: str = "application/json",
        script: str | Path | None = None,
        image: str = "",
        environment: Mapping[str, str] | None = None,
        instances: int = 1,
        tags: Mapping[str, str] | None = None,
    ) -> Endpoint:
        """Host a model behind an endpoint, and return that when it is InService. Raises EndpointFailed, Refused.

        `model`: an XGBoost or scikit-learn model; any other object that can be pickled, with a `script`; the path of a
        folder, of an archive, or of a model's file. A dict of them makes a multi-model endpoint, by TargetModel.
        `answer` in the place of `model`: the body of every answer, of this content type; or a dict of them.
        `image`: another one than the model's own. `environment`: the container's.
        """
        if (model is None) == (answer is None):
            raise TypeError("an endpoint has either a model or an answer")
        given = model if answer is None else answer
        packed = {
            target: archives.pack(each, script) if answer is None else archives.pack_answer(each, content_type)
            for target, each in (given.items() if isinstance(given, Mapping) else [("model.tar.gz", given)])
        }
        endpoint = Endpoint(self, name, f"models-{uuid.uuid4().hex[:16]}", tuple(packed))
        self.s3("PUT", endpoint.bucket)
        for target, each in packed.items():
            self.s3("PUT", endpoint.bucket, target, each.archive)
        many, url = isinstance(given, Mapping), f"s3://{endpoint.bucket}/"
        container = {
            "Image": image or archives.image_of([*packed.values()]),
            "Environment": dict(environment or {}),
            "Mode": "MultiModel" if many else "SingleModel",
            "ModelDataUrl": url if many else f"{url}model.tar.gz",
        }
        self.call("CreateModel", ModelName=name, ExecutionRoleArn=_ROLE, PrimaryContainer=container)
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large"}
        variants = [variant | {"InitialInstanceCount": instances}]
        self.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=variants)
        tagged = [{"Key": key, "Value": value} for key, value in (tags or {}).items()]
        self.call("CreateEndpoint", EndpointName=name, EndpointConfigName=name, Tags=tagged)
        endpoint.wait()
        return endpoint

    def fault(self, effect: str, **members: Any) -> contextlib.AbstractContextManager[str]:
        """Have calls fail within a block, such as `fault("ThrottlingException", endpoint="prices", first=2)`.

        docs/faults.md has the effects and their members. Entering the block raises FaultRefused.
        """
        return faults.fault(self.url, effect, **members)

    # --- what is there --------------------------------------------------------------------------------------------

    def contents(self) -> list[str]:
        """Return the ARNs of all models, endpoint configs, endpoints, log groups and buckets."""
        arns: list[str] = self.page("GET", "/_hostler/reset")["resources"]
        return arns

    def reset(self, keep: Iterable[str] = ()) -> None:
        """Delete all of `contents`, with whatever is in it, but these; return when nothing of it is left."""
        self.page("POST", "/_hostler/reset", {"keep": [*keep]})

    # --- calls ----------------------------------------------------------------------------------------------------

    def call(self, operation: str, **request: Any) -> Any:
        """Call an operation of SageMaker's, such as `call("DescribeEndpoint", EndpointName=…)`. Raises Refused."""
        headers = {"X-Amz-Target": f"SageMaker.{operation}", "Content-Type": "application/x-amz-json-1.1"}
        return json.loads(self.send("POST", "/", json.dumps(request).encode(), headers) or b"{}")

    def page(self, method: str, path: str, content: Any = None) -> Any:
        """Call one of hostler's own pages. Raises Refused."""
        body = None if content is None else json.dumps(content).encode()
        return json.loads(self.send(method, path, body, {"Content-Type": "application/json"}) or b"null")

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Send an HTTP request and return the body of its answer. Raises Refused."""
        request = urllib.request.Request(f"{self.url}{path}", body, dict(headers or {}), method=method)
        try:
            with faults.DIRECT.open(request, timeout=_CALL_WITHIN) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error, error.read()) from None

    def s3(self, method: str, bucket: str, key: str = "", body: bytes | None = None) -> None:
        """PUT or DELETE an object, or a bucket. Raises Refused."""
        headers = {"Content-Type": "application/octet-stream"}
        self.send(method, f"/{bucket}/{urllib.parse.quote(key)}" if key else f"/{bucket}", body, headers)


class Endpoint:
    """An endpoint of one model, or of several: `targets`, whose archives are in a bucket of their own.

    A context manager: it is deleted at the block's end.
    """

    def __init__(self, hostler: Hostler, name: str, bucket: str, targets: tuple[str, ...]) -> None:
        self.name = name
        self.bucket = bucket
        self.targets = targets
        self._hostler = hostler

    def invoke(self, body: bytes | str, content_type: str = "text/csv", *, target: str = "", accept: str = "") -> bytes:
        """Invoke it, and return the answer's body. Raises Refused."""
        headers = {"Content-Type": content_type}
        if target:
            headers["X-Amzn-SageMaker-Target-Model"] = target
        if accept:
            headers["Accept"] = accept
        content = body.encode() if isinstance(body, str) else body
        return self._hostler.send("POST", f"/endpoints/{self.name}/invocations", content, headers)

    def wait(self, within: float = _SETTLED_WITHIN) -> None:
        """Wait until it is InService. Raises EndpointFailed."""
        give_up = time.monotonic() + within
        while (described := self._describe())["EndpointStatus"] != "InService":
            if described["EndpointStatus"] == "Failed":
                raise EndpointFailed(f"{self.name}: {described['FailureReason']}")
            if time.monotonic() > give_up:
                raise EndpointFailed(f"{self.name} is {described['EndpointStatus']} after {within:g} s")
            time.sleep(_LOOK)

    def delete(self) -> None:
        """Delete it, its config, its model and its bucket, and wait until it is gone. It may be deleted already."""
        for operation, member in _DELETES.items():
            with contextlib.suppress(Refused):
                self._hostler.call(operation, **{member: self.name})
        with contextlib.suppress(Refused):  # there is none of that name any more
            while self._describe()["EndpointStatus"] == "Deleting":
                time.sleep(_LOOK)
        for target in (*self.targets, ""):
            with contextlib.suppress(Refused):
                self._hostler.s3("DELETE", self.bucket, target)

    def _describe(self) -> Any:
        return self._hostler.call("DescribeEndpoint", EndpointName=self.name)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()


_DELETES = {
    "DeleteEndpoint": "EndpointName",
    "DeleteEndpointConfig": "EndpointConfigName",
    "DeleteModel": "ModelName",
}


def _refused(error: urllib.error.HTTPError, body: bytes) -> Refused:
    """Return the error of an answer: AWS's JSON, the invocations' headers, or S3's XML, as it came."""
    code = error.headers.get("x-amzn-ErrorType", "")
    message = body.decode(errors="replace")
    with contextlib.suppress(ValueError):
        content = json.loads(body)
        if isinstance(content, dict):
            code = code or str(content.get("__type", ""))
            message = str(content.get("message") or content.get("Message") or message)
    return Refused(error.code, code.rpartition("#")[2] or str(error.reason), message)
