import datetime

import pytest
from botocore.exceptions import ParamValidationError
from refusals import refusal

VARIANT = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}
KINDS = {
    "model": ("list_models", "Models", "ModelName"),
    "config": ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
    "endpoint": ("list_endpoints", "Endpoints", "EndpointName"),
}


def make(client, kind, name):
    if kind == "model":
        client.create_model(ModelName=name, PrimaryContainer={"Image": "img:1"})
    elif kind == "config":
        client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[VARIANT])
    else:
        client.create_endpoint(EndpointName=name, EndpointConfigName="x-config")


@pytest.fixture(params=KINDS)
def listed(request, sagemaker):
    """(kind, client): b, A and c were created in that order."""
    make(sagemaker, "model", "m")
    if request.param == "endpoint":
        make(sagemaker, "config", "x-config")
    if request.param == "model":
        sagemaker.delete_model(ModelName="m")
    for name in ("b-1", "A-2", "c-1"):
        make(sagemaker, request.param, name)
    return request.param, sagemaker


def names(listed, **request):
    kind, client = listed
    call, member, name = KINDS[kind]
    answer = getattr(client, call)(**request)
    assert "NextToken" not in answer
    return [item[name] for item in answer[member]]


def test_lists_are_newest_first_by_default(listed):
    assert names(listed) == ["c-1", "A-2", "b-1"]
    assert names(listed, SortOrder="Ascending") == ["b-1", "A-2", "c-1"]
    assert names(listed, SortBy="Name", SortOrder="Ascending") == ["A-2", "b-1", "c-1"]
    assert names(listed, SortBy="Name") == ["c-1", "b-1", "A-2"]


def test_names_are_filtered_by_a_part_in_any_letter_case(listed):
    assert names(listed, NameContains="-1") == ["c-1", "b-1"]
    assert names(listed, NameContains="a") == ["A-2"]
    assert names(listed, NameContains="zebra") == []


def test_times_filter_before_strictly_and_after_inclusively(listed):
    kind, client = listed
    call, member, _ = KINDS[kind]
    moment = getattr(client, call)()[member][1]["CreationTime"]  # of A-2
    assert moment.microsecond == 125_000
    whole = moment.replace(microsecond=0)  # botocore sends whole seconds
    second = datetime.timedelta(seconds=1)
    assert names(listed, CreationTimeBefore=whole) == ["b-1"]
    assert names(listed, CreationTimeBefore=whole + second) == ["A-2", "b-1"]
    assert names(listed, CreationTimeAfter=whole) == ["c-1", "A-2"]


def test_pages_skip_and_repeat_nothing_while_others_are_created_and_deleted(listed):
    kind, client = listed
    call, member, name = KINDS[kind]
    for number in range(12):
        make(client, kind, f"n-{number:02}")
    seen, token = [], {}
    for turn in range(20):
        answer = getattr(client, call)(MaxResults=4, **token)
        seen += [item[name] for item in answer[member]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
        make(client, kind, f"later-{turn}")
    assert seen == [f"n-{number:02}" for number in reversed(range(12))] + ["c-1", "A-2", "b-1"]


def test_the_paginator_sees_everything_in_pages_of_ten_by_default(listed):
    kind, client = listed
    call, member, name = KINDS[kind]
    for number in range(20):
        make(client, kind, f"n-{number:02}")
    pages = list(client.get_paginator(call).paginate())
    assert [len(page[member]) for page in pages] == [10, 10, 3]
    assert len({item[name] for page in pages for item in page[member]}) == 23


def test_a_page_that_ends_with_the_list_has_no_token(listed):
    assert len(names(listed, MaxResults=3)) == 3


def test_a_token_of_another_query_is_refused(listed):
    kind, client = listed
    call = getattr(client, KINDS[kind][0])
    token = call(MaxResults=1)["NextToken"]
    message = "The NextToken is not one that this operation gave for these filters and this order."
    assert refusal(call, NextToken=token, SortBy="Name") == message
    assert refusal(call, NextToken=token, NameContains="a") == message
    other = client.list_models if kind != "model" else client.list_endpoints
    assert refusal(other, NextToken=token) == message
    for foreign in ("x", "!", "e30=", "W10=", "bnVsbA==", "é", "A" * 8000, token[:-4], token + "AAAA"):
        assert refusal(call, NextToken=foreign) == message
    assert call(MaxResults=100, NextToken=token)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_limits_are_checked(listed):
    kind, client = listed
    call = getattr(client, KINDS[kind][0])
    assert "less than or equal to 100" in refusal(call, MaxResults=1000)
    assert "regular expression" in refusal(call, NameContains="a_b")
    assert "length less than or equal to 8192" in refusal(call, NextToken="x" * 8193)
    with pytest.raises(ParamValidationError):
        call(MaxResults=0)


def test_endpoints_are_sorted_and_filtered_by_status_and_change(sagemaker):
    make(sagemaker, "model", "m")
    make(sagemaker, "config", "x-config")
    for name in ("stuck", "ok-1", "broken", "ok-2"):
        make(sagemaker, "endpoint", name)
    listed = ("endpoint", sagemaker)
    assert names(listed, StatusEquals="InService") == ["ok-2", "ok-1"]
    assert names(listed, StatusEquals="Failed") == ["broken"]
    assert names(listed, StatusEquals="Creating") == ["stuck"]
    assert names(listed, StatusEquals="Updating") == []
    assert names(listed, SortBy="Status", SortOrder="Ascending") == ["stuck", "broken", "ok-1", "ok-2"]
    page = sagemaker.list_endpoints(SortBy="Status", SortOrder="Ascending", MaxResults=3)
    rest = sagemaker.list_endpoints(SortBy="Status", SortOrder="Ascending", NextToken=page["NextToken"])
    assert [endpoint["EndpointName"] for endpoint in rest["Endpoints"]] == ["ok-2"]
    changed = sagemaker.describe_endpoint(EndpointName="broken")["LastModifiedTime"].replace(microsecond=0)
    assert "broken" in names(listed, LastModifiedTimeAfter=changed)
    assert "broken" not in names(listed, LastModifiedTimeBefore=changed)
