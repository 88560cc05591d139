"""What Kubernetes is asked to create."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest

from hostler.engines.engine import ContainerLaunch, InstanceLaunch
from hostler.engines.images import Server
from hostler.engines.kubernetes import pods, sizes
from hostler.engines.kubernetes.pods import Cell, Note, pod
from hostler.errors import NotStarted
from hostler.setting_tables import InstanceType, Kubernetes, Toleration
from hostler.settings import Settings

CONTROL = "tls:hostler-control.hostler.svc:7700"
OURS = ContainerLaunch(
    "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1",
    {"A": "1", "SAGEMAKER_SUBMIT_DIRECTORY": "s3://box/code.tar.gz"},
    multi_model=True, log="0000000a/blue/i-1/first", hostname="first",
    server=Server("xgboost", image="sagemaker-xgboost:1.7-1", reference="hostler-server:1"),
)  # fmt: skip
THEIRS = ContainerLaunch(
    "team/theirs:7", {}, log="0000000a/blue/i-1/second", hostname="Second", server=Server(reference="mirror/theirs:7")
)
LAUNCH = InstanceLaunch(
    "0000000a.1.0.0.0", {"key": "us-east-1/e"}, (OURS, THEIRS), type="ml.m5.large", spread="0000000a.1.0"
)


def made(launch: InstanceLaunch = LAUNCH, control_ip: str = "", **settings: Any) -> Any:
    """Return the pod as the API server gets it."""
    resolved = Settings(data=Path("/data"), **settings)
    cell = Cell("3f9c", "the-uid", resolved, CONTROL, control_ip)
    return msgspec.json.decode(msgspec.json.encode(pod(launch, sizes.of(launch.type, resolved), cell)))


def alone(container: ContainerLaunch, **changes: Any) -> InstanceLaunch:
    return msgspec.structs.replace(LAUNCH, containers=(container,), **changes)


def variables(container: Any) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


EVERYTHING = {
    "kubernetes": Kubernetes(
        image_pull_secrets=("one", "two"), s3_secret="s3", spread="hard", run_as_non_root=True, priority_class="high",
        runtime_class="gvisor", labels={"team": "ml"}, annotations={"a.example/b": "c"}, agent_image="mirror/hostler:1",
    ),
    "instances": {
        "ml.g5.*": InstanceType(gpu=4),
        "ml.m5.*": InstanceType(
            cpu=0.5, memory=2**30, gpu=1, node_selector={"pool": "models"},
            tolerations=(Toleration(key="gpu", operator="Exists", effect="NoSchedule"),),
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
@pytest.mark.parametrize("settings", [{}, EVERYTHING])
@pytest.mark.parametrize("isolated", [False, True])
def test_a_pod_is_valid_for_each_version_strictly(version: str, settings: dict[str, Any], isolated: bool) -> None:
    launch = msgspec.structs.replace(LAUNCH, isolated=isolated)
    kubernetes_validate.validate(made(launch, "10.0.0.7", **settings), version, strict=True)


def test_a_pod_has_the_name_of_its_house_and_instance_and_carries_its_launch() -> None:
    metadata = made()["metadata"]
    assert metadata["name"] == "hostler-3f9c-0000000a-1-0-0-0"
    assert metadata["namespace"] == "hostler-instances"
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "hostler", "hostler.dev/house": "3f9c",
        "hostler.dev/spread": "0000000a-1-0", "hostler.dev/isolated": "false",
    }  # fmt: skip
    note = msgspec.json.decode(metadata["annotations"]["hostler.dev/launch"], type=Note)
    assert (note.id, note.labels) == (LAUNCH.id, LAUNCH.labels)
    first, second = note.containers
    assert (first.log, first.framework, first.multi_model, first.scripts) == (OURS.log, "xgboost", True, True)
    assert (second.reference, second.framework, second.multi_model, second.scripts) == (
        "mirror/theirs:7",
        "",
        False,
        False,
    )
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("ConfigMap", "the-uid", True)


def test_the_longest_name_of_a_pod_is_a_name_of_a_host() -> None:
    assert len(pods.name("0123456789ab", "x" * 38)) <= 63


def test_labels_and_annotations_of_people_do_not_replace_those_by_which_hostler_knows_its_own() -> None:
    table = Kubernetes(
        labels={"hostler.dev/house": "another"},
        annotations={"hostler.dev/launch": "{}", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    )
    metadata = made(kubernetes=table)["metadata"]
    assert metadata["labels"]["hostler.dev/house"] == "3f9c"
    assert metadata["annotations"]["hostler.dev/launch"] != "{}"
    assert metadata["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_an_agent_of_hostlers_image_holds_the_containers_back_until_it_says_that_it_started() -> None:
    (agent,) = made()["spec"]["initContainers"]
    assert (agent["args"], agent["restartPolicy"]) == (["agent"], "Always")
    assert agent["image"].startswith("hostler:")
    assert agent["startupProbe"]["httpGet"] == {"path": "/started", "port": 7901}
    assert variables(agent) == {
        "HOSTLER_INSTANCE": "0000000a.1.0.0.0", "HOSTLER_POD": "", "HOSTLER_CONTROL_ADDRESS": CONTROL,
    }  # fmt: skip
    (agent,) = made(**EVERYTHING)["spec"]["initContainers"]
    assert agent["image"] == "mirror/hostler:1"
    assert agent["envFrom"] == [{"secretRef": {"name": "s3"}}]


def test_each_container_sees_its_own_part_of_the_room_and_ours_the_cache_that_it_cannot_write() -> None:
    first, second = made()["spec"]["containers"]
    assert first["volumeMounts"] == [
        {"name": "room", "mountPath": "/opt/ml", "subPath": "c0"},
        {"name": "room", "mountPath": "/opt/ml/.artifacts", "subPath": "a0", "readOnly": True},
        {"name": "tmp-0", "mountPath": "/tmp"},
    ]
    assert second["volumeMounts"] == [
        {"name": "room", "mountPath": "/opt/ml", "subPath": "c1"},
        {"name": "room", "mountPath": "/opt/ml/model", "subPath": "c1/model"},
    ], "a VOLUME of the image would hide it"


def test_the_token_and_the_keys_of_s3_are_the_agents_alone() -> None:
    spec = made(**EVERYTHING)["spec"]
    assert not spec["automountServiceAccountToken"]
    for container in spec["containers"]:
        assert "envFrom" not in container
        assert "token" not in [mount["name"] for mount in container["volumeMounts"]]
    assert made()["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] == "c0,c1"


def test_the_token_is_one_that_kubernetes_makes_for_the_pod_or_that_of_a_secret() -> None:
    for table, sources in (
        (Kubernetes(), [["serviceAccountToken"], ["configMap"]]),
        (Kubernetes(link_token_secret="tokens"), [["secret"], ["configMap"]]),
    ):
        [token] = [each for each in made(kubernetes=table)["spec"]["volumes"] if each["name"] == "token"]
        assert [[*each] for each in token["projected"]["sources"]] == sources


def test_an_image_is_started_with_the_one_argument_serve_and_its_entry_point_stays() -> None:
    _, theirs = made()["spec"]["containers"]
    assert (theirs["image"], theirs["args"]) == ("mirror/theirs:7", ["serve"])
    assert "command" not in theirs


def test_the_ports_are_said_to_each_container_and_an_address_in_s3_becomes_the_folder_of_the_code() -> None:
    first, second = (variables(each) for each in made()["spec"]["containers"])
    assert (first["SAGEMAKER_BIND_TO_PORT"], first["SAGEMAKER_SAFE_PORT_RANGE"]) == ("8080", "25000-25499")
    assert (second["SAGEMAKER_BIND_TO_PORT"], second["SAGEMAKER_SAFE_PORT_RANGE"]) == ("8081", "25500-25999")
    assert first["SAGEMAKER_SUBMIT_DIRECTORY"] == "/opt/ml/code"
    assert (first["HOSTLER_ARTIFACTS"], first["HOSTLER_IMAGE"]) == ("/opt/ml/.artifacts", "sagemaker-xgboost:1.7-1")
    assert not {"HOSTLER_ARTIFACTS", "HOSTLER_IMAGE", "HOSTLER_PORTS", "SAGEMAKER_MODEL_SERVER_WORKERS"} & second.keys()
    assert (first["SAGEMAKER_MODEL_SERVER_WORKERS"], first["HOSTLER_PORTS"]) == ("1", "true")


def test_kubernetes_expands_nothing_in_the_value_of_a_variable() -> None:
    theirs = msgspec.structs.replace(THEIRS, environment={"A": "$(PATH) $x $$ $"})
    (container,) = made(alone(theirs))["spec"]["containers"]
    assert variables(container)["A"] == "$$(PATH) $$x $$$$ $$"


@pytest.mark.parametrize("wrong", [{"": "1"}, {"A=B": ""}, {"A": "\0"}])
def test_an_environment_that_no_process_can_have_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(NotStarted, match="cannot be set") as refused:
        made(msgspec.structs.replace(LAUNCH, containers=(OURS, msgspec.structs.replace(THEIRS, environment=wrong))))
    assert refused.value.position == 1


def test_a_container_asks_for_its_share_and_may_use_the_memory_of_the_whole_instance() -> None:
    for container in made()["spec"]["containers"]:
        assert container["resources"] == {
            "requests": {"cpu": "1000m", "memory": str(4 * 2**30)}, "limits": {"memory": str(8 * 2**30)},
        }  # fmt: skip


def test_the_table_instances_says_what_a_type_asks_for_and_where_it_runs() -> None:
    spec = made(**EVERYTHING)["spec"]
    first, second = (each["resources"] for each in spec["containers"])
    assert first["requests"] == {"cpu": "250m", "memory": str(2**29), "nvidia.com/gpu": "1"}
    assert first["limits"] == {"memory": str(2**30), "nvidia.com/gpu": "1"}
    assert "nvidia.com/gpu" not in second["limits"], "it cannot be shared"
    assert spec["nodeSelector"] == {"pool": "models"}
    assert spec["tolerations"][-1] == {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("high", "gvisor")
    assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


def test_a_gpu_type_asks_for_its_gpus_and_a_known_memory_of_all_instances_wins() -> None:
    launch = alone(THEIRS, type="ml.g5.12xlarge")
    (container,) = made(launch, instance_memory=2**30)["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": str(2**30), "nvidia.com/gpu": "4"}


def test_instances_of_a_variant_are_spread_over_zones_and_nodes_as_far_as_it_can_be_or_must() -> None:
    for settings, rule in (({}, "ScheduleAnyway"), (EVERYTHING, "DoNotSchedule")):
        constraints = made(**settings)["spec"]["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in constraints] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
        assert {each["whenUnsatisfiable"] for each in constraints} == {rule}
        labels = {"hostler.dev/house": "3f9c", "hostler.dev/spread": "0000000a-1-0"}
        assert all(each["labelSelector"] == {"matchLabels": labels} for each in constraints)


def test_a_pod_is_kept_from_the_nodes_of_machines_that_do_not_answer() -> None:
    assert "affinity" not in made()["spec"]
    launch = alone(THEIRS, avoid=("node-1/zone-a", "node-2/"))
    required = made(launch)["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    fields = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in ("node-1", "node-2")]
    assert required == {"nodeSelectorTerms": [{"matchFields": fields}]}


def test_ours_are_restricted_and_theirs_get_no_more_rights_and_only_by_a_setting_no_root() -> None:
    ours, theirs = (each["securityContext"] for each in made()["spec"]["containers"])
    assert ours["runAsNonRoot"]
    assert ours["readOnlyRootFilesystem"]
    assert ours["capabilities"] == {"drop": ["ALL"]}
    assert theirs == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["NET_RAW"]}}
    _, theirs = (each["securityContext"] for each in made(**EVERYTHING)["spec"]["containers"])
    assert theirs["runAsNonRoot"]
    assert theirs["capabilities"] == {"drop": ["ALL"]}


def test_the_containers_reach_each_other_by_name_and_an_isolated_pod_knows_controls_address() -> None:
    spec = made(control_ip="10.0.0.7")["spec"]
    assert spec["hostname"] == "first"
    assert spec["hostAliases"] == [{"ip": "127.0.0.1", "hostnames": ["first", "second"]}]
    unnamed = msgspec.structs.replace(LAUNCH.containers[0], hostname="container-0.local")
    spec = made(msgspec.structs.replace(LAUNCH, containers=(unnamed,)))["spec"]
    assert spec["hostname"] == "container-0"  # Kubernetes takes no dots there
    assert spec["hostAliases"] == [{"ip": "127.0.0.1", "hostnames": ["container-0.local"]}]
    isolated = made(msgspec.structs.replace(LAUNCH, isolated=True), "10.0.0.7")
    assert isolated["spec"]["hostAliases"][1] == {"ip": "10.0.0.7", "hostnames": ["hostler-control.hostler.svc"]}
    assert isolated["metadata"]["labels"]["hostler.dev/isolated"] == "true"


def test_a_pod_that_is_evicted_has_the_time_of_an_invocation_and_requests_go_elsewhere_first() -> None:
    spec = made(invoke_timeout=60.0)["spec"]
    assert spec["terminationGracePeriodSeconds"] == 63
    assert all(each["lifecycle"]["preStop"] == {"sleep": {"seconds": 3}} for each in spec["containers"])
    assert spec["restartPolicy"] == "Never"
