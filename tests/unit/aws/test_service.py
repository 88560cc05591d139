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


def test_an_operation_that_an_older_model_does_not_have_is_left_out():
    assert list(service.load("sagemaker", ["DeleteModel", "OperationOfTomorrow"]).operations) == ["DeleteModel"]


@pytest.mark.require("newest_botocore")
def test_aws_has_every_operation_that_is_hosted():
    assert service.load("sagemaker", OPERATIONS).operations.keys() == OPERATIONS.keys()
