import pytest
from stage import running


@pytest.fixture(scope="session")
def shared_stage(tmp_path_factory):
    """One server for all tests that use only names or regions of their own."""
    with running(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(tmp_path):
    with running(tmp_path) as stage:
        yield stage


@pytest.fixture
def sagemaker(stage):
    return stage.client()
