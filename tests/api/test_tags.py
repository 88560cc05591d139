import pytest
from refusals import refusal

BASE = "arn:aws:sagemaker:us-east-1:123456789012:"
VARIANT = {"VariantName": "v", "ModelName": "M", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}


def tags(**pairs):
    return [{"Key": key, "Value": value} for key, value in pairs.items()]


@pytest.fixture
def sagemaker(stage):
    client = stage.client()
    client.create_model(ModelName="M", PrimaryContainer={"Image": "i"}, Tags=tags(kind="model"))
    client.create_endpoint_config(EndpointConfigName="C", ProductionVariants=[VARIANT], Tags=tags(kind="config"))
    client.create_endpoint(EndpointName="E", EndpointConfigName="C", Tags=tags(kind="endpoint"))
    return client


@pytest.mark.parametrize("resource", ["model/m", "model/M", "endpoint-config/C", "endpoint-config/c", "endpoint/E"])
def test_every_kind_of_resource_has_tags_under_its_arn_in_any_letter_case(sagemaker, resource):
    arn = BASE + resource
    kind = resource.partition("/")[0].removeprefix("endpoint-")
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags(kind=kind)
    assert sagemaker.add_tags(ResourceArn=arn, Tags=tags(kind="new", a=""))["Tags"] == tags(a="", kind="new")
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["kind", "unknown"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags(a="")


def test_a_new_resource_with_the_name_of_a_deleted_one_has_no_tags_of_it(sagemaker):
    sagemaker.delete_endpoint(EndpointName="E")
    sagemaker.create_endpoint(EndpointName="E", EndpointConfigName="C")
    assert sagemaker.list_tags(ResourceArn=BASE + "endpoint/e")["Tags"] == []


def test_a_resource_has_fifty_tags_at_most(sagemaker):
    arn = BASE + "model/m"
    sagemaker.add_tags(ResourceArn=arn, Tags=tags(**{f"t{n:02}": "" for n in range(49)}))
    assert refusal(sagemaker.add_tags, ResourceArn=arn, Tags=tags(more="")) == "A resource can have 50 tags at most."
    sagemaker.add_tags(ResourceArn=arn, Tags=tags(t00="changed"))
    answer = sagemaker.list_tags(ResourceArn=arn, MaxResults=50)
    assert len(answer["Tags"]) == 50
    assert "NextToken" not in answer


def test_invalid_tags_are_refused(sagemaker):
    arn = BASE + "model/m"
    add = sagemaker.add_tags
    assert refusal(add, ResourceArn=arn, Tags=tags(a="1") * 2) == "Tag keys must be unique within a request."
    assert "reserved" in refusal(add, ResourceArn=arn, Tags=[{"Key": "aws:x", "Value": ""}])
    assert "regular expression" in refusal(add, ResourceArn=arn, Tags=[{"Key": "a\n", "Value": ""}])
    assert "regular expression" in refusal(add, ResourceArn=arn, Tags=[{"Key": "a", "Value": "\U0001f40e"}])
    assert "less than or equal to 256" in refusal(add, ResourceArn=arn, Tags=tags(a="x" * 257))
    assert "'[51 items]' at 'tags'" in refusal(add, ResourceArn=arn, Tags=tags(**{f"t{n}": "" for n in range(51)}))
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "größe ☃"[:5], "Value": "٣ m/s = @:+-"}])


@pytest.mark.parametrize(
    ("arn", "message"),
    [
        (BASE + "model/none", f'Could not find model "{BASE}model/none".'),
        (BASE + "endpoint/None", f'Could not find endpoint "{BASE}endpoint/none".'),
        (BASE + "endpoint-config/n", f'Could not find endpoint configuration "{BASE}endpoint-config/n".'),
        (BASE + "training-job/t", f'"{BASE}training-job/t" is not the ARN of a resource that is hosted here.'),
        (BASE + "model/", f'"{BASE}model/" is not the ARN of a resource that is hosted here.'),
        (
            BASE.replace("us-east-1", "eu-west-1") + "model/m",
            f'"{BASE.replace("us-east-1", "eu-west-1")}model/m" is not of this region (us-east-1) and account'
            " (123456789012).",
        ),
    ],
)
def test_a_missing_resource_has_no_tags(sagemaker, arn, message):
    assert refusal(sagemaker.list_tags, ResourceArn=arn) == message
    assert refusal(sagemaker.add_tags, ResourceArn=arn, Tags=tags(a="")) == message
    assert refusal(sagemaker.delete_tags, ResourceArn=arn, TagKeys=["a"]) == message


