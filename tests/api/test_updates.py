"""UpdateEndpoint and UpdateEndpointWeightsAndCapacities: their effect on the record, and their errors."""

import json
import threading

import pytest
from botocore.exceptions import ClientError
from refusals import refusal
from stage import running
from test_bad_requests import refused as refused_over_http
from test_bad_requests import send

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/"
CONFIG_ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/"
IN_PROGRESS = f'Cannot update in-progress endpoint "{ARN}ep".'


def variant(name="a", model="m", count=2, **more):
    return {
        "VariantName": name,
        "ModelName": model,
        "InstanceType": "ml.m4.xlarge",
        "InitialInstanceCount": count,
    } | more


@pytest.fixture
def sagemaker(stage):
    return prepared(stage)


@pytest.fixture(scope="module")
def shared(shared_stage):
    """For refused calls, which change nothing."""
    return prepared(shared_stage, "ap-south-1")


def prepared(stage, region="us-east-1"):
    """Create an endpoint `ep` of config `old` with variants a and b, and the configs for its updates."""
    client = stage.client(region=region)
    for model in ("m", "n"):
        client.create_model(ModelName=model, PrimaryContainer={"Image": f"img:{model}"})
    config(client, "old", variant("a"), variant("b", InitialVariantWeight=3.0))
    config(client, "new", variant("a", "n", 4, InitialVariantWeight=2.0), variant("c", "n", 1))
    config(client, "stuck", variant("a", "n", 4))
    config(client, "broken", variant("a", "n", 4))
    client.create_endpoint(EndpointName="ep", EndpointConfigName="old")
    return client


def config(client, name, *variants):
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=list(variants))


def update(client, name="new", **more):
    return client.update_endpoint(EndpointName="ep", EndpointConfigName=name, **more)


def weights(client, *desired):
    return client.update_endpoint_weights_and_capacities(EndpointName="ep", DesiredWeightsAndCapacities=list(desired))


def describe(client):
    return client.describe_endpoint(EndpointName="ep")


def status(client):
    return describe(client)["EndpointStatus"]


def shares(described):
    """variant -> (current weight, desired weight, current count, desired count)"""
    return {
        v["VariantName"]: (v["CurrentWeight"], v["DesiredWeight"], v["CurrentInstanceCount"], v["DesiredInstanceCount"])
        for v in described["ProductionVariants"]
    }


def images(summary):
    return {v["VariantName"]: [image["SpecifiedImage"] for image in v["DeployedImages"]] for v in summary}


# --- UpdateEndpoint


def test_an_updated_endpoint_is_in_service_with_its_new_config_when_update_returns(sagemaker):
    before = describe(sagemaker)
    assert update(sagemaker)["EndpointArn"] == ARN + "ep"
    after = describe(sagemaker)
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "new")
    assert shares(after) == {"a": (2.0, 2.0, 4, 4), "c": (1.0, 1.0, 1, 1)}
    assert images(after["ProductionVariants"]) == {"a": ["img:n"], "c": ["img:n"]}
    assert after["CreationTime"] == before["CreationTime"]
    assert after["LastModifiedTime"] > before["LastModifiedTime"]
    assert "PendingDeploymentSummary" not in after
    resolved = [v["DeployedImages"][0]["ResolutionTime"] for d in (before, after) for v in d["ProductionVariants"]]
    assert resolved[0] == resolved[1] < resolved[2] == resolved[3]


