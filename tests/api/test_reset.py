"""POST /_hostler/reset deletes whatever there is, but what its body keeps; it is off unless the setting is on."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event
from stage import running
from test_one_port import get

from hostler.s3.buckets import Buckets
from hostler.s3.multipart import Uploads

PAGE = "/_hostler/reset"
VARIANT = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}


@pytest.fixture
def stage(tmp_path):
    with running(tmp_path, reset=True) as stage:
        yield stage


def fill(stage, region="us-east-1", name="ep"):
    client = stage.client(region=region)
    tags = [{"Key": "a", "Value": "b"}]
    client.create_model(ModelName="m", PrimaryContainer={"Image": "i"}, Tags=tags)
    client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[VARIANT], Tags=tags)
    client.create_endpoint(EndpointName=name, EndpointConfigName="c", Tags=tags)


def resources(stage):
    return json.loads(get(stage, PAGE)[1])["resources"]


def test_without_the_setting_it_is_refused_with_the_settings_name(shared_stage):
    for method in ("GET", "POST"):
        status, body = get(shared_stage, PAGE, method)
        assert status == 403
        assert b"the setting `reset` is on" in body
    assert get(shared_stage, PAGE, "DELETE")[0] == 405


def test_everything_of_every_region_is_deleted_with_its_tags(stage):
    fill(stage)
    fill(stage, "eu-west-1")
    assert len(resources(stage)) == 6
    assert get(stage, PAGE, "POST") == (200, b'{"resources":[]}')
    assert resources(stage) == []
    fill(stage)  # the names are free again, and the new resources have no tags of the old ones
    arn = stage.client().describe_model(ModelName="m")["ModelArn"]
    assert len(stage.client().list_tags(ResourceArn=arn)["Tags"]) == 1


def test_what_the_body_keeps_stays_as_it_is(stage, tmp_path):
    fill(stage)
    buckets = Buckets(tmp_path / "s3")
    buckets.create_bucket("kept", "us-east-1")
    kept = resources(stage)
    fill(stage, "eu-west-1")
    buckets.create_bucket("gone", "us-east-1")
    assert get(stage, PAGE, "POST", json.dumps({"keep": kept}).encode())[0] == 200
    assert resources(stage) == kept
    arn = stage.client().describe_model(ModelName="m")["ModelArn"]
    assert stage.client().list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "b"}]


def test_buckets_go_with_their_objects_uploads_and_whatever_a_person_put_there(stage, tmp_path):
    buckets = Buckets(tmp_path / "s3")
    buckets.create_bucket("mine", "us-east-1")
    (tmp_path / "s3" / "mine" / "folder").mkdir()
    (tmp_path / "s3" / "mine" / "folder" / "file").write_bytes(b"1")
    (tmp_path / "s3" / "mine" / "link").symlink_to("nowhere")
    Uploads(buckets).create("mine", "big", {})
    assert resources(stage) == ["arn:aws:s3:::mine"]
    assert get(stage, PAGE, "POST")[0] == 200
    left = [path for path in (tmp_path / "s3").rglob("*") if path.name not in (".meta", ".tmp", ".uploads")]
    assert left == []


def test_resets_at_the_same_time_all_succeed(stage, tmp_path):
    buckets = Buckets(tmp_path / "s3")
    for _ in range(3):
        fill(stage)
        for number in range(5):
            buckets.create_bucket(f"bucket-{number}", "us-east-1")
        with ThreadPoolExecutor(4) as pool:
            answers = [*pool.map(lambda _: get(stage, PAGE, "POST"), range(4))]
        assert answers == [(200, b'{"resources":[]}')] * 4
        assert resources(stage) == []


def test_a_state_that_cannot_be_written_is_told_in_a_sentence(stage):
    fill(stage)
    event.listen(stage.context.store.database, "begin", lambda it: it.exec_driver_sql("PRAGMA query_only = 1"))
    status, body = get(stage, PAGE, "POST")
    assert (status, json.loads(body)["message"].partition(":")[0]) == (
        503,
        "hostler cannot keep its state, so nothing was changed",
    )


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"keep": "arn"}', b'{"keep": [1]}', b"\xff", b"x" * 2**21])
def test_a_body_that_is_no_request_deletes_nothing(stage, body):
    fill(stage)
    assert get(stage, PAGE, "POST", body)[0] == 400
    assert len(resources(stage)) == 3


def test_a_real_s3_is_left_alone(tmp_path):
    with running(tmp_path, reset=True, s3_endpoint="http://127.0.0.1:9") as stage:
        (tmp_path / "s3" / "mine").mkdir(parents=True)
        assert resources(stage) == []
        assert get(stage, PAGE, "POST")[0] == 200
        assert (tmp_path / "s3" / "mine").exists()


def test_log_groups_are_deleted_as_well_but_what_is_kept(stage):
    for uid in ("kept", "gone"):
        stage.context.logs.belongs(uid, f"us-east-1/{uid}")
        stage.context.logs.open(f"{uid}/v/i")
    kept = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/kept"
    assert kept in resources(stage)
    assert get(stage, PAGE, "POST", json.dumps({"keep": [kept]}).encode())[0] == 200
    assert resources(stage) == [kept]
