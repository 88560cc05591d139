import pytest

from hostler.aws import service


def test_only_what_the_wanted_operations_reach_is_kept():
    loaded = service.load("sagemaker", ["DeleteModel"])
    assert list(loaded.operations) == ["DeleteModel"]
    assert list(loaded.operations["DeleteModel"].input.members) == ["ModelName"]
    assert loaded.operations["DeleteModel"].output is None


def test_every_operation_of_aws_is_known_by_name():
    names = service.load("sagemaker", []).names
    assert {"CreateModel", "UpdateEndpoint", "CreateTrainingJob"} <= names
    assert len(names) > 300


def test_an_operation_that_aws_does_not_have_cannot_be_wanted():
    with pytest.raises(KeyError):
        service.load("sagemaker", ["CreateHorse"])