def test_during_an_update_the_old_config_is_described_and_the_new_one_is_pending(sagemaker):
    update(sagemaker, "stuck")
    described = describe(sagemaker)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("Updating", "old")
    assert shares(described) == {"a": (1.0, 1.0, 2, 2), "b": (3.0, 3.0, 2, 2)}
    assert not any("VariantStatus" in shown for shown in described["ProductionVariants"])
    pending = described["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "stuck"
    assert pending["StartTime"] == described["LastModifiedTime"] > described["CreationTime"]
    (coming,) = pending["ProductionVariants"]
    (told,) = coming.pop("VariantStatus")
    assert [image["SpecifiedImage"] for image in coming.pop("DeployedImages")] == ["img:n"]
    assert (told["Status"], told["StatusMessage"]) == ("Creating", "Launching 4 instance(s).")
    assert told["StartTime"] == pending["StartTime"]
    assert coming == {
        "VariantName": "a",
        "InstanceType": "ml.m4.xlarge",
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 2,
        "DesiredInstanceCount": 4,
    }
    listed = sagemaker.list_endpoints(StatusEquals="Updating")["Endpoints"]
    assert [(endpoint["EndpointName"], endpoint["EndpointStatus"]) for endpoint in listed] == [("ep", "Updating")]


def test_an_endpoint_in_creation_has_a_pending_deployment_too(sagemaker):
    sagemaker.create_endpoint(EndpointName="another", EndpointConfigName="stuck")
    described = sagemaker.describe_endpoint(EndpointName="another")
    assert described["EndpointStatus"] == "Creating"
    pending = described["PendingDeploymentSummary"]
    assert (pending["EndpointConfigName"], pending["StartTime"]) == ("stuck", described["CreationTime"])
    assert shares(pending) == {"a": (1.0, 1.0, 2, 4)}
    assert images(pending["ProductionVariants"]) == {"a": ["img:n"]}


def test_an_update_to_the_same_config_is_a_deployment_of_its_own(stage):
    sagemaker = prepared(stage)
    before = describe(sagemaker)
    update(sagemaker, "old")
    after = describe(sagemaker)
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "old")
    old, new = (d["ProductionVariants"][0]["DeployedImages"][0]["ResolutionTime"] for d in (before, after))
    assert new > old
    ((_, (revision,), _),) = stage.context.store.changes().endpoints
    assert (revision.number, revision.fleet) == (2, 2)


def test_a_failed_update_leaves_the_old_config_and_a_reason_until_the_next_good_one(sagemaker):
    update(sagemaker, "broken")
    described = describe(sagemaker)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "old")
    assert described["FailureReason"] == "It is broken."
    assert shares(described) == {"a": (1.0, 1.0, 2, 2), "b": (3.0, 3.0, 2, 2)}
    assert "PendingDeploymentSummary" not in described
    update(sagemaker, "broken")
    assert describe(sagemaker)["FailureReason"] == "It is broken."
    update(sagemaker)
    described = describe(sagemaker)
    assert described["EndpointConfigName"] == "new"
    assert "FailureReason" not in described


def test_a_weight_change_after_a_failed_update_applies_to_the_serving_revision(sagemaker):
    update(sagemaker, "broken")
    weights(sagemaker, {"VariantName": "b", "DesiredWeight": 0})
    described = describe(sagemaker)
    assert shares(described) == {"a": (1.0, 1.0, 2, 2), "b": (0.0, 0.0, 2, 2)}
    assert "FailureReason" not in described


@pytest.mark.parametrize("name", ["ep", "another"])
def test_an_endpoint_in_transition_cannot_be_updated(sagemaker, name):
    """Updating and Creating."""
    if name == "ep":
        update(sagemaker, "stuck")
    else:
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="stuck")
    message = f'Cannot update in-progress endpoint "{ARN}{name}".'
    desired = [{"VariantName": "a", "DesiredWeight": 2}]
    assert refusal(sagemaker.update_endpoint, EndpointName=name, EndpointConfigName="new") == message
    change = sagemaker.update_endpoint_weights_and_capacities
    assert refusal(change, EndpointName=name, DesiredWeightsAndCapacities=desired) == message


