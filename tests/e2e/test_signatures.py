"""A hostler that verifies signatures, and AWS clients with right and wrong keys."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families
from running import ANY_IMAGE, BUCKET, REPOSITORY, ROLE, Hostler, hostler_up
from shell import AWS

from free_ports import free_port
from hostler.cli import demo

KEY, SECRET = "AKIDEXAMPLE", "its/very+secret"
MODEL = "Houston_TX.tar.gz"


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    folder = tmp_path_factory.mktemp("signatures")
    keys = folder / "keys.toml"
    keys.write_text(f'{KEY} = "{SECRET}"\nAKIDOTHER = "another"\n')
    keys.chmod(0o600)
    scraped = f"tcp:127.0.0.1:{free_port()}"
    with hostler_up(folder, signatures="verify", keys_file=keys, faults="true", metrics_listen=scraped) as running:
        yield running
        files = [path for path in folder.rglob("*") if path.is_file() and path != keys]
        assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def client(hostler: Hostler, service: str, key: str = KEY, secret: str = SECRET, **more: Any) -> Any:
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=hostler.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, **more),
    )


@pytest.fixture(scope="module")
def price(hostler: Hostler, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Create the multi-model endpoint `my-endpoint`; return the price that its model predicts."""
    archive, price = demo.train("Houston_TX", tmp_path_factory.mktemp("model"))
    s3, sagemaker = client(hostler, "s3"), client(hostler, "sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    s3.upload_file(str(archive), BUCKET, f"path/{MODEL}")
    container = {"Image": ANY_IMAGE, "ModelDataUrl": f"s3://{BUCKET}/path/", "Mode": "MultiModel"}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, Containers=[container])
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="my-endpoint", EndpointConfigName="c")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="my-endpoint")
    return price


def invoke(runtime: Any, body: bytes = b"") -> bytes:
    body = body or ",".join(f"{value:g}" for value in demo.HOUSE).encode()
    request = {"EndpointName": "my-endpoint", "TargetModel": MODEL, "ContentType": "text/csv"}
    answer: bytes = runtime.invoke_endpoint(Body=body, CustomAttributes="a  b", **request)["Body"].read()
    return answer


def test_boto3_with_a_right_key(hostler: Hostler, price: float):
    for key, secret in ((KEY, SECRET), ("AKIDOTHER", "another")):
        runtime = client(hostler, "sagemaker-runtime", key, secret)
        assert json.loads(invoke(runtime)) == [pytest.approx(price)]
        row = ",".join(f"{value:g}" for value in demo.HOUSE) + "\n"
        answer = invoke(runtime, row.encode() * 100_000)  # 1.5 MB: more than one read
        assert answer.count(b",") == 99_999
    assert client(hostler, "sts").get_caller_identity()["Account"] == "123456789012"
    assert client(hostler, "iam").get_role(RoleName="hostler")["Role"]["RoleName"] == "hostler"
    groups = client(hostler, "logs").describe_log_groups()["logGroups"]
    assert [group["logGroupName"] for group in groups] == ["/aws/sagemaker/Endpoints/my-endpoint"]
    for service, operation in NOT_HOSTED:
        with pytest.raises(ClientError, match="is not hosted by hostler"):
            getattr(client(hostler, service), operation)()


def test_temporary_credentials_are_signed_with_their_token(hostler: Hostler, price: float):
    session = boto3.Session(KEY, SECRET, "a token", "us-east-1")
    assert json.loads(invoke(session.client("sagemaker-runtime", endpoint_url=hostler.url))) == [pytest.approx(price)]


NOT_HOSTED = [
    ("lambda", "list_functions"),
    ("dynamodb", "list_tables"),
    ("sns", "list_topics"),
    ("ec2", "describe_vpcs"),
]
WRONG = [
    ("NOBODY", SECRET, "UnrecognizedClientException", "InvalidAccessKeyId", "InvalidClientTokenId"),
    (KEY, "guessed", "InvalidSignatureException", "SignatureDoesNotMatch", "SignatureDoesNotMatch"),
]


@pytest.mark.parametrize(("key", "secret", "json_code", "s3_code", "sts_code"), WRONG)
def test_boto3_with_a_wrong_key(
    hostler: Hostler, price: float, key: str, secret: str, json_code: str, s3_code: str, sts_code: str
):
    def code(service: str, operation: str, **more: Any) -> tuple[str, int]:
        with pytest.raises(ClientError) as refused:
            getattr(client(hostler, service, key, secret), operation)(**more)
        answer = refused.value.response
        return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]

    assert code("sagemaker-runtime", "invoke_endpoint", EndpointName="my-endpoint", Body=b"1") == (json_code, 403)
    stream = "invoke_endpoint_with_response_stream"
    assert code("sagemaker-runtime", stream, EndpointName="my-endpoint", Body=b"1") == (json_code, 403)
    assert code("sagemaker", "delete_endpoint", EndpointName="my-endpoint") == (json_code, 400)
    assert code("logs", "describe_log_groups") == (json_code, 400)
    assert code("s3", "put_object", Bucket=BUCKET, Key="k", Body=b"x" * 1_000_000) == (s3_code, 403)
    assert code("s3", "list_objects_v2", Bucket=BUCKET) == (s3_code, 403)
    assert code("sts", "get_caller_identity") == (sts_code, 403)
    assert code("iam", "get_role", RoleName="hostler") == (sts_code, 403)
    codes = [(json_code, 403), (json_code, 400), (sts_code, 403), (sts_code, 403)]
    assert [code(service, operation) for service, operation in NOT_HOSTED] == codes


