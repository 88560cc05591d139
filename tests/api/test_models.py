import pytest
from botocore.exceptions import ClientError
from refusals import refusal
from stage import SERVICE, running

ROLE = "arn:aws:iam::123456789012:role/service-role/horse"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:model/"
MULTI = {"Image": "img:1", "ModelDataUrl": "s3://b/p/", "Mode": "MultiModel"}
SINGLE = {"Image": "img:1", "ModelDataUrl": "s3://b/m.tar.gz"}
URL = SERVICE.operations["CreateModel"].input.members["PrimaryContainer"].members["ModelDataUrl"].pattern


def test_a_multi_model_in_a_list_of_one_is_described_as_created(sagemaker):
    answer = sagemaker.create_model(ModelName="My-Model", ExecutionRoleArn=ROLE, Containers=[MULTI])
    assert answer["ModelArn"] == ARN + "my-model"
    described = sagemaker.describe_model(ModelName="my-mODEL")
    assert described.pop("CreationTime").timestamp() > 1_700_000_000
    del described["ResponseMetadata"]
    assert described == {
        "ModelName": "My-Model",
        "ModelArn": ARN + "my-model",
        "ExecutionRoleArn": ROLE,
        "Containers": [MULTI | {"Environment": {}}],
        "EnableNetworkIsolation": False,
    }


def test_a_primary_container_is_described_as_one_with_its_defaults(sagemaker):
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    sagemaker.create_model(ModelName="m", PrimaryContainer=SINGLE, VpcConfig=vpc, Tags=[{"Key": "a", "Value": "1"}])
    described = sagemaker.describe_model(ModelName="m")
    assert described["PrimaryContainer"] == SINGLE | {"Mode": "SingleModel", "Environment": {}}
    assert described["VpcConfig"] == vpc
    assert not {"Containers", "Tags", "InferenceExecutionConfig", "ExecutionRoleArn"} & described.keys()


@pytest.mark.parametrize("isolated", [True, False])
def test_network_isolation_is_described_as_it_was_given(sagemaker, isolated):
    sagemaker.create_model(ModelName="m", PrimaryContainer=SINGLE, EnableNetworkIsolation=isolated)
    assert sagemaker.describe_model(ModelName="m")["EnableNetworkIsolation"] is isolated


def test_a_packed_object_may_also_be_named_as_a_data_source(sagemaker):
    source = {"S3DataSource": {"S3Uri": "s3://b/m.tar.gz", "S3DataType": "S3Object", "CompressionType": "Gzip"}}
    sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": "i", "ModelDataSource": source})
    assert sagemaker.describe_model(ModelName="m")["PrimaryContainer"]["ModelDataSource"] == source


FORMS = {
    "one object": {"S3Uri": "s3://b/m.joblib", "CompressionType": "None"},
    "a prefix": {"S3Uri": "s3://b/m/", "S3DataType": "S3Prefix", "CompressionType": "None"},
    "a bucket": {"S3Uri": "s3://b/", "S3DataType": "S3Prefix", "CompressionType": "None"},
    "an archive of another name": {"S3Uri": "s3://b/m"},
    "an accepted license": {"ModelAccessConfig": {"AcceptEula": True}},
    "a hub": {"HubAccessConfig": {"HubContentArn": "arn:aws:sagemaker:us-east-1:123456789012:hub-content/h/Model/m/1"}},
}


@pytest.mark.parametrize("form", FORMS)
def test_model_data_may_have_any_form_and_further_data_beside_them(sagemaker, form):
    container = data_source(**FORMS[form])
    source = container["ModelDataSource"]["S3DataSource"]
    container["AdditionalModelDataSources"] = [
        {"ChannelName": f"channel-{number}", "S3DataSource": source} for number in range(5)
    ]
    sagemaker.create_model(ModelName="m", PrimaryContainer=container)
    assert sagemaker.describe_model(ModelName="m")["PrimaryContainer"] == container | {
        "Mode": "SingleModel", "Environment": {},
    }  # fmt: skip