@pytest.mark.parametrize("name", ["broken-ep", "stuck-ep"])
def test_an_endpoint_that_has_failed_or_is_being_deleted_cannot_be_updated(stage, name):
    sagemaker = prepared(stage)
    if name == "stuck-ep":
        stage.context.lifecycle.paused = True
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="old")
    if name == "stuck-ep":
        sagemaker.delete_endpoint(EndpointName=name)
    expected = {"broken-ep": "Failed", "stuck-ep": "Deleting"}[name]
    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == expected
    why = {"broken-ep": "It has failed; only DeleteEndpoint is possible.", "stuck-ep": "It is being deleted."}[name]
    message = f'Cannot update in-progress endpoint "{ARN}{name}". {why}'
    assert refusal(sagemaker.update_endpoint, EndpointName=name, EndpointConfigName="new") == message


def test_a_missing_endpoint_cannot_be_updated(sagemaker):
    message = f'Could not find endpoint "{ARN}none".'
    assert refusal(sagemaker.update_endpoint, EndpointName="None", EndpointConfigName="new") == message
    desired = [{"VariantName": "a", "DesiredWeight": 2}]
    change = sagemaker.update_endpoint_weights_and_capacities
    assert refusal(change, EndpointName="None", DesiredWeightsAndCapacities=desired) == message


def test_the_new_config_and_its_models_must_exist(sagemaker):
    assert (
        refusal(update, client=sagemaker, name="None") == f'Could not find endpoint configuration "{CONFIG_ARN}none".'
    )
    sagemaker.delete_model(ModelName="n")
    message = 'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/n".'
    assert refusal(update, client=sagemaker) == message
    assert status(sagemaker) == "InService"


def test_the_old_config_must_exist_too(sagemaker):
    """AWS reads it during an update, so deleting a config in order to replace it makes the update fail."""
    sagemaker.delete_endpoint_config(EndpointConfigName="old")
    assert refusal(update, client=sagemaker) == f'Could not find endpoint configuration "{CONFIG_ARN}old".'
    assert refusal(update, client=sagemaker, name="old") == f'Could not find endpoint configuration "{CONFIG_ARN}old".'
    config(sagemaker, "OLD", variant("a"))
    update(sagemaker)
    assert describe(sagemaker)["EndpointConfigName"] == "new"


def test_the_old_configs_models_need_not_exist(sagemaker):
    sagemaker.delete_model(ModelName="m")
    update(sagemaker)
    assert describe(sagemaker)["EndpointConfigName"] == "new"


def test_an_update_does_not_start_a_million_instances(sagemaker):
    config(sagemaker, "huge", variant(count=101))
    message = refusal(update, code="ResourceLimitExceeded", client=sagemaker, name="huge")
    assert message == "The limit of instances of one endpoint is 100; 101 were asked for."
    desired = {"VariantName": "a", "DesiredInstanceCount": 99}
    message = refusal(lambda: weights(sagemaker, desired), code="ResourceLimitExceeded")
    assert message == "The limit of instances of one endpoint is 100; 101 were asked for."


RETAINED = {
    "all": ([], {"a": (5.0, 5.0, 3, 3), "c": (1.0, 1.0, 1, 1)}),
    "but the weight": (["DesiredWeight"], {"a": (2.0, 2.0, 3, 3), "c": (1.0, 1.0, 1, 1)}),
    "but the count": (["DesiredInstanceCount"], {"a": (5.0, 5.0, 4, 4), "c": (1.0, 1.0, 1, 1)}),
    "but both": (["DesiredInstanceCount", "DesiredWeight"], {"a": (2.0, 2.0, 4, 4), "c": (1.0, 1.0, 1, 1)}),
    "but data capture": (["DataCaptureConfig"], {"a": (5.0, 5.0, 3, 3), "c": (1.0, 1.0, 1, 1)}),
}


@pytest.mark.parametrize("case", RETAINED)
def test_a_variant_of_the_same_name_retains_its_desired_weight_and_count(sagemaker, case):
    excluded, expected = RETAINED[case]
    weights(sagemaker, {"VariantName": "a", "DesiredWeight": 5, "DesiredInstanceCount": 3})
    properties = [{"VariantPropertyType": name} for name in excluded]
    update(sagemaker, RetainAllVariantProperties=True, ExcludeRetainedVariantProperties=properties)
    described = describe(sagemaker)
    assert shares(described) == expected
    assert images(described["ProductionVariants"]) == {"a": ["img:n"], "c": ["img:n"]}
    configured = sagemaker.describe_endpoint_config(EndpointConfigName="new")["ProductionVariants"]
    assert [(v["InitialVariantWeight"], v["InitialInstanceCount"]) for v in configured] == [(2.0, 4), (1.0, 1)]