def test_s3_transfers_of_every_kind(hostler: Hostler, price: float, tmp_path: Path):
    s3 = client(hostler, "s3")
    content = os.urandom(20_000_000)
    (tmp_path / "large").write_bytes(content)
    s3.upload_file(str(tmp_path / "large"), BUCKET, "large (1) ü+=&.bin")  # in parts
    assert s3.get_object(Bucket=BUCKET, Key="large (1) ü+=&.bin", Range="bytes=5-9")["Body"].read() == content[5:10]
    s3.download_file(BUCKET, "large (1) ü+=&.bin", str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == content
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="large (")["KeyCount"] == 1
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "large (1) ü+=&.bin"}]})


def test_presigned_addresses_of_version_four(hostler: Hostler, price: float):
    location = {"Bucket": BUCKET, "Key": "a key"}
    s3 = client(hostler, "s3", signature_version="s3v4")
    put = urllib.request.Request(s3.generate_presigned_url("put_object", location), data=b"presigned", method="PUT")
    assert urllib.request.urlopen(put, timeout=60).status == 200
    address = s3.generate_presigned_url("get_object", location)
    assert urllib.request.urlopen(address, timeout=60).read() == b"presigned"
    for wrong in (address.replace("Expires=3600", "Expires=3601"), address.partition("?")[0]):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(wrong, timeout=60)
    old = client(hostler, "s3").generate_presigned_url("get_object", location)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(old, timeout=60)
    assert "Please use AWS4-HMAC-SHA256" in refused.value.read().decode()


def test_prometheus_reads_metrics_without_a_signature_at_a_port_that_answers_nothing_else(
    hostler: Hostler, price: float
):
    port = hostler.settings["metrics_listen"].rpartition(":")[2]

    def answer(path: str, method: str = "GET") -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)) as connection:
            connection.request(method, path)
            got = connection.getresponse()
            return got.status, got.read()

    status, page = answer("/metrics")
    assert status == 200
    [instances] = [each for each in text_string_to_metric_families(page.decode()) if each.name == "hostler_instances"]
    assert {sample.labels["state"]: sample.value for sample in instances.samples}["ready"] == 1
    assert answer("/metrics", "POST")[0] == 405
    for path in (
        "/",
        "/metrics/",
        "/_hostler/metrics",
        "/_hostler/endpoints",
        f"/{BUCKET}",
        "/endpoints/a/invocations",
    ):
        assert answer(path)[0] == 404
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{hostler.url}/_hostler/metrics", timeout=60)


class UserShell:
    """A shell after `eval "$(hostler env)"`, with credentials of a user."""

    def __init__(self, hostler: Hostler, folder: Path, secret: str) -> None:
        self.folder = folder
        self.data = str(hostler.data)
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(REPOSITORY / "src")}
        variables = json.loads(self.hostler("env", "--json").stdout)
        assert not [name for name in variables if "KEY" in name]
        self.environment |= {**variables, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret}

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def hostler(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "hostler.cli", *words, "--data", self.data)


def test_the_aws_cli_and_hostlers_commands_with_right_and_wrong_keys(hostler: Hostler, price: float, tmp_path: Path):
    right, wrong = UserShell(hostler, tmp_path, SECRET), UserShell(hostler, tmp_path, "guessed")
    describe = (AWS, "sagemaker", "describe-endpoint", "--endpoint-name", "my-endpoint")
    assert json.loads(right.run(*describe).stdout)["EndpointStatus"] == "InService"
    done = wrong.run(*describe)
    assert done.returncode in (254, 255)
    assert "(InvalidSignatureException)" in done.stderr
    (tmp_path / "file").write_text("content")
    assert right.run(AWS, "s3", "cp", "file", f"s3://{BUCKET}/a/file").returncode == 0
    assert "file" in right.run(AWS, "s3", "ls", f"s3://{BUCKET}/a/").stdout
    assert "(SignatureDoesNotMatch)" in wrong.run(AWS, "s3", "cp", "file", f"s3://{BUCKET}/a/file").stderr

    body = ",".join(f"{value:g}" for value in demo.HOUSE)
    for command, output in (
        (("ls",), "my-endpoint"),
        (("logs", "my-endpoint"), ""),
        (("fault", "add", "ModelError", "endpoint=my-endpoint", "target=other", "status=415", "id=mine"), "mine"),
        (("fault", "ls"), "mine  ModelError  region=us-east-1  endpoint=my-endpoint  target=other  status=415"),
        (("fault", "rm", "mine"), "mine"),
        (("invoke", "my-endpoint", "--target-model", MODEL, "--body", body), str(price)[:4]),
    ):
        done = right.hostler(*command)
        assert (done.returncode, done.stderr) == (0, "")
        assert output in done.stdout
        done = wrong.hostler(*command)
        assert done.returncode == 1
        assert "does not match the signature you provided" in done.stderr
    del right.environment["AWS_ACCESS_KEY_ID"]
    right.environment["AWS_EC2_METADATA_DISABLED"] = "true"
    assert "This hostler verifies signatures" in right.hostler("ls").stderr


def test_a_wrong_keys_file_or_address_is_reported_at_once_in_one_line(tmp_path: Path):
    elsewhere = ("--host", "192.0.2.1")  # an address for documentation, which no machine has
    for mode, keys, flags, reason in (
        (0o600, "", (), "needs keys_file"),
        (0o644, "keys", (), "chmod 600"),
        (
            0o600,
            "keys",
            elsewhere,
            "cannot listen on 192.0.2.1",
        ),  # allowed with signatures, but not an address of this machine
    ):
        (tmp_path / "keys").write_text('A = "secret"\n')
        (tmp_path / "keys").chmod(mode)
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY / "src")}
        environment |= {"HOSTLER_SIGNATURES": "verify", "HOSTLER_KEYS_FILE": keys and str(tmp_path / keys)}
        words = [sys.executable, "-m", "hostler.cli", "up", "--port", "0", *flags]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1
