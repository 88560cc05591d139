import pytest

from hostler.aws import service
from hostler.control.sagemaker.operations import OPERATIONS


def test_only_what_the_wanted_operations_reach_is_kept():
    loaded = service.load("sagemaker", ["DeleteModel"])
    assert list(loaded.operations) == ["DeleteModel"]
    assert list(loaded.operations["DeleteModel"].input.members) == ["ModelName"]
    assert loaded.operations["DeleteModel"].output is None


def test_every_operation_of_aws_is_known_by_name():
    names = service.load("sagemaker", []).names
    assert {"CreateModel", "UpdateEndpoint", "CreateTrainingJob"} <= names
    assert len(names) > 300


def test_a_service_of_the_query_protocol_has_its_names():
    loaded = service.load("iam", ["GetRole"])
    assert loaded.namespace == "https://iam.amazonaws.com/doc/2010-05-08/"
    assert loaded.query_codes["NoSuchEntityException"] == "NoSuchEntity"
    assert loaded.operations["GetRole"].wrapper == "GetRoleResult"


def test_an_operation_without_input_takes_an_empty_one():
    assert service.load("sts", ["GetCallerIdentity"]).operations["GetCallerIdentity"].input.members == {}


def test_a_path_is_compared_with_those_of_a_services_operations():
    assert service.has_path("lambda", "POST", "/2015-03-31/functions/f/invocations")
    assert not service.has_path("lambda", "POST", "/2015-03-31/functions/a/b/invocations")
    assert not service.has_path("lambda", "PUT", "/2015-03-31/functions/f/invocations")


def test_an_operation_that_an_older_model_does_not_have_is_left_out():
    assert list(service.load("sagemaker", ["DeleteModel", "OperationOfTomorrow"]).operations) == ["DeleteModel"]


@pytest.mark.require("newest_botocore")
def test_aws_has_every_operation_that_is_hosted():
    assert service.load("sagemaker", OPERATIONS).operations.keys() == OPERATIONS.keys()