def test_a_default_weight_is_retained_as_one(sagemaker):
    update(sagemaker, RetainAllVariantProperties=True)
    assert shares(describe(sagemaker)) == {"a": (1.0, 1.0, 2, 2), "c": (1.0, 1.0, 1, 1)}


def test_contradicting_retain_members_are_refused(sagemaker):
    message = refusal(
        update, client=sagemaker, ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}]
    )
    assert message == "ExcludeRetainedVariantProperties needs RetainAllVariantProperties to be true."
    message = refusal(update, client=sagemaker, RetainDeploymentConfig=True, DeploymentConfig=ALARMS)
    assert message == "RetainDeploymentConfig and DeploymentConfig exclude each other."
    weights(sagemaker, {"VariantName": "a", "DesiredWeight": 0})
    config(sagemaker, "only-a", variant("a"))
    message = refusal(update, client=sagemaker, name="only-a", RetainAllVariantProperties=True)
    assert message == "At least one variant must have a weight above 0."


# --- DeploymentConfig

ALARMS = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]}}


def blue_green(kind="ALL_AT_ONCE", wait=0, **more):
    policy = {name: more.pop(name) for name in list(more) if name.endswith("InSeconds")}
    traffic = {"Type": kind, "WaitIntervalInSeconds": wait} | more
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": traffic} | policy}


def rolling(**more):
    return {"RollingUpdatePolicy": {"MaximumBatchSize": percent(50), "WaitIntervalInSeconds": 60} | more}


def percent(value):
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def instances(value):
    return {"Type": "INSTANCE_COUNT", "Value": value}


ALL_AT_ONCE = blue_green(TerminationWaitInSeconds=60)

DEPLOYMENTS = {
    "all at once": blue_green(TerminationWaitInSeconds=60, MaximumExecutionTimeoutInSeconds=600),
    "a canary": blue_green("CANARY", 60, CanarySize=percent(1)),
    "a canary of instances": blue_green("CANARY", 60, CanarySize=instances(1)),
    "linear": blue_green("LINEAR", 60, LinearStepSize=percent(10)),
    "rolling": rolling(RollbackMaximumBatchSize=percent(100), MaximumExecutionTimeoutInSeconds=600),
    "alarms alone": ALARMS,
    "alarms beside": rolling() | ALARMS,
}


@pytest.mark.parametrize("case", DEPLOYMENTS)
def test_a_deployment_config_is_stored_and_described(sagemaker, case):
    config(sagemaker, "pair", variant("a"))
    update(sagemaker, "pair", DeploymentConfig=DEPLOYMENTS[case])
    described = describe(sagemaker)
    assert described["LastDeploymentConfig"] == DEPLOYMENTS[case]
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "pair")


def test_the_last_deployment_config_is_retained_on_request(sagemaker):
    update(sagemaker, RetainDeploymentConfig=True)
    assert "LastDeploymentConfig" not in describe(sagemaker)
    update(sagemaker, DeploymentConfig=ALARMS)
    weights(sagemaker, {"VariantName": "a", "DesiredWeight": 2})
    assert describe(sagemaker)["LastDeploymentConfig"] == ALARMS
    update(sagemaker, RetainDeploymentConfig=True)
    assert describe(sagemaker)["LastDeploymentConfig"] == ALARMS


def test_a_deployment_config_is_the_last_one_until_another_is_used(sagemaker):
    update(sagemaker, DeploymentConfig=ALARMS)
    update(sagemaker, "old")
    update(sagemaker, DeploymentConfig={})  # says nothing
    assert describe(sagemaker)["LastDeploymentConfig"] == ALARMS
    update(sagemaker, RetainDeploymentConfig=True)
    assert describe(sagemaker)["LastDeploymentConfig"] == ALARMS
    update(sagemaker, DeploymentConfig=ALL_AT_ONCE)
    assert describe(sagemaker)["LastDeploymentConfig"] == ALL_AT_ONCE