def test_a_multi_model_may_have_further_data(sagemaker):
    container = MULTI | {"AdditionalModelDataSources": [channel("words", S3Uri="s3://b/words/", **UNCOMPRESSED)]}
    sagemaker.create_model(ModelName="m", Containers=[container])
    [described] = sagemaker.describe_model(ModelName="m")["Containers"]
    assert described["AdditionalModelDataSources"] == container["AdditionalModelDataSources"]


def test_an_existing_models_name_is_refused_in_every_letter_case(sagemaker):
    sagemaker.create_model(ModelName="Mine", PrimaryContainer=MULTI)
    message = f'Cannot create already existing model "{ARN}mine".'
    assert refusal(sagemaker.create_model, ModelName="mine", PrimaryContainer=MULTI) == message


def test_a_deleted_model_is_not_found(sagemaker):
    sagemaker.create_model(ModelName="m", PrimaryContainer=MULTI)
    sagemaker.delete_model(ModelName="M")
    message = f'Could not find model "{ARN}m".'
    assert refusal(sagemaker.describe_model, ModelName="m") == message
    assert refusal(sagemaker.delete_model, ModelName="M") == message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://b/missing.tar.gz", "s3://b/missing.tar.gz"),
        ("https://b.s3.us-east-1.amazonaws.com/missing.tar.gz", "s3://b/missing.tar.gz"),
        ("https://s3.us-east-1.amazonaws.com/b/missing.tar.gz", "s3://b/missing.tar.gz"),
    ],
)
def test_a_single_models_archive_must_exist(sagemaker, url, shown):
    message = refusal(sagemaker.create_model, ModelName="m", PrimaryContainer=SINGLE | {"ModelDataUrl": url})
    assert message == f"Could not find model data at {shown}."


def test_model_data_in_a_public_bucket_of_awss_are_named_with_what_helps(sagemaker):
    container = SINGLE | {"ModelDataUrl": "s3://jumpstart-cache-prod-us-west-2/missing.tar.gz"}
    message = refusal(sagemaker.create_model, ModelName="m", PrimaryContainer=container)
    assert message.startswith("Could not find model data at s3://jumpstart-cache-prod-us-west-2/missing.tar.gz. ")
    assert "into s3/jumpstart-cache-prod-us-west-2/ of the data folder." in message


def test_an_empty_prefix_of_a_multi_model_is_accepted(sagemaker):
    for number, url in enumerate(
        ["s3://b/missing/", "s3://b/missing", "s3://b", "https://b.s3.amazonaws.com/missing/"]
    ):
        sagemaker.create_model(ModelName=f"m{number}", PrimaryContainer=MULTI | {"ModelDataUrl": url})


def test_unreachable_storage_is_not_a_validation_error(sagemaker):
    with pytest.raises(ClientError) as failed:
        sagemaker.create_model(ModelName="m", PrimaryContainer=SINGLE | {"ModelDataUrl": "s3://b/unreachable.tar.gz"})
    assert failed.value.response["Error"]["Code"] == "ServiceUnavailable"
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


def data_source(**changes):
    data = {"S3Uri": "s3://b/m.tar.gz", "S3DataType": "S3Object", "CompressionType": "Gzip"} | changes
    return {"Image": "i", "ModelDataSource": {"S3DataSource": data}}


UNCOMPRESSED = {"S3DataType": "S3Prefix", "CompressionType": "None"}


def channel(name, **changes):
    return {"ChannelName": name, **data_source(**changes)["ModelDataSource"]}


def pair(first, second):
    return {"Containers": [SINGLE | first, SINGLE | second]}


