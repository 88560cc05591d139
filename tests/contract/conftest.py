"""The stages of the model servers' contract tests: our server as a process, with sockets and with ports, and as
`docker run IMAGE serve`.
"""

from __future__ import annotations

from collections.abc import Iterator

import containers_of_ours
import pytest

_PROCESS, _PORTS, _IMAGE = "process", "ports", "image"

# What depends on how processes are called: names of tests and of modules.
_AT_PORTS = {
    "test_model_server_calls_that_never_return",
    "test_model_server_streams",
    "test_model_server_workers",
    "test_a_call_through_the_server_has_its_headers_and_keeps_the_scripts",
    "test_a_pickle_that_is_not_small_is_served_from_a_process_of_its_own",
    "test_a_target_ends_after_its_calls_in_flight",
    "test_headers_of_a_response_are_sent",
}
# The part of them that `make test` runs.
_SHORT_AT_PORTS = {
    "test_a_call_through_the_server_has_its_headers_and_keeps_the_scripts",
    "test_a_pickle_that_is_not_small_is_served_from_a_process_of_its_own",
    "test_a_scripts_process_has_a_successor_and_without_one_the_target_goes",
    "test_a_target_ends_after_its_calls_in_flight",
    "test_a_target_of_processes_of_its_own_has_as_many",
    "test_a_worker_that_is_killed_has_a_successor_that_holds_it_all",
    "test_calls_behind_one_that_hangs_are_not_read",
    "test_every_worker_has_a_copy_and_memory_counts_for_each",
}

# The part on images that `make test` runs.
_SHORT = {
    "test_a_server_without_models_is_healthy_and_lists_none",
    "test_a_target_is_loaded_invoked_listed_and_unloaded",
    "test_two_loads_of_one_target_at_once_are_one_load",
    "test_xgboost_answers_invocations_as_awss_container_does",
    "test_the_end_waits_for_calls_in_flight",
    "test_a_script_is_pinged_while_its_code_runs_and_replaced_when_it_crashes",
    "test_a_variable_that_is_no_number_is_named",
    "test_calls_to_the_server_itself_are_shared_among_its_workers",
}

# What cannot be asked of a container, with the reason: names of tests and of a module.
_PIDS = "the pids in a container are its own"
_OPTIONS = "Python's options are those of the entry point"
_TORCH = "the tests' image is without torch"
_FOLDERS = "the folders of this machine are not the container's"
_START = "it starts a server by itself"
_RACE = "it measures against a load of three seconds"
NOT_IN_IMAGES = {
    "test_model_server_calls_that_never_return": _PIDS,
    "test_a_named_script_that_is_missing_ends_the_server_with_a_list_of_the_folders": _FOLDERS,
    "test_a_framework_that_is_not_installed_ends_the_server_with_the_install_command": _OPTIONS,
    "test_a_package_that_is_missing_at_the_start_is_left_as_that": _OPTIONS,
    "test_without_a_socket_it_listens_on_the_given_port": _START,
    "test_targets_of_every_framework_live_in_one_server": _TORCH,
    "test_ten_torchscript_targets_on_one_server_each_give_their_own": _TORCH,
    "test_wrong_calls_of_a_torchscript_target_are_the_callers_mistake": _TORCH,
    "test_a_script_on_the_pytorch_image_has_that_images_defaults": _TORCH,
    "test_an_error_of_the_pytorch_image_says_what_to_do": _TORCH,
    "test_every_worker_has_a_copy_and_memory_counts_for_each": _PIDS,
    "test_slow_loads_hold_up_no_other_target_and_no_ping": _RACE,
    "test_nothing_is_left_when_the_server_is_killed": _START,
    "test_a_forked_child_that_returns_from_the_users_code_answers_no_call": _PIDS,
    "test_a_worker_that_is_killed_has_a_successor_that_holds_it_all": _PIDS,
    "test_a_target_that_a_replacement_cannot_load_is_unloaded_everywhere": _PIDS,
}
# Cases of tests that can.
CASES_NOT_IN_IMAGES = {"a model of Hugging Face without a task": _TORCH}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of a server's contract on each stage that it applies to."""
    module, name = metafunc.module.__name__, metafunc.function.__name__
    if not module.startswith("test_model_server_"):
        return
    stages = [pytest.param(_PROCESS)]
    if {module, name} & _AT_PORTS:
        stages.append(pytest.param(_PORTS, marks=[] if name in _SHORT_AT_PORTS else [pytest.mark.slow]))
    if not {module, name} & NOT_IN_IMAGES.keys():
        marks = [pytest.mark.docker, *([] if name in _SHORT else [pytest.mark.slow])]
        stages.append(pytest.param(_IMAGE, marks=marks))
    metafunc.parametrize("stage", stages, indirect=True, scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the cases that do not apply to images."""
    left_out = [f"[{_IMAGE}-{case}]" for case in CASES_NOT_IN_IMAGES]
    items[:] = [item for item in items if not item.name.endswith(tuple(left_out))]


@pytest.fixture(scope="module", autouse=True)
def stage(request: pytest.FixtureRequest) -> Iterator[None]:
    """Choose what `running` starts. A fixture that starts a server for a whole module asks for this one."""
    param = getattr(request, "param", _PROCESS)
    containers_of_ours.in_image, containers_of_ours.at_ports = param == _IMAGE, param == _PORTS
    yield
    containers_of_ours.in_image = containers_of_ours.at_ports = False


@pytest.fixture(autouse=True)
def of_this_stage(request: pytest.FixtureRequest, stage: None) -> None:
    """Fail a test that would be given another stage's server."""
    for name in request.fixturenames:
        given = request.getfixturevalue(name) if name in ("server", "pytorch") else None
        if isinstance(given, containers_of_ours.Container):
            assert given.in_image == containers_of_ours.in_image, f"the fixture {name} does not ask for `stage`"