def test_an_empty_deployment_config_is_none(sagemaker):
    sagemaker.create_endpoint(EndpointName="another", EndpointConfigName="old", DeploymentConfig={})
    assert "LastDeploymentConfig" not in sagemaker.describe_endpoint(EndpointName="another")


def test_a_stored_deployment_config_is_not_checked_by_an_update_that_does_not_retain_it(sagemaker):
    config(sagemaker, "pair", variant("a"))
    halves = blue_green("CANARY", CanarySize=instances(1))
    update(sagemaker, "pair", DeploymentConfig=halves)
    message = refusal(update, client=sagemaker, RetainDeploymentConfig=True)
    assert message.startswith("CanarySize must be at most 50 percent")
    update(sagemaker)
    assert describe(sagemaker)["LastDeploymentConfig"] == halves


def test_a_deployment_config_is_described_while_it_is_used_and_dropped_if_the_update_fails(sagemaker):
    update(sagemaker, DeploymentConfig=ALARMS)
    update(sagemaker, "broken", DeploymentConfig=ALL_AT_ONCE)
    assert describe(sagemaker)["LastDeploymentConfig"] == ALARMS
    update(sagemaker, RetainDeploymentConfig=True)
    assert describe(sagemaker)["LastDeploymentConfig"] == ALARMS
    update(sagemaker, "stuck", DeploymentConfig=ALL_AT_ONCE)
    assert describe(sagemaker)["LastDeploymentConfig"] == ALL_AT_ONCE


def test_a_deployment_config_of_create_endpoint_is_retained_too(sagemaker):
    sagemaker.create_endpoint(EndpointName="another", EndpointConfigName="old", DeploymentConfig=ALARMS)
    sagemaker.update_endpoint(EndpointName="another", EndpointConfigName="new", RetainDeploymentConfig=True)
    assert sagemaker.describe_endpoint(EndpointName="another")["LastDeploymentConfig"] == ALARMS


