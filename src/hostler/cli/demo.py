"""`hostler demo`: host models on a hostler of its own, and compare its predictions with those of the models.

Owns the demonstration: data, models, the program, the comparison. Uses hostler only as its users do: starts
`hostler up` in a folder of its own and calls it through boto3. Removes everything it has made before it returns.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hostler import __version__
from hostler.errors import UserError
from hostler.testing import process

# An unchanged boto3 program: README prints it, the demo and the end-to-end test run it.
SETUP = """\
sm  = boto3.client('sagemaker'); rt = boto3.client('sagemaker-runtime'); s3 = boto3.client('s3')
s3.create_bucket(Bucket='my-bucket')
s3.upload_file('Houston_TX.tar.gz', 'my-bucket', 'path/to/artifacts/Houston_TX.tar.gz')        # xgboost-model inside
container = {'Image': '763104351884.dkr.ecr.us-east-1.amazonaws.com/myimage:mytag',
             'ModelDataUrl': 's3://my-bucket/path/to/artifacts/', 'Mode': 'MultiModel'}
sm.create_model(ModelName='my-multi-model-name', ExecutionRoleArn=role, Containers=[container])
sm.create_endpoint_config(EndpointConfigName='my-epc', ProductionVariants=[{'InstanceType': 'ml.m4.xlarge',
    'InitialInstanceCount': 2, 'InitialVariantWeight': 1, 'ModelName': 'my-multi-model-name', 'VariantName': 'AllTraffic'}])
sm.create_endpoint(EndpointName='my-endpoint', EndpointConfigName='my-epc')
sm.get_waiter('endpoint_in_service').wait(EndpointName='my-endpoint')
"""  # noqa: E501
INVOKE = """\
answer = rt.invoke_endpoint(EndpointName='my-endpoint', ContentType='text/csv', TargetModel='Houston_TX.tar.gz', Body=body)
"""  # noqa: E501
READ = """\
price = json.loads(answer['Body'].read())[0]
"""
PROGRAM = SETUP + INVOKE + READ

ROLE = "arn:aws:iam::123456789012:role/demo"
CITIES = {
    "Houston_TX": 155.0,
    "Chicago_IL": 190.0,
    "New_York_NY": 420.0,
    "San_Diego_CA": 480.0,
}  # dollars a square foot
HOUSE = (1850.0, 3.0, 2.0, 25.0)  # square feet, bedrooms, bathrooms, years
WARM_CALLS = 20
READY_WITHIN = 60.0  # seconds; a guard against hanging, not a promise


@dataclass(frozen=True)
class Result:
    """One model's predictions, by the server and by the booster (dollars), and times (milliseconds).

    The caller measured the times; `cold_parts` and `warm_parts` are the parts that Server-Timing reported.
    """

    model: str
    prediction: float
    booster: float
    equal: bool
    cold: float
    cold_parts: dict[str, float]
    warm: float
    warm_parts: dict[str, float]


def train(city: str, folder: Path) -> tuple[Path, float]:
    """Train one city's house prices; return the packed model, `<city>.tar.gz`, and the booster's price of HOUSE."""
    import numpy
    import xgboost

    rng = numpy.random.default_rng(len(city) * 1000 + int(CITIES[city]))
    rows = 2000
    feet = rng.normal(1900, 600, rows).clip(500, 6000)
    bedrooms = (feet / 650 + rng.normal(0, 0.7, rows)).round().clip(1, 7)
    bathrooms = (bedrooms * 0.7 + rng.normal(0, 0.5, rows)).round().clip(1, 6)
    years = rng.uniform(0, 80, rows)
    price = CITIES[city] * feet + 9000 * bedrooms + 14000 * bathrooms - 600 * years + rng.normal(0, 15000, rows)
    data = xgboost.DMatrix(numpy.column_stack([feet, bedrooms, bathrooms, years]), label=price)
    booster = xgboost.train({"max_depth": 4, "eta": 0.2, "nthread": 1}, data, num_boost_round=60)
    model = bytes(booster.save_raw("ubj"))
    archive = folder / f"{city}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("xgboost-model")
        member.size = len(model)
        tar.addfile(member, io.BytesIO(model))
    return archive, float(booster.predict(xgboost.DMatrix(numpy.array([HOUSE])))[0])


@contextlib.contextmanager
def own_hostler(folder: Path) -> Iterator[str]:
    """A `hostler up` on a free port, its data below `folder`; yields its URL, and stops it. Raises UserError."""
    log = folder / "hostler.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HOSTLER_")}
    hostler = process.HostlerProcess(process.up(folder / "data"), environ, folder, log)
    try:
        try:
            url = hostler.wait_until_ready(READY_WITHIN)
        except process.NotReady:
            raise UserError(f"hostler did not come up:\n{_tail(log)}") from None
        yield url
    finally:
        hostler.end()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].strip()


def point_aws_at(url: str, folder: Path) -> None:
    """Point this process's AWS clients at `url`, with dummy credentials; remove the shell's AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ENDPOINT_URL=url,
        AWS_REGION="us-east-1",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_ACCESS_KEY_ID="hostler",
        AWS_SECRET_ACCESS_KEY="hostler",
        AWS_CONFIG_FILE=str(folder / "no-config"),
        AWS_SHARED_CREDENTIALS_FILE=str(folder / "no-credentials"),
        NO_PROXY="*",
    )