def test_a_token_of_tags_is_valid_for_its_resource_alone(sagemaker):
    assert "NextToken" in refusal(sagemaker.list_tags, ResourceArn=BASE + "model/m", NextToken="eyJ9")


ENDPOINT = BASE + "endpoint/E"
IDLE = {"Key": "hostler:idle-ttl", "Value": "600"}
SOON = {"Key": "hostler:idle-ttl", "Value": "soon"}
NOT_SECONDS = (
    "The value of the tag hostler:idle-ttl must be seconds, such as 600 and 31536000 (a year) at most, or 0 for never;"
    " not 'soon'."
)


def test_tags_of_ours_are_stored_and_listed_as_others_on_every_kind_of_resource(sagemaker):
    ours = [
        IDLE,
        {"Key": "hostler:pin", "Value": "a.tar.gz region-..."},
        {"Key": "hostler:preload", "Value": "a.tar.gz"},
    ]
    for resource in ("model/M", "endpoint-config/C", "endpoint/E"):
        sagemaker.add_tags(ResourceArn=BASE + resource, Tags=ours)
        shown = sagemaker.list_tags(ResourceArn=BASE + resource)["Tags"]
        assert [tag for tag in shown if tag["Key"] != "kind"] == ours
    sagemaker.create_endpoint(EndpointName="F", EndpointConfigName="C", Tags=ours)
    assert sagemaker.list_tags(ResourceArn=BASE + "endpoint/F")["Tags"] == ours


def test_an_invalid_tag_of_ours_is_refused_by_every_call_with_tags_and_nothing_is_stored(sagemaker):
    assert refusal(sagemaker.add_tags, ResourceArn=ENDPOINT, Tags=[*tags(good=""), SOON]) == NOT_SECONDS
    assert sagemaker.list_tags(ResourceArn=ENDPOINT)["Tags"] == tags(kind="endpoint")
    create = sagemaker.create_endpoint
    assert refusal(create, EndpointName="F", EndpointConfigName="C", Tags=[SOON]) == NOT_SECONDS
    assert "F" not in {one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]}
    unknown = [{"Key": "hostler:pim", "Value": "a"}]
    assert "hostler knows no tag hostler:pim" in refusal(sagemaker.add_tags, ResourceArn=ENDPOINT, Tags=unknown)
    for key in ("Hostler:pin", "hostler:pin:"):
        refused = refusal(sagemaker.add_tags, ResourceArn=ENDPOINT, Tags=[{"Key": key, "Value": "a"}])
        assert f"hostler knows no tag {key}, only" in refused
    starred = [{"Key": "hostler:pin", "Value": "region-*"}]
    assert "regular expression" in refusal(sagemaker.add_tags, ResourceArn=ENDPOINT, Tags=starred)


def test_the_lifecycle_is_woken_when_tags_are_added_or_deleted(stage, sagemaker):
    woken = []
    stage.context.lifecycle.wake = lambda: woken.append(True)
    sagemaker.add_tags(ResourceArn=ENDPOINT, Tags=[IDLE])
    assert "hostler:idle-ttl" in stage.context.store.list_tags(ENDPOINT.lower())
    sagemaker.delete_tags(ResourceArn=ENDPOINT, TagKeys=["hostler:idle-ttl"])
    assert "hostler:idle-ttl" not in stage.context.store.list_tags(ENDPOINT.lower())
    assert len(woken) == 2