IMPOSSIBLE = {
    "two policies": (
        blue_green() | rolling(),
        "BlueGreenUpdatePolicy and RollingUpdatePolicy exclude each other.",
    ),
    "a canary without its size": (
        blue_green("CANARY"),
        "A TrafficRoutingConfiguration of Type CANARY must have a CanarySize.",
    ),
    "linear without its size": (
        blue_green("LINEAR", CanarySize=percent(10)),
        "A TrafficRoutingConfiguration of Type LINEAR must have a LinearStepSize.",
    ),
    "all at once with a size": (
        blue_green(CanarySize=percent(10)),
        "A TrafficRoutingConfiguration of Type ALL_AT_ONCE has no CanarySize.",
    ),
    "a canary with two sizes": (
        blue_green("CANARY", CanarySize=percent(10), LinearStepSize=percent(10)),
        "A TrafficRoutingConfiguration of Type CANARY has no LinearStepSize.",
    ),
    "a large canary": (
        blue_green("CANARY", CanarySize=percent(51)),
        "CanarySize must be at most 50 percent of a variant's instances; of the 4 of variant a it is 51 percent.",
    ),
    "a canary of too many": (
        blue_green("CANARY", CanarySize=instances(3)),
        "CanarySize must be at most 50 percent of a variant's instances; of the 4 of variant a it is 75 percent.",
    ),
    "a canary of all of the second variant": (
        blue_green("CANARY", CanarySize=instances(1)),
        "CanarySize must be at most 50 percent of a variant's instances; of the 1 of variant c it is 100 percent.",
    ),
    "small steps": (
        blue_green("LINEAR", LinearStepSize=percent(9)),
        "LinearStepSize must be between 10 and 50 percent of a variant's instances; of the 4 of variant a it is 9"
        " percent.",
    ),
    "small batches": (
        rolling(MaximumBatchSize=percent(4)),
        "MaximumBatchSize must be between 5 and 50 percent of a variant's instances; of the 4 of variant a it is 4"
        " percent.",
    ),
    "rolling back more than all": (
        rolling(RollbackMaximumBatchSize=percent(101)),
        "RollbackMaximumBatchSize must not be more than 100 percent.",
    ),
    "waits beyond the end": (
        blue_green(wait=400, TerminationWaitInSeconds=200, MaximumExecutionTimeoutInSeconds=600),
        "MaximumExecutionTimeoutInSeconds must be more than TerminationWaitInSeconds and WaitIntervalInSeconds"
        " together, which are 600.",
    ),
    "a wait beyond the end": (
        rolling(WaitIntervalInSeconds=600, MaximumExecutionTimeoutInSeconds=600),
        "MaximumExecutionTimeoutInSeconds must be more than WaitIntervalInSeconds, which is 600.",
    ),
    "eleven alarms": (
        {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": f"a{n}"} for n in range(11)]}},
        "1 validation error detected: Value '[11 items]' at 'deploymentConfig.autoRollbackConfiguration.alarms' failed"
        " to satisfy constraint: Member must have length less than or equal to 10",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_invalid_deployment_config_is_refused(shared, case):
    deployment, message = IMPOSSIBLE[case]
    assert refusal(update, client=shared, DeploymentConfig=deployment) == message
    create = shared.create_endpoint
    assert refusal(create, EndpointName="x", EndpointConfigName="new", DeploymentConfig=deployment) == message
    assert status(shared) == "InService"


def test_a_deployment_config_is_checked_against_the_retained_counts(sagemaker):
    deployment = blue_green("CANARY", CanarySize=instances(2))
    config(sagemaker, "four", variant("a", count=4))
    message = refusal(
        update, client=sagemaker, name="four", DeploymentConfig=deployment, RetainAllVariantProperties=True
    )
    assert message.endswith("of the 2 of variant a it is 100 percent.")
    update(sagemaker, "four", DeploymentConfig=deployment)


# --- UpdateEndpointWeightsAndCapacities


def test_weights_and_counts_change_with_the_same_instances(stage):
    sagemaker = prepared(stage)
    before = describe(sagemaker)
    answer = weights(
        sagemaker, {"VariantName": "a", "DesiredWeight": 0.5}, {"VariantName": "b", "DesiredInstanceCount": 1}
    )
    assert answer["EndpointArn"] == ARN + "ep"
    after = describe(sagemaker)
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "old")
    assert shares(after) == {"a": (0.5, 0.5, 2, 2), "b": (3.0, 3.0, 1, 1)}
    for name in ("VariantName", "DeployedImages"):
        assert [v[name] for v in after["ProductionVariants"]] == [v[name] for v in before["ProductionVariants"]]
    ((_, (revision,), _),) = stage.context.store.changes().endpoints
    assert (revision.number, revision.fleet) == (2, 1)
    weights(sagemaker, {"VariantName": "b", "DesiredWeight": 7})
    assert shares(describe(sagemaker)) == {"a": (0.5, 0.5, 2, 2), "b": (7.0, 7.0, 1, 1)}


def test_while_weights_change_the_desired_values_differ_from_the_current_ones(stage):
    sagemaker = prepared(stage)
    stage.context.lifecycle.paused = True
    weights(sagemaker, {"VariantName": "a", "DesiredWeight": 0, "DesiredInstanceCount": 5})
    described = describe(sagemaker)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("Updating", "old")
    assert shares(described) == {"a": (1.0, 0.0, 2, 5), "b": (3.0, 3.0, 2, 2)}
    assert "PendingDeploymentSummary" not in described
    assert refusal(lambda: weights(sagemaker, {"VariantName": "a", "DesiredWeight": 1})) == IN_PROGRESS
    stage.context.lifecycle.paused = False
    stage.context.lifecycle.wake()
    assert shares(describe(sagemaker)) == {"a": (0.0, 0.0, 5, 5), "b": (3.0, 3.0, 2, 2)}


def test_a_deleted_model_is_an_error_only_when_more_instances_are_requested(sagemaker):
    sagemaker.delete_model(ModelName="m")
    more = {"VariantName": "a", "DesiredInstanceCount": 3}
    message = 'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/m".'
    assert refusal(lambda: weights(sagemaker, more)) == message
    weights(sagemaker, {"VariantName": "a", "DesiredWeight": 2}, {"VariantName": "b", "DesiredInstanceCount": 1})
    assert shares(describe(sagemaker)) == {"a": (2.0, 2.0, 2, 2), "b": (3.0, 3.0, 1, 1)}


CHANGES = {
    "a variant twice": (
        [{"VariantName": "a", "DesiredWeight": 1}] * 2,
        'The variant name "a" was non-unique within the request.',
    ),
    "an unknown variant": (
        [{"VariantName": "x", "DesiredWeight": 1}],
        'The variant name(s) "x" is/are not present within endpoint configuration "old".',
    ),
    "a variant in other letters": (
        [{"VariantName": "A", "DesiredWeight": 1}],
        'The variant name(s) "A" is/are not present within endpoint configuration "old".',
    ),
    "two unknown variants": (
        [{"VariantName": name, "DesiredWeight": 1} for name in ("y", "a", "x")],
        'The variant name(s) "y", "x" is/are not present within endpoint configuration "old".',
    ),
    "no instance": (
        [{"VariantName": "a", "DesiredInstanceCount": 0}],
        "Variant a must have a DesiredInstanceCount above 0.",
    ),
    "nothing": (
        [{"VariantName": "a"}],
        "A DesiredWeight or a DesiredInstanceCount must be given for variant a.",
    ),
    "no weight at all": (
        [{"VariantName": "a", "DesiredWeight": 0}, {"VariantName": "b", "DesiredWeight": 0}],
        "At least one variant must have a weight above 0.",
    ),
    "serverless": (
        [{"VariantName": "a", "ServerlessUpdateConfig": {"MaxConcurrency": 1}}],
        "Serverless inference (ServerlessUpdateConfig) is a feature of SageMaker that is not hosted here.",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_an_invalid_change_is_refused_and_changes_nothing(shared, case):
    desired, message = CHANGES[case]
    assert refusal(lambda: weights(shared, *desired)) == message
    described = describe(shared)
    assert described["EndpointStatus"] == "InService"
    assert shares(described) == {"a": (1.0, 1.0, 2, 2), "b": (3.0, 3.0, 2, 2)}


BODIES = [
    {},
    {"EndpointName": "ep"},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": []},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": {}},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": [None]},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": [{}]},
    {"EndpointName": "ep", "EndpointConfigName": None},
    {"EndpointName": "ep", "EndpointConfigName": "new", "RetainAllVariantProperties": "yes"},
    {"EndpointName": "ep", "EndpointConfigName": "new", "Tags": []},
    {"EndpointName": "ep", "EndpointConfigName": "../new"},
    {"EndpointName": "ep", "EndpointConfigName": "new", "DeploymentConfig": {"RollingUpdatePolicy": {}}},
    {"EndpointName": "ep", "EndpointConfigName": "new", "DeploymentConfig": {"BlueGreenUpdatePolicy": {}}},
    {"EndpointName": "ep", "EndpointConfigName": "new", "DeploymentConfig": blue_green("SIDEWAYS")},
    {"EndpointName": "ep", "EndpointConfigName": "new", "DeploymentConfig": blue_green("CANARY", CanarySize={})},
    {"EndpointName": "ep", "EndpointConfigName": "new", "DeploymentConfig": rolling(MaximumBatchSize=percent(0))},
    {"EndpointName": "ep", "EndpointConfigName": "new", "ExcludeRetainedVariantProperties": [{}]},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": [{"VariantName": "a", "DesiredWeight": -1}]},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": [{"VariantName": "a", "DesiredWeight": 1e300}]},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": [{"VariantName": "a", "DesiredWeight": "heavy"}]},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": [{"VariantName": "a", "DesiredInstanceCount": -1}]},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": [{"VariantName": "a", "DesiredInstanceCount": 2**40}]},
    {"EndpointName": "ep", "DesiredWeightsAndCapacities": [{"VariantName": "a\0", "DesiredWeight": 1}]},
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: json.dumps(body)[:60])
@pytest.mark.parametrize("operation", ["UpdateEndpoint", "UpdateEndpointWeightsAndCapacities"])
def test_bad_input_is_refused_by_both(shared_stage, operation, body):
    answer = send(shared_stage, json.dumps(body).encode(), f"SageMaker.{operation}")
    refused_over_http(answer, "ValidationException", "SerializationException")


