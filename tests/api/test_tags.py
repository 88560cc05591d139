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
def test_tags_of_every_kind_of_resource_live_under_an_arn_of_any_letter_case(sagemaker, resource):
    arn = BASE + resource
    kind = resource.partition("/")[0].removeprefix("endpoint-")
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags(kind=kind)
    assert sagemaker.add_tags(ResourceArn=arn, Tags=tags(kind="new", a=""))["Tags"] == tags(a="", kind="new")
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["kind", "unknown"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags(a="")


def test_a_new_resource_of_an_old_name_has_none_of_the_old_tags(sagemaker):
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


def test_tags_that_cannot_be_are_refused(sagemaker):
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
def test_a_resource_that_is_not_there_has_no_tags(sagemaker, arn, message):
    assert refusal(sagemaker.list_tags, ResourceArn=arn) == message
    assert refusal(sagemaker.add_tags, ResourceArn=arn, Tags=tags(a="")) == message
    assert refusal(sagemaker.delete_tags, ResourceArn=arn, TagKeys=["a"]) == message


def test_a_token_of_tags_is_good_for_its_resource_alone(sagemaker):
    assert "NextToken" in refusal(sagemaker.list_tags, ResourceArn=BASE + "model/m", NextToken="eyJ9")