def server_timing(header: str) -> dict[str, float]:
    """Return the durations of a Server-Timing header by name, in milliseconds."""
    parts: dict[str, float] = {}
    for entry in header.split(","):
        name, *parameters = (piece.strip() for piece in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key == "dur":
                parts[name] = float(value)
    return parts


def run(as_json: bool, command: str) -> int:
    """Run the demonstration and print it. `command`: how to call this hostler, for the closing line.

    Return 0 if every prediction equals the booster's own, else 1. Raises UserError if an extra is missing or hostler
    does not come up.
    """
    try:
        import boto3  # noqa: F401
        import xgboost  # noqa: F401
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise UserError(f"the demo needs {error.name}: pip install 'hostler[demo]'") from None

    def show(text: str = "") -> None:
        if not as_json:
            print(text, flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    home = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="hostler-demo-") as name:
        folder = Path(name)
        started = time.perf_counter()
        with own_hostler(folder) as url:
            show(f"hostler {__version__} is ready at {url} after {time.perf_counter() - started:.1f} s\n")
            os.chdir(folder)  # the program names its archive without a folder
            try:
                point_aws_at(url, folder)
                results = list(_predictions(folder, show))
            except (BotoCoreError, ClientError) as error:
                raise UserError(f"the program failed: {error}\n{_tail(folder / 'hostler.log')}") from None
            finally:
                os.chdir(home)
    if as_json:
        print(json.dumps({"results": [asdict(result) for result in results]}, indent=2))
    wrong = [result.model for result in results if not result.equal]
    if wrong:
        print(f"hostler: the predictions of {', '.join(wrong)} differ from the booster's own", file=sys.stderr)
        return 1
    show(f"\nAll {len(results)} predictions equal the boosters' own. Now with your own models:\n")
    show(f'  {command} up                        # and in another shell:\n  eval "$({command} env)"')
    show("  python your_boto3_program.py        # unchanged")
    return 0


def _predictions(folder: Path, show: Any) -> Iterator[Result]:
    import boto3

    started = time.perf_counter()
    models = {city: train(city, folder) for city in CITIES}
    took = time.perf_counter() - started
    show(f"{len(models)} XGBoost models of house prices trained in {took:.1f} s; this runs now:\n")
    show("".join(f"    {line}" for line in PROGRAM.splitlines(keepends=True)))

    body = ",".join(f"{value:g}" for value in HOUSE)
    names: dict[str, Any] = {"boto3": boto3, "json": json, "role": ROLE, "body": body}
    started = time.perf_counter()
    exec(SETUP, names)
    show(f"my-endpoint is InService {time.perf_counter() - started:.1f} s after the program's start\n")
    show(f"  {'TargetModel':20} {'prediction':>12} {'the booster':>14}  {'cold ms':>8} {'warm ms':>8}")
    for city, (archive, expected) in models.items():
        if city != "Houston_TX":  # new archives need no restart and no call but the upload
            names["s3"].upload_file(str(archive), "my-bucket", f"path/to/artifacts/{archive.name}")
        lines = (INVOKE + READ).replace("Houston_TX", city)
        cold, cold_parts, prediction = _timed(lines, names)
        calls = sorted((_timed(lines, names) for _ in range(WARM_CALLS)), key=lambda call: call[0])
        warm, warm_parts, _ = calls[len(calls) // 2]
        equal = all(call[2] == expected for call in calls) and prediction == expected
        sign = "=" if equal else "!="
        show(f"  {archive.name:20} {prediction:12.2f} {sign:2}{expected:12.2f}  {cold:8.1f} {warm:8.1f}")
        show(f"  {'':20} cold: {_parts(cold_parts)}; warm: {_parts(warm_parts)}")
        yield Result(archive.name, prediction, expected, equal, cold, cold_parts, warm, warm_parts)


def _timed(lines: str, names: dict[str, Any]) -> tuple[float, dict[str, float], float]:
    """Invoke once; return milliseconds, Server-Timing, and the predicted price at the booster's precision."""
    import numpy

    started = time.perf_counter()
    exec(lines, names)
    took = (time.perf_counter() - started) * 1000
    timing = server_timing(names["answer"]["ResponseMetadata"]["HTTPHeaders"].get("server-timing", ""))
    return took, timing, float(numpy.float32(names["price"]))


def _parts(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