# --- at the same time


def race(*calls):
    """Return the answer of each call, or the message of its error."""
    barrier, answers = threading.Barrier(len(calls)), [""] * len(calls)

    def run(number, call):
        barrier.wait(10)
        try:
            answers[number] = call()["ResponseMetadata"]["HTTPStatusCode"]
        except ClientError as refused:
            answers[number] = refused.response["Error"]["Message"]

    threads = [threading.Thread(target=run, args=numbered) for numbered in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return answers


def test_exactly_one_of_several_racing_updates_wins(stage):
    sagemaker = prepared(stage)
    stage.context.lifecycle.paused = True
    change = {"VariantName": "a", "DesiredWeight": 2}
    answers = race(*[lambda: update(sagemaker)] * 3, *[lambda: weights(sagemaker, change)] * 3)
    assert sorted(answers, key=str) == [200] + [IN_PROGRESS] * 5
    assert stage.context.store.endpoint("us-east-1", "ep").revision == 2


def test_an_update_that_races_with_delete_wins_or_is_refused_and_the_endpoint_is_deleted(stage):
    sagemaker = prepared(stage)
    told = {200, IN_PROGRESS, f"{IN_PROGRESS} It is being deleted.", f'Could not find endpoint "{ARN}ep".'}
    for _ in range(10):
        deleted, updated = race(lambda: sagemaker.delete_endpoint(EndpointName="ep"), lambda: update(sagemaker))
        assert deleted == 200
        assert updated in told
        message = f'Could not find endpoint "{ARN}ep".'
        assert refusal(sagemaker.describe_endpoint, EndpointName="ep") == message
        sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="old")


