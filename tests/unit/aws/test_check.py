"""The sentences of §1.3, and what is refused before any operation sees it."""

import sys
import unicodedata

import pytest

from hostler.aws import service
from hostler.aws.check import read
from hostler.errors import SerializationException, ValidationException

OPERATIONS = ("CreateModel", "CreateEndpointConfig", "ListModels", "AddTags", "DeleteTags", "ListTags", "DescribeModel")
SERVICE = service.load("sagemaker", OPERATIONS)
NAME = "^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
MODEL_NAME = SERVICE.operations["DescribeModel"].input.members["ModelName"].pattern
TAG_KEY = SERVICE.operations["DeleteTags"].input.members["TagKeys"].element.pattern
ENVIRONMENT = SERVICE.operations["CreateModel"].input.members["PrimaryContainer"].members["Environment"].maximum


def check(operation, request):
    return read(SERVICE.operations[operation].input, request)


def refusal(operation, request):
    with pytest.raises(ValidationException) as refused:
        check(operation, request)
    return refused.value.message


def config(**variant):
    return {"EndpointConfigName": "c", "ProductionVariants": [{"VariantName": "v", **variant}]}


def model(**container):
    return {"ModelName": "m", "PrimaryContainer": container}


MESSAGES = {
    "off pattern in a list of structures": (
        "CreateEndpointConfig",
        config(ModelName="ENTER MODEL NAME"),
        "1 validation error detected: Value 'ENTER MODEL NAME' at 'productionVariants.1.member.modelName' failed to"
        f" satisfy constraint: Member must satisfy regular expression pattern: {MODEL_NAME}",
    ),
    "too long and off pattern, in that order": (
        "DescribeModel",
        {"ModelName": "-" * 64},
        f"2 validation errors detected: Value '{'-' * 64}' at 'modelName' failed to satisfy constraint: Member must"
        f" have length less than or equal to 63; Value '{'-' * 64}' at 'modelName' failed to satisfy constraint: Member"
        f" must satisfy regular expression pattern: {MODEL_NAME}",
    ),
    "missing": (
        "CreateEndpointConfig",
        {"ProductionVariants": [{"VariantName": "v"}]},
        "1 validation error detected: Value null at 'endpointConfigName' failed to satisfy constraint: Member must"
        " not be null",
    ),
    "null is missing": (
        "DescribeModel",
        {"ModelName": None},
        "1 validation error detected: Value null at 'modelName' failed to satisfy constraint: Member must not be null",
    ),
    "missing in the second of a list, told in the model's order": (
        "CreateEndpointConfig",
        {"ProductionVariants": [{"VariantName": "v"}, {}], "EndpointConfigName": "bad name!"},
        f"2 validation errors detected: Value 'bad name!' at 'endpointConfigName' failed to satisfy constraint: Member"
        f" must satisfy regular expression pattern: {NAME}; Value null at 'productionVariants.2.member.variantName'"
        " failed to satisfy constraint: Member must not be null",
    ),
    "null in a list": (
        "CreateEndpointConfig",
        {"EndpointConfigName": "c", "ProductionVariants": [None]},
        "1 validation error detected: Value null at 'productionVariants.1.member' failed to satisfy constraint: Member"
        " must not be null",
    ),
    "too large": (
        "ListModels",
        {"MaxResults": 1000},
        "1 validation error detected: Value '1000' at 'maxResults' failed to satisfy constraint: Member must have value"
        " less than or equal to 100",
    ),
    "too small": (
        "ListModels",
        {"MaxResults": 0},
        "1 validation error detected: Value '0' at 'maxResults' failed to satisfy constraint: Member must have value"
        " greater than or equal to 1",
    ),
    "a float too small": (
        "CreateEndpointConfig",
        config(InitialVariantWeight=-0.5),
        "1 validation error detected: Value '-0.5' at 'productionVariants.1.member.initialVariantWeight' failed to"
        " satisfy constraint: Member must have value greater than or equal to 0",
    ),
    "enum": (
        "ListModels",
        {"SortOrder": "Sideways"},
        "1 validation error detected: Value 'Sideways' at 'sortOrder' failed to satisfy constraint: Member must satisfy"
        " enum value set: [Ascending, Descending]",
    ),
    "an empty list": (
        "CreateEndpointConfig",
        {"EndpointConfigName": "c", "ProductionVariants": []},
        "1 validation error detected: Value '[]' at 'productionVariants' failed to satisfy constraint: Member must have"
        " length greater than or equal to 1",
    ),
    "too long a list, whose items are then not looked at": (
        "CreateEndpointConfig",
        {"EndpointConfigName": "c", "ProductionVariants": [{}] * 11},
        "1 validation error detected: Value '[11 items]' at 'productionVariants' failed to satisfy constraint: Member"
        " must have length less than or equal to 10",
    ),
    "plain list items": (
        "CreateModel",
        {"ModelName": "m", "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["a", "no good"]}},
        "1 validation error detected: Value 'no good' at 'vpcConfig.subnets.2.member' failed to satisfy"
        " constraint: Member must satisfy constraint: [Member must satisfy regular expression pattern: ^[-0-9a-zA-Z]+]",
    ),
    "plain list items with several faults": (
        "DeleteTags",
        {"ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m", "TagKeys": ["!" * 129]},
        f"1 validation error detected: Value '{'!' * 129}' at 'tagKeys.1.member' failed to satisfy constraint: Member"
        " must satisfy constraint: [Member must have length less than or equal to 128, Member must satisfy regular"
        f" expression pattern: {TAG_KEY}]",
    ),
    "map values": (
        "CreateModel",
        model(Environment={"KEY": "v" * 1025}),
        f"1 validation error detected: Value '{'v' * 256}...' at 'primaryContainer.environment.KEY.member' failed to"
        " satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 1024]",
    ),
    "map keys": (
        "CreateModel",
        model(Environment={"1K": "v"}),
        "1 validation error detected: Value '1K' at 'primaryContainer.environment' failed to satisfy constraint: Map"
        " keys must satisfy constraint: [Member must satisfy regular expression pattern: ^[a-zA-Z_][a-zA-Z0-9_]*]",
    ),
    "too large a map": (
        "CreateModel",
        model(Environment={f"K{number}": "v" for number in range(101)}),
        "1 validation error detected: Value '[101 items]' at 'primaryContainer.environment' failed to satisfy"
        f" constraint: Member must have length less than or equal to {ENVIRONMENT}",
    ),
    "a structure in a structure": (
        "CreateModel",
        model(ImageConfig={"RepositoryAccessMode": "Cloud", "RepositoryAuthConfig": {}}),
        "2 validation errors detected: Value 'Cloud' at 'primaryContainer.imageConfig.repositoryAccessMode' failed to"
        " satisfy constraint: Member must satisfy enum value set: [Platform, Vpc]; Value null at 'primaryContainer."
        "imageConfig.repositoryAuthConfig.repositoryCredentialsProviderArn' failed to satisfy constraint: Member must"
        " not be null",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_broken_constraints_are_reported_in_the_services_words(case):
    operation, request, message = MESSAGES[case]
    assert refusal(operation, request) == message


def test_a_message_names_a_hundred_faults_and_counts_all():
    message = refusal("CreateEndpointConfig", config() | {"Tags": [{"Key": "?" * 200, "Value": "v"}] * 50})
    assert message.startswith("100 validation errors detected: ")
    message = refusal("CreateEndpointConfig", config() | {"Tags": [{"Key": "?" * 200, "Value": "~" * 300}] * 50})
    assert message.startswith("200 validation errors detected: ")
    assert message.count("failed to satisfy") == 100


WRONG_TYPES = {
    "a number for a string": ("DescribeModel", {"ModelName": 5}, "'modelName' must be a string, not the number 5"),
    "a boolean for a string": ("DescribeModel", {"ModelName": True}, "'modelName' must be a string, not a boolean"),
    "an object for a string": ("DescribeModel", {"ModelName": {}}, "'modelName' must be a string, not an object"),
    "a string for a number": ("ListModels", {"MaxResults": "5"}, "'maxResults' must be an integer, not a string"),
    "a boolean for a number": ("ListModels", {"MaxResults": True}, "'maxResults' must be an integer, not a boolean"),
    "a fraction for an integer": (
        "ListModels",
        {"MaxResults": 1.5},
        "'maxResults' must be an integer, not the number 1.5",
    ),
    "more than 32 bits": (
        "ListModels",
        {"MaxResults": 2**31},
        f"'maxResults' must be an integer, not the number {2**31}",
    ),
    "more than a float holds": (
        "CreateEndpointConfig",
        config(InitialVariantWeight=1e39),
        "'productionVariants.1.member.initialVariantWeight' must be a float, not the number 1e+39",
    ),
    "an integer that no float holds": (
        "CreateEndpointConfig",
        config(InitialVariantWeight=10**400),
        f"'productionVariants.1.member.initialVariantWeight' must be a float, not the number 1{'0' * 255}...",
    ),
    "a string for a list": ("AddTags", {"ResourceArn": "a", "Tags": "x"}, "'tags' must be a list, not a string"),
    "a list for an object": (
        "CreateModel",
        model(Environment=[]),
        "'primaryContainer.environment' must be a map, not a list",
    ),
    "an object for a list": ("AddTags", {"ResourceArn": "a", "Tags": {}}, "'tags' must be a list, not an object"),
    "a string for a boolean": (
        "CreateModel",
        {"ModelName": "m", "EnableNetworkIsolation": "true"},
        "'enableNetworkIsolation' must be a boolean, not a string",
    ),
    "no time": (
        "ListModels",
        {"CreationTimeAfter": "soon"},
        "'creationTimeAfter' must be a timestamp, not the string 'soon'",
    ),
    "too late a time": (
        "ListModels",
        {"CreationTimeAfter": 1e300},
        "'creationTimeAfter' must be a timestamp, not the number 1e+300",
    ),
    "a time after the year 9999": (
        "ListModels",
        {"CreationTimeAfter": 253_402_300_800},
        "'creationTimeAfter' must be a timestamp, not the number 253402300800",
    ),
    "a time before the year 1": (
        "ListModels",
        {"CreationTimeAfter": "0001-01-01T00:00:00+01:00"},
        "'creationTimeAfter' must be a timestamp, not the string '0001-01-01T00:00:00+01:00'",
    ),
    "an unknown member": ("DescribeModel", {"ModelName": "m", "Nmae": 1}, "Unknown member: 'nmae'"),
    "an unknown member within": ("CreateModel", model(image="x"), "Unknown member: 'primaryContainer.image'"),
}


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_refused_with_its_path(case):
    operation, request, message = WRONG_TYPES[case]
    with pytest.raises(SerializationException) as refused:
        check(operation, request)
    assert refused.value.message == message


def test_absent_and_null_members_are_left_out_and_numbers_are_what_they_should_be():
    request = config(InitialVariantWeight=1, InitialInstanceCount=2, ModelName=None) | {"KmsKeyId": None}
    document = check("CreateEndpointConfig", request)
    (variant,) = document["ProductionVariants"]
    assert variant == {"VariantName": "v", "InitialVariantWeight": 1.0, "InitialInstanceCount": 2}
    assert isinstance(variant["InitialVariantWeight"], float)
    assert list(document) == ["EndpointConfigName", "ProductionVariants"]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (1529870369, 1529870369.0),
        (1529870369.986, 1529870369.986),
        ("2018-06-24T19:59:29.986Z", 1529870369.986),
        ("2018-06-24T21:59:29+02:00", 1529870369.0),
        ("2018-06-24T19:59:29", 1529870369.0),
    ],
)
def test_times_come_as_numbers_or_as_iso_8601(given, seconds):
    assert check("ListModels", {"CreationTimeAfter": given}) == {"CreationTimeAfter": seconds}


WIDE = service.load("cloudwatch", ["PutMetricData", "GetMetricWidgetImage"])


def test_integers_and_floats_of_64_bits_are_taken_where_the_model_has_them():
    datum = {"MetricName": "m", "Value": 1e300, "Values": [1]}
    document = read(WIDE.operations["PutMetricData"].input, {"Namespace": "n", "MetricData": [datum]})
    assert document["MetricData"] == [{"MetricName": "m", "Value": 1e300, "Values": [1.0]}]
    with pytest.raises(SerializationException, match="must be a float, not the number inf"):
        read(WIDE.operations["PutMetricData"].input, {"MetricData": [datum | {"Value": float("inf")}]})


def test_a_blob_comes_as_bytes_or_in_base64():
    shape = WIDE.operations["GetMetricWidgetImage"].output
    for given in (b"\x89PNG", "iVBORw=="):
        assert read(shape, {"MetricWidgetImage": given})["MetricWidgetImage"][:4] == b"\x89PNG"
    for wrong in ("not base64!", "é", "a"):
        with pytest.raises(SerializationException, match="must be a blob in base64"):
            read(shape, {"MetricWidgetImage": wrong})


@pytest.mark.parametrize("name", ["a", "A-b", "a--b", "x" * 63])
def test_names_that_aws_takes_are_taken(name):
    assert check("DescribeModel", {"ModelName": name}) == {"ModelName": name}


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a.b", "a/b", "a\n", "é", "a\0", "٣"])
def test_patterns_are_anchored_at_both_ends_and_ascii(name):
    assert "regular expression" in refusal("DescribeModel", {"ModelName": name})


def test_tag_keys_are_the_letters_numbers_and_spaces_of_unicode():
    tag_key = SERVICE.operations["DeleteTags"].input.members["TagKeys"].element
    wrong = []
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        expected = unicodedata.category(char)[0] in "LZN" or char in "_.:/=+-@"
        if (tag_key.matches.fullmatch(char) is not None) != expected:
            wrong.append(char)
    assert wrong == []


def test_no_pattern_hangs_on_a_hostile_string():
    patterns = {shape.matches for shape in reached() if shape.matches}
    assert len(patterns) > 15
    for pattern in patterns:
        for text in ("a", "-", "a-", " ", "/", "s3://", "mig-1g.1gb+", "text/csv-"):
            pattern.fullmatch(text * (500_000 // len(text)) + "\0")


def reached():
    waiting, seen = [operation.input for operation in SERVICE.operations.values()], set()
    while waiting:
        shape = waiting.pop()
        if shape is not None and shape not in seen:
            seen.add(shape)
            waiting += [*shape.members.values(), shape.key, shape.element]
    return seen
