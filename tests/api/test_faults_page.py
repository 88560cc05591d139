"""/_hostler/faults: what it takes, and what it refuses with which sentence."""

import json
import os
import urllib.error
import urllib.request
import uuid

import pytest
from click.testing import CliRunner
from stage import REGION, running

from hostler.cli.main import main
from hostler.testing import faults
from hostler.testing.faults import FaultRefused


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with running(tmp_path_factory.mktemp("faults"), faults=True) as stage:
        sm = stage.client()
        container = {
            "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1",
            "ModelDataUrl": "s3://models/m.tar.gz",
        }
        sm.create_model(ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/r", PrimaryContainer=container)
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sm.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        for name in ("ep", "stuck"):
            sm.create_endpoint(EndpointName=name, EndpointConfigName="c")
        yield stage


@pytest.fixture(autouse=True)
def _none_left(stage):
    yield
    faults.clear(stage.url)


def call(stage, method, body=b"", query=""):
    """The status, headers and document of one call."""
    request = urllib.request.Request(f"{stage.url}/_hostler/faults{query}", body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.loads(error.read() or b"null")


def test_a_rule_is_set_shown_and_deleted(stage):
    status, _, rule = call(stage, "PUT", b'{"effect": "ModelError", "endpoint": "ep", "target": "a/b", "first": 2}')
    expected = {
        "effect": "ModelError",
        "id": rule["id"],
        "region": REGION,
        "endpoint": "ep",
        "target": "a/b",
        "first": 2,
    }
    assert (status, rule) == (200, expected)
    assert call(stage, "GET")[2] == {"faults": [{**expected, "seen": 0, "applied": 0}]}
    assert call(stage, "DELETE", query="?id=unknown")[2] == {"removed": []}
    assert call(stage, "DELETE", query=f"?id={rule['id']}")[2] == {"removed": [rule["id"]]}
    assert call(stage, "GET")[2] == {"faults": []}


def test_every_member_comes_back_as_it_was_given(stage):
    given = {
        "id": "mine", "region": "eu-west-1", "variant": "v", "container": "primary", "status": 415, "message": "grün",
        "probability": 0.25, "seed": 7, "lifetime": 60,
    }  # fmt: skip
    assert faults.put(stage.url, "ModelError", **given) == "mine"
    (shown,) = faults.faults(stage.url)
    assert shown == {"effect": "ModelError", **given, "seen": 0, "applied": 0}


def test_a_rule_of_the_same_id_is_replaced_and_all_are_deleted_at_once(stage):
    for effect in ("ModelError", "ThrottlingException"):
        assert faults.put(stage.url, effect, id="mine") == "mine"
    other = faults.put(stage.url, "ServiceUnavailable")
    assert [rule["effect"] for rule in faults.faults(stage.url)] == ["ThrottlingException", "ServiceUnavailable"]
    assert faults.clear(stage.url) == ["mine", other]


def test_a_with_deletes_its_fault_also_if_it_is_gone(stage):
    with faults.fault(stage.url, "ModelError") as id:
        assert [rule["id"] for rule in faults.faults(stage.url)] == [id]
        faults.clear(stage.url, id)
    with pytest.raises(RuntimeError), faults.fault(stage.url, "ModelError"):
        raise RuntimeError
    assert faults.faults(stage.url) == []


def test_the_command_deletes_faults_and_tells_of_one_that_is_not_there(stage):
    faults.put(stage.url, "ModelError", id="mine")
    clean = {name: None for name in os.environ if name.startswith(("HOSTLER_", "AWS_"))}
    environment = {**clean, "HOME": "/nonexistent", "HOSTLER_PORT": str(stage.port)}
    for word, code, output in (
        ("mine", 0, "mine\n"),
        ("mine", 1, "hostler: there is no fault mine\n"),
        ("--all", 0, "no faults\n"),
    ):
        result = CliRunner().invoke(main, ["fault", "rm", word], env=environment)
        assert (result.exit_code, result.output) == (code, output)


def test_there_are_so_many_rules_and_no_more(stage):
    for number in range(1000):
        faults.put(stage.url, "ModelError", id=str(number))
    with pytest.raises(FaultRefused, match="There are too many faults already"):
        faults.put(stage.url, "ModelError")
    assert faults.put(stage.url, "ThrottlingException", id="7") == "7"
    assert len(faults.clear(stage.url)) == 1000


BAD = [
    (b"", "effect is missing; it is one of ModelNotReadyException, ModelError, "),
    (b"{", "The request's body cannot be read as JSON: "),
    (b"\xff", "The request's body cannot be read as JSON: "),
    (b"[" * 100_000, "A fault must have at most 65536 bytes."),
    (b"[" * 50_000, "The request's body cannot be read as JSON: "),
    (b"[]", "The request's body must be a JSON object"),
    (b'{"effect": "modelerror"}', "effect must be one of ModelNotReadyException, "),
    (b'{"effect": ["ModelError"]}', "effect must be one of ModelNotReadyException, "),
    (b'{"effect": null}', "effect must be one of ModelNotReadyException, "),
    (b'{"effect": "ModelError", "endpont": "ep"}', "A fault has no member 'endpont'; its members are after, code, "),
    (b'{"effect": "ModelError", "first": "2"}', "The fault's members have wrong types: Expected `int | null`"),
    (b'{"effect": "ModelError", "first": 1.5}', "The fault's members have wrong types: "),
    (b'{"effect": "ModelError", "first": true}', "The fault's members have wrong types: "),
    (b'{"effect": "ModelError", "endpoint": null}', "The fault's members have wrong types: "),
    (b'{"effect": "ModelError", "endpoint": {"a": 1}}', "The fault's members have wrong types: "),
    (b'{"effect": "ModelError", "first": ' + b"9" * 400 + b"}", "first must be between 1 and"),
    (b'{"effect": "ModelError", "first": -1}', "first must be between 1 and"),
    (b'{"effect": "SlowAnswer", "seconds": 1e400}', ""),
    (b'{"effect": "SlowAnswer"}', "seconds is missing."),
    (b'{"effect": "ModelError", "seed": 1}', "seed goes with probability."),
    (b'{"effect": "ModelStreamError", "code": "Broken"}', "The fault's members have wrong types: Invalid enum value"),
    (b'{"effect": "ModelError", "id": "../x"}', "id must have 1 to 64"),
    (b'{"effect": "ModelError", "id": "a\\r\\nb: c"}', "id must have 1 to 64"),
    (b'{"effect": "ModelError", "target": "../a"}', "target is no TargetModel: it holds the segment '..'."),
    (b'{"effect": "ModelError", "endpoint": "EP"}', 'Could not find endpoint "arn:aws:sagemaker:us-east-1:'),
    (b'{"effect": "ModelError", "endpoint": "ep", "region": "eu-west-1"}', 'Could not find endpoint "arn:aws:'),
    (b'{"effect": "ModelError", "endpoint": "' + b"x" * 10_000 + b'"}', "Could not find endpoint"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "sentence"), BAD, ids=range(len(BAD)))
def test_what_is_no_rule_is_told_why(stage, body, sentence):
    status, headers, document = call(stage, "PUT", body)
    assert status == 400
    assert document["message"].startswith(sentence)
    assert headers["x-amzn-ErrorType"] in ("ValidationException", "SerializationException")
    uuid.UUID(headers["x-amzn-RequestId"])
    assert faults.faults(stage.url) == []


def test_an_endpoint_that_is_being_deleted_takes_no_fault(stage):
    stage.client().delete_endpoint(EndpointName="stuck")
    with pytest.raises(FaultRefused, match="Could not find endpoint"):
        faults.put(stage.url, "ModelError", endpoint="stuck")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_other_methods_are_refused(stage, method):
    status, headers, _ = call(stage, method, b"{}")
    assert (status, headers["Allow"]) == (405, "HEAD, GET, PUT, DELETE")


def test_without_the_setting_each_call_is_refused_and_names_it(tmp_path):
    with running(tmp_path) as stage:
        for method in ("GET", "PUT", "DELETE"):
            status, headers, document = call(stage, method, b'{"effect": "ModelError"}')
            assert (status, headers["x-amzn-ErrorType"]) == (403, "AccessDeniedException")
            assert document["message"] == "Faults on purpose are off; the setting faults = true allows them, for tests."