def test_an_endpoint_is_deleted_while_it_is_updated(sagemaker):
    update(sagemaker, "stuck")
    sagemaker.delete_endpoint(EndpointName="ep")
    assert refusal(sagemaker.describe_endpoint, EndpointName="ep") == f'Could not find endpoint "{ARN}ep".'


def test_an_update_is_still_in_progress_after_a_restart(tmp_path):
    with running(tmp_path) as stage:
        sagemaker = prepared(stage)
        update(sagemaker, "stuck", DeploymentConfig=ALARMS)
        before = describe(sagemaker)
    with running(tmp_path) as stage:
        after = describe(stage.client())
    del before["ResponseMetadata"], after["ResponseMetadata"]
    assert after == before


def test_updates_do_not_cross_regions(stage):
    prepared(stage)
    there = stage.client(region="eu-west-1")
    message = 'Could not find endpoint "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/ep".'
    assert refusal(there.update_endpoint, EndpointName="ep", EndpointConfigName="new") == message


def test_an_endpoint_marked_for_deletion_was_last_modified_at_that_time(stage):
    sagemaker = prepared(stage)
    stage.context.lifecycle.paused = True
    before = describe(sagemaker)["LastModifiedTime"]
    sagemaker.delete_endpoint(EndpointName="ep")
    deleted = describe(sagemaker)["LastModifiedTime"]
    assert deleted > before
    sagemaker.delete_endpoint(EndpointName="ep")
    assert describe(sagemaker)["LastModifiedTime"] == deleted