REFUSED = {
    "neither container nor containers": ({}, "Exactly one of PrimaryContainer and Containers must be given."),
    "both": (
        {"PrimaryContainer": SINGLE, "Containers": [SINGLE]},
        "Exactly one of PrimaryContainer and Containers must be given.",
    ),
    "no containers": ({"Containers": []}, "Exactly one of PrimaryContainer and Containers must be given."),
    "an empty container": ({"PrimaryContainer": {}}, "Exactly one of PrimaryContainer and Containers must be given."),
    "sixteen containers": (
        {"Containers": [SINGLE] * 16},
        "1 validation error detected: Value '[16 items]' at 'containers' failed to satisfy constraint: Member must have"
        " length less than or equal to 15",
    ),
    "no image": ({"PrimaryContainer": {"ModelDataUrl": "s3://b/m.tar.gz"}}, "A container must have an Image."),
    "no archive": (
        {"PrimaryContainer": SINGLE | {"ModelDataUrl": "s3://b/folder/"}},
        "The model data of a SingleModel container must be one .tar.gz object, not s3://b/folder/.",
    ),
    "not in S3": (
        {"PrimaryContainer": SINGLE | {"ModelDataUrl": "https://example.org/m.tar.gz"}},
        "The model data's location cannot be used: 'https://example.org/m.tar.gz' is not an S3 address.",
    ),
    "a multi-model without a prefix": (
        {"PrimaryContainer": {"Image": "i", "Mode": "MultiModel"}},
        "A container whose Mode is MultiModel must have a ModelDataUrl.",
    ),
    "a multi-model of a data source": (
        {"PrimaryContainer": data_source() | {"Mode": "MultiModel"}},
        "A container whose Mode is MultiModel must have a ModelDataUrl.",
    ),
    "a multi-model's prefix that leads upwards": (
        {"PrimaryContainer": MULTI | {"ModelDataUrl": "s3://b/a/../c/"}},
        "The model data's location cannot be used: it holds the segment '..'.",
    ),
    "a multi-model in no bucket": (
        {"PrimaryContainer": MULTI | {"ModelDataUrl": "s3://../a/"}},
        "The model data's location cannot be used: '..' is not a bucket's name.",
    ),
    "a multi-model not in S3": (
        {"PrimaryContainer": MULTI | {"ModelDataUrl": "https://example.org/models/"}},
        "The model data's location cannot be used: 'https://example.org/models/' is not an S3 address.",
    ),
    "a file, though no folder is set": (
        {"PrimaryContainer": SINGLE | {"ModelDataUrl": "file:///srv/models/m.tar.gz"}},
        "The model data's location cannot be used: file:// is read only below the folder that the setting file_root"
        " names, and it names none.",
    ),
    "a multi-model of files, though no folder is set": (
        {"PrimaryContainer": MULTI | {"ModelDataUrl": "file:///srv/models/"}},
        "The model data's location cannot be used: file:// is read only below the folder that the setting file_root"
        " names, and it names none.",
    ),
    "a data source of files, without their setting": (
        {"PrimaryContainer": data_source(S3Uri="file:///a")},
        "The model data's location cannot be used: file:// is read only below the folder that the setting file_root"
        " names, and it names none.",
    ),
    "a data source of another scheme": (
        {"PrimaryContainer": data_source(S3Uri="ftp://a")},
        "1 validation error detected: Value 'ftp://a' at 'primaryContainer.modelDataSource.s3DataSource.s3Uri' failed"
        f" to satisfy constraint: Member must satisfy regular expression pattern: {URL}",
    ),
    "a packed prefix": (
        {"PrimaryContainer": data_source(S3Uri="s3://b/m/", S3DataType="S3Prefix")},
        "With CompressionType Gzip the S3DataType must be S3Object, which names one gzipped tar: S3Prefix is for data"
        " that are not compressed.",
    ),
    "a prefix without its slash": (
        {"PrimaryContainer": data_source(S3Uri="s3://b/m", **UNCOMPRESSED)},
        "With S3DataType S3Prefix the S3Uri must end with a slash (/), which s3://b/m does not.",
    ),
    "a prefix without objects": (
        {"PrimaryContainer": data_source(S3Uri="s3://b/empty/", **UNCOMPRESSED)},
        "Could not find model data at s3://b/empty/.",
    ),
    "a prefix that leads up": (
        {"PrimaryContainer": data_source(S3Uri="s3://b/../m/", **UNCOMPRESSED)},
        "The model data's location cannot be used: it holds the segment '..'.",
    ),
    "an object that is missing": (
        {"PrimaryContainer": data_source(S3Uri="s3://b/missing", CompressionType="None")},
        "Could not find model data at s3://b/missing.",
    ),
    "a channel without objects": (
        {
            "PrimaryContainer": SINGLE
            | {"AdditionalModelDataSources": [channel("c", S3Uri="s3://b/empty/", **UNCOMPRESSED)]}
        },
        "Could not find model data at s3://b/empty/.",
    ),
    "one channel twice": (
        {"PrimaryContainer": SINGLE | {"AdditionalModelDataSources": [channel("c"), channel("c")]}},
        "Each ChannelName of AdditionalModelDataSources must be unique.",
    ),
    "a channel above the channels": (
        {"PrimaryContainer": SINGLE | {"AdditionalModelDataSources": [channel("..")]}},
        "A ChannelName must not be '..': it names a folder.",
    ),
    "a channel with a slash": (
        {"PrimaryContainer": SINGLE | {"AdditionalModelDataSources": [channel("a/b")]}},
        "1 validation error detected: Value 'a/b' at 'primaryContainer.additionalModelDataSources.1.member.channelName'"
        " failed to satisfy constraint: Member must satisfy regular expression pattern: ^[A-Za-z0-9\\.\\-_]+",
    ),
    "another scheme": (
        {"PrimaryContainer": SINGLE | {"ModelDataUrl": "ftp://b/m.tar.gz"}},
        "1 validation error detected: Value 'ftp://b/m.tar.gz' at 'primaryContainer.modelDataUrl' failed to satisfy"
        f" constraint: Member must satisfy regular expression pattern: {URL}",
    ),
    "url and source": (
        {"PrimaryContainer": data_source() | {"ModelDataUrl": "s3://b/m.tar.gz"}},
        "ModelDataUrl and ModelDataSource exclude each other.",
    ),
    "an empty source": (
        {"PrimaryContainer": {"Image": "i", "ModelDataSource": {}}},
        "ModelDataSource must have an S3DataSource.",
    ),
    "direct without hostnames": (
        pair({}, {}) | {"InferenceExecutionConfig": {"Mode": "Direct"}},
        "With InferenceExecutionConfig Mode Direct every container needs a ContainerHostname.",
    ),
    "one hostname of two": (
        pair({"ContainerHostname": "a"}, {}),
        "If one container has a ContainerHostname, all must have one.",
    ),
    "one hostname for two": (
        pair({"ContainerHostname": "a"}, {"ContainerHostname": "a"}),
        "Each ContainerHostname must be unique within the model.",
    ),
    "two multi-models": (
        {"Containers": [MULTI, MULTI]},
        "One container of a serial pipeline, and none of a direct one, may be MultiModel.",
    ),
    "a direct multi-model": (
        {
            "Containers": [MULTI | {"ContainerHostname": "a"}, SINGLE | {"ContainerHostname": "b"}],
            "InferenceExecutionConfig": {"Mode": "Direct"},
        },
        "One container of a serial pipeline, and none of a direct one, may be MultiModel.",
    ),
    "a direct multi-model alone": (
        {"Containers": [MULTI | {"ContainerHostname": "a"}], "InferenceExecutionConfig": {"Mode": "Direct"}},
        "One container of a serial pipeline, and none of a direct one, may be MultiModel.",
    ),
    "direct without a hostname, alone": (
        {"Containers": [SINGLE], "InferenceExecutionConfig": {"Mode": "Direct"}},
        "With InferenceExecutionConfig Mode Direct every container needs a ContainerHostname.",
    ),
    "too much environment": (
        {"Containers": [SINGLE | {"Environment": {f"K{n}": "é" * 1000 for n in range(9)}}] * 2},
        "The Environment of all containers together must not exceed 32 KB.",
    ),
    "NUL in the environment": (
        {"PrimaryContainer": SINGLE | {"Environment": {"A": "a\0b"}}},
        "A value in Environment must not hold the character NUL.",
    ),
    "a tag twice": (
        {"PrimaryContainer": SINGLE, "Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]},
        "Tag keys must be unique within a request.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_model_is_refused(shared_stage, case):
    request, message = REFUSED[case]
    assert refusal(shared_stage.client().create_model, ModelName="refused", **request) == message


NOT_HOSTED = {
    "ModelPackageName": {"PrimaryContainer": {"ModelPackageName": "p"}},
    "ContainerMetricsConfig": {
        "PrimaryContainer": SINGLE | {"ContainerMetricsConfig": {"MetricsEndpoints": [{"MetricsEndpointPath": "/m"}]}}
    },
    "ImageConfig with RepositoryAccessMode Vpc": {
        "PrimaryContainer": SINGLE | {"ImageConfig": {"RepositoryAccessMode": "Vpc"}}
    },
    "ModelDataSource with ManifestS3Uri": {"PrimaryContainer": data_source(ManifestS3Uri="s3://b/manifest.csv")},
    "AdditionalModelDataSources with ManifestEtag": {
        "PrimaryContainer": SINGLE | {"AdditionalModelDataSources": [channel("c", ManifestEtag="e")]}
    },
    "ModelDataSource with ETag": {"PrimaryContainer": data_source(ETag="e")},
}


@pytest.mark.parametrize("feature", NOT_HOSTED)
def test_a_feature_that_is_not_hosted_is_refused_by_its_name(shared_stage, feature):
    message = refusal(shared_stage.client().create_model, ModelName="refused", **NOT_HOSTED[feature])
    assert message == f"{feature} is a feature of SageMaker that is not hosted here."


def test_a_pipeline_is_described_as_created_and_can_be_hosted(sagemaker):
    containers = [SINGLE | {"ContainerHostname": "a"}, MULTI | {"ContainerHostname": "b"}]
    sagemaker.create_model(ModelName="pipeline", Containers=containers)
    described = sagemaker.describe_model(ModelName="pipeline")
    assert [container["Mode"] for container in described["Containers"]] == ["SingleModel", "MultiModel"]
    assert described["InferenceExecutionConfig"] == {"Mode": "Serial"}
    variant = {"VariantName": "v", "ModelName": "pipeline", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])


@pytest.mark.parametrize("mode", ["Serial", "Direct"])
def test_a_model_has_up_to_fifteen_containers_with_hostnames(sagemaker, mode):
    containers = [SINGLE | {"ContainerHostname": f"c{n}", "Environment": {"N": str(n)}} for n in range(15)]
    sagemaker.create_model(ModelName="m", Containers=containers, InferenceExecutionConfig={"Mode": mode})
    described = sagemaker.describe_model(ModelName="m")
    assert described["Containers"] == [{"Mode": "SingleModel"} | container for container in containers]
    assert described["InferenceExecutionConfig"] == {"Mode": mode}
    assert "PrimaryContainer" not in described


def test_generated_container_names_are_not_described(sagemaker):
    sagemaker.create_model(ModelName="m", Containers=[{"Image": "a"}, {"Image": "b"}])
    described = sagemaker.describe_model(ModelName="m")
    assert described["Containers"] == [
        {"Image": image, "Mode": "SingleModel", "Environment": {}} for image in ("a", "b")
    ]


@pytest.mark.parametrize("position", range(3))
def test_the_model_data_of_every_container_must_exist(sagemaker, position):
    containers = [SINGLE, MULTI, SINGLE]
    containers[position] = SINGLE | {"ModelDataUrl": "s3://b/missing.tar.gz"}
    message = refusal(sagemaker.create_model, ModelName="m", Containers=containers)
    assert message == "Could not find model data at s3://b/missing.tar.gz."


@pytest.mark.parametrize("container", [MULTI, SINGLE])
@pytest.mark.parametrize("setting", ["Enabled", "Disabled"])
def test_a_model_cache_setting_is_stored(sagemaker, container, setting):
    container = container | {"MultiModelConfig": {"ModelCacheSetting": setting}}
    sagemaker.create_model(ModelName="m", PrimaryContainer=container)
    described = sagemaker.describe_model(ModelName="m")["PrimaryContainer"]
    assert described["MultiModelConfig"] == {"ModelCacheSetting": setting}


HTTPS = [
    "https://b.s3.us-east-1.amazonaws.com/",
    "https://s3.us-east-1.amazonaws.com/b/",
    "https://b.s3.amazonaws.com/",
]


@pytest.mark.parametrize("base", HTTPS)
def test_model_data_may_have_an_https_address_of_s3(sagemaker, base):
    url = base + "models/m.tar.gz"
    sagemaker.create_model(ModelName="one", PrimaryContainer=SINGLE | {"ModelDataUrl": url})
    assert sagemaker.describe_model(ModelName="one")["PrimaryContainer"]["ModelDataUrl"] == url
    sagemaker.create_model(ModelName="many", PrimaryContainer=MULTI | {"ModelDataUrl": base + "models/"})
    message = refusal(
        sagemaker.create_model, ModelName="m", PrimaryContainer=SINGLE | {"ModelDataUrl": base + "missing.tar.gz"}
    )
    assert message == "Could not find model data at s3://b/missing.tar.gz."


def test_model_data_may_be_files_below_file_root(tmp_path):
    root = tmp_path / "models"
    (root / "many").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    with running(tmp_path / "data", file_root=str(root)) as stage:
        sagemaker = stage.client()
        one = SINGLE | {"ModelDataUrl": f"file://{root}/m.tar.gz"}
        sagemaker.create_model(ModelName="one", PrimaryContainer=one)
        assert sagemaker.describe_model(ModelName="one")["PrimaryContainer"]["ModelDataUrl"] == one["ModelDataUrl"]
        for number, prefix in enumerate([f"{root}/many/", f"{root}/many", f"{root}/", f"{root}", f"{root}/later/"]):
            many = MULTI | {"ModelDataUrl": f"file://{prefix}"}
            sagemaker.create_model(ModelName=f"many-{number}", PrimaryContainer=many)
        elsewhere = "it is not below the folder that the setting file_root names"
        for path, reason in {
            f"{tmp_path}/": elsewhere,
            "/etc/": elsewhere,
            f"{root}2/": elsewhere,
            f"{root}/../": "it holds the segment '..'",
            f"{root}/out/": "it leads outside its folder",
        }.items():
            many = MULTI | {"ModelDataUrl": f"file://{path}"}
            message = refusal(sagemaker.create_model, ModelName="m", PrimaryContainer=many)
            assert message == f"The model data's location cannot be used: {reason}."
            one = SINGLE | {"ModelDataUrl": f"file://{path}m.tar.gz"}
            assert refusal(sagemaker.create_model, ModelName="m", PrimaryContainer=one) == message
        one = SINGLE | {"ModelDataUrl": f"file://{root}/missing.tar.gz"}
        message = refusal(sagemaker.create_model, ModelName="m", PrimaryContainer=one)
        assert message == f"Could not find model data at file://{root}/missing.tar.gz. Not Found"
        one = SINGLE | {"ModelDataUrl": f"file://{root}/many/"}
        message = refusal(sagemaker.create_model, ModelName="m", PrimaryContainer=one)
        assert message.startswith("The model data of a SingleModel container must be one .tar.gz object, not file:///")


def test_an_image_that_is_known_to_lack_a_label_is_refused(sagemaker):
    bare = MULTI | {"Image": "bare:1"}
    assert refusal(sagemaker.create_model, ModelName="m", PrimaryContainer=bare) == "bare:1 lacks a label."
    sagemaker.create_model(ModelName="m", PrimaryContainer=SINGLE | {"Image": "bare:1"})
