"""Each value of values.yaml changes what its comment says; the schema refuses what is none."""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml

from helm_chart import CHART, Objects, Values, render, template
from hostler import __version__, settings
from hostler.setting_tables import Kubernetes

pytestmark = pytest.mark.require("helm")

HOME, ELSEWHERE = "hostler", "hostler-instances"  # the namespaces


def config(objects: Objects) -> dict[str, Any]:
    """Return hostler.toml."""
    return tomllib.loads(objects.one("ConfigMap", "hostler")["data"]["hostler.toml"])


def control(objects: Objects) -> dict[str, Any]:
    return objects.one("StatefulSet", "hostler-control")["spec"]["template"]


def gateway(objects: Objects) -> dict[str, Any]:
    return objects.one("Deployment", "hostler-gateway")["spec"]["template"]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    [found] = pod["spec"]["containers"]
    return found


def variables(pod: dict[str, Any]) -> dict[str, str | None]:
    return {each["name"]: each.get("value") for each in container(pod)["env"]}


def volume(pod: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in pod["spec"]["volumes"] if each["name"] == name)


def service(objects: Objects) -> dict[str, Any]:
    return objects.one("Service", "hostler")["spec"]


def scaler(objects: Objects) -> dict[str, Any]:
    return objects.one("HorizontalPodAutoscaler", "hostler-gateway")["spec"]


def names(objects: Objects, kind: str) -> list[str]:
    return [each["metadata"]["name"] for each in objects if each["kind"] == kind]


def cluster_wide(objects: Objects) -> list[str]:
    """Return what control has rights to in all namespaces, or in none."""
    roles = [each for each in objects if each["kind"] == "ClusterRole"]
    return [resource for role in roles for rule in role["rules"] for resource in rule["resources"]]


def account(objects: Objects, name: str) -> dict[str, Any]:
    return objects.one("ServiceAccount", name)["metadata"].get("annotations")


def blocked(objects: Objects) -> list[list[str] | None]:
    *_, rule = objects.one("NetworkPolicy", "hostler-calling")["spec"]["egress"]
    return [peer["ipBlock"].get("except") for peer in rule["to"] if "ipBlock" in peer]


def volume_claim(objects: Objects) -> dict[str, Any]:
    return objects.one("StatefulSet", "hostler-control")["spec"]["volumeClaimTemplates"][0]["spec"]


def spread(pod: dict[str, Any]) -> set[str]:
    return {each["whenUnsatisfiable"] for each in pod["spec"]["topologySpreadConstraints"]}


class Case(NamedTuple):
    """A value; a fact of the objects; what the fact is by default and with the value. `beside`: further values."""

    value: Any
    fact: Callable[[Objects], Any]
    default: Any
    then: Any
    beside: Values = MappingProxyType({})


HARD = {"DoNotSchedule"}
OURS = {"app.kubernetes.io/name": "hostler", "app.kubernetes.io/instance": "hostler"}
SOFT = {"ScheduleAnyway"}
TOLERATION = {"key": "gpu", "operator": "Exists"}
LOST = [
    {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    for why in ("unreachable", "not-ready")
]
REQUESTS = {"requests": {"cpu": "2", "memory": "1Gi"}}
OPEN = {"signatures": {"allowRemoteAccessWithoutAuthentication": True}}
REMOTE = "HOSTLER_ALLOW_REMOTE_ACCESS_WITHOUT_AUTHENTICATION"

CASES: dict[str, Case] = {
    "image.repository": Case(
        "a.example/hostler",
        lambda o: [
            container(control(o))["image"],
            container(gateway(o))["image"],
            config(o)["kubernetes"]["agent_image"],
        ],
        [f"hostler:{__version__}"] * 3,
        [f"a.example/hostler:{__version__}"] * 3,
    ),
    "image.tag": Case(
        "7",
        lambda o: [
            container(control(o))["image"],
            container(gateway(o))["image"],
            config(o)["kubernetes"]["agent_image"],
        ],
        [f"hostler:{__version__}"] * 3,
        ["hostler:7"] * 3,
    ),
    "image.pullPolicy": Case(
        "Always",
        lambda o: [container(each(o))["imagePullPolicy"] for each in (control, gateway)],
        ["IfNotPresent"] * 2,
        ["Always"] * 2,
    ),
    "serverImage.repository": Case(
        "a.example/server",
        lambda o: config(o)["server_image"],
        f"hostler-server:{__version__}",
        f"a.example/server:{__version__}",
    ),
    "serverImage.tag": Case(
        "7-onnx", lambda o: config(o)["server_image"], f"hostler-server:{__version__}", "hostler-server:7-onnx"
    ),
    "imagePullSecrets": Case(
        ["pull"],
        lambda o: [
            *(each(o)["spec"].get("imagePullSecrets") for each in (control, gateway)),
            config(o)["kubernetes"]["image_pull_secrets"],
        ],
        [None, None, []],
        [[{"name": "pull"}], [{"name": "pull"}], ["pull"]],
    ),
    "listenOn": Case(
        "::",
        lambda o: [
            variables(gateway(o))["HOSTLER_HOST"],
            variables(control(o))["HOSTLER_LINK_LISTEN"],
            variables(control(o))["HOSTLER_API_LISTEN"],
        ],
        ["0.0.0.0", "tls:0.0.0.0:7700", "tls:0.0.0.0:7701"],
        ["::", "tls::::7700", "tls::::7701"],
    ),
    "signatures.verify": Case(
        False,
        lambda o: [variables(gateway(o))["HOSTLER_SIGNATURES"], "hostler-keys" in names(o, "Secret")],
        ["verify", True],
        ["off", False],
        OPEN,
    ),
    "signatures.existingSecret": Case(
        "ours",
        lambda o: ["hostler-keys" in names(o, "Secret"), volume(gateway(o), "keys")["secret"]["secretName"]],
        [True, "hostler-keys"],
        [False, "ours"],
    ),
    "signatures.allowRemoteAccessWithoutAuthentication": Case(
        True,
        lambda o: variables(gateway(o))[REMOTE],
        "false",
        "true",
        {"signatures": {"verify": False}},
    ),
    "links.existingSecret": Case(
        "ours",
        lambda o: [
            "hostler-link" in names(o, "Secret"),
            volume(control(o), "link")["secret"]["secretName"],
            volume(gateway(o), "link")["projected"]["sources"][1]["secret"]["name"],
            "hostler-link-ca" in names(o, "ConfigMap"),
        ],
        [True, "hostler-link", "hostler-link", True],
        [False, "ours", "ours", False],
    ),
    "links.authority": Case(
        "PEM\n",
        lambda o: (
            [each["data"] for each in o if each["metadata"]["name"] == "hostler-link-ca"] == [{"ca.crt": "PEM\n"}]
        ),
        False,
        True,
        {"links": {"existingSecret": "ours"}},
    ),
    "links.tokenReview": Case(
        False,
        lambda o: [
            cluster_wide(o),
            "link_tokens" in config(o),
            config(o)["kubernetes"].get("link_token_secret"),
            [list(source) for source in volume(gateway(o), "link")["projected"]["sources"]],
        ],
        [["tokenreviews", "nodes"], False, None, [["serviceAccountToken"], ["secret"]]],
        [["nodes"], True, "hostler-link-tokens", [["secret"], ["secret"]]],
    ),
    "links.existingTokens": Case(
        "ours",
        lambda o: [
            "hostler-link-tokens" in names(o, "Secret"),
            config(o)["kubernetes"].get("link_token_secret"),
            [each["secret"]["secretName"] for each in control(o)["spec"]["volumes"] if each["name"] == "tokens"],
            volume(gateway(o), "link")["projected"]["sources"][0].get("secret", {}).get("name"),
        ],
        [False, None, [], None],
        [False, "ours", ["ours"], "ours"],
        {"links": {"tokenReview": False}},
    ),
    "control.storage.size": Case("1Ti", lambda o: volume_claim(o)["resources"]["requests"]["storage"], "10Gi", "1Ti"),
    "control.storage.className": Case("fast", lambda o: volume_claim(o).get("storageClassName"), None, "fast"),
    "control.serviceAccount.annotations": Case(
        {"eks.amazonaws.com/role-arn": "arn"},
        lambda o: account(o, "hostler-control"),
        None,
        {"eks.amazonaws.com/role-arn": "arn"},
    ),
    "control.resources": Case(
        REQUESTS,
        lambda o: container(control(o))["resources"]["requests"],
        {"cpu": "500m", "memory": "512Mi"},
        REQUESTS["requests"],
    ),
    "control.priorityClassName": Case("high", lambda o: control(o)["spec"].get("priorityClassName"), None, "high"),
    "control.nodeSelector": Case({"a": "b"}, lambda o: control(o)["spec"].get("nodeSelector"), None, {"a": "b"}),
    "control.tolerations": Case([TOLERATION], lambda o: control(o)["spec"]["tolerations"], LOST, [*LOST, TOLERATION]),
    "control.affinity": Case(
        {"podAntiAffinity": {}}, lambda o: control(o)["spec"].get("affinity"), None, {"podAntiAffinity": {}}
    ),
    "control.podAnnotations": Case({"a": "b"}, lambda o: control(o)["metadata"]["annotations"].get("a"), None, "b"),
    "gateways.replicas": Case(
        5,
        lambda o: o.one("Deployment", "hostler-gateway")["spec"].get("replicas"),
        None,
        5,
        {"gateways": {"autoscaling": {"enabled": False}}},
    ),
    "gateways.autoscaling.enabled": Case(
        False,
        lambda o: [names(o, "HorizontalPodAutoscaler"), o.one("Deployment", "hostler-gateway")["spec"].get("replicas")],
        [["hostler-gateway"], None],
        [[], 2],
    ),
    "gateways.autoscaling.minReplicas": Case(3, lambda o: scaler(o)["minReplicas"], 2, 3),
    "gateways.autoscaling.maxReplicas": Case(20, lambda o: scaler(o)["maxReplicas"], 10, 20),
    "gateways.autoscaling.targetCPUUtilizationPercentage": Case(
        50, lambda o: scaler(o)["metrics"][0]["resource"]["target"]["averageUtilization"], 70, 50
    ),
    "gateways.spread": Case("hard", lambda o: spread(gateway(o)), SOFT, HARD),
    "gateways.service.type": Case("LoadBalancer", lambda o: service(o)["type"], "ClusterIP", "LoadBalancer"),
    "gateways.service.port": Case(80, lambda o: service(o)["ports"][0]["port"], 4566, 80),
    "gateways.service.annotations": Case(
        {"a": "b"}, lambda o: o.one("Service", "hostler")["metadata"].get("annotations"), None, {"a": "b"}
    ),
    "gateways.service.loadBalancerSourceRanges": Case(
        ["10.0.0.0/8"], lambda o: service(o).get("loadBalancerSourceRanges"), None, ["10.0.0.0/8"]
    ),
    "gateways.allowedHosts": Case(
        ["models.example"], lambda o: "models.example" in config(o)["allowed_hosts"], False, True
    ),
    "gateways.accessLog": Case(0, lambda o: variables(gateway(o))["HOSTLER_ACCESS_LOG"], "stdout", "0"),
    "gateways.drainTimeout": Case(
        100,
        lambda o: [config(o)["drain_timeout"], gateway(o)["spec"]["terminationGracePeriodSeconds"]],
        [60, 75],
        [100, 115],
    ),
    "gateways.resources": Case(
        REQUESTS,
        lambda o: container(gateway(o))["resources"]["requests"],
        {"cpu": "500m", "memory": "128Mi"},
        REQUESTS["requests"],
    ),
    "gateways.priorityClassName": Case("high", lambda o: gateway(o)["spec"].get("priorityClassName"), None, "high"),
    "gateways.nodeSelector": Case({"a": "b"}, lambda o: gateway(o)["spec"].get("nodeSelector"), None, {"a": "b"}),
    "gateways.tolerations": Case([TOLERATION], lambda o: gateway(o)["spec"].get("tolerations"), None, [TOLERATION]),
    "gateways.affinity": Case(
        {"podAntiAffinity": {}}, lambda o: gateway(o)["spec"].get("affinity"), None, {"podAntiAffinity": {}}
    ),
    "gateways.podAnnotations": Case({"a": "b"}, lambda o: gateway(o)["metadata"]["annotations"].get("a"), None, "b"),
    "instances.namespace": Case(
        "models",
        lambda o: {
            config(o)["kubernetes"]["namespace"],
            *names(o, "Namespace"),
            *(each["metadata"]["namespace"] for each in o if each["metadata"].get("namespace", HOME) != HOME),
        },
        {ELSEWHERE},
        {"models"},
    ),
    "instances.createNamespace": Case(False, lambda o: names(o, "Namespace"), [ELSEWHERE], []),
    "instances.runAsNonRoot": Case(
        True,
        lambda o: [
            config(o)["kubernetes"]["run_as_non_root"],
            o.one("Namespace", ELSEWHERE)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        ],
        [False, "baseline"],
        [True, "restricted"],
    ),
    "instances.showZones": Case(False, cluster_wide, ["tokenreviews", "nodes"], ["tokenreviews"]),
    "instances.followLogs": Case(False, lambda o: config(o)["kubernetes"]["follow_logs"], True, False),
    "instances.spread": Case("hard", lambda o: config(o)["kubernetes"]["spread"], "soft", "hard"),
    "instances.serviceAccount.annotations": Case(
        {"eks.amazonaws.com/role-arn": "arn"},
        lambda o: account(o, "hostler-instance"),
        None,
        {"eks.amazonaws.com/role-arn": "arn"},
    ),
    "instances.types": Case(
        [
            {"type": "ml.g5.*", "gpu": 1, "node_selector": {"a": "b"}, "tolerations": [TOLERATION]},
            {"type": "*", "cpu": 0.5},
        ],
        lambda o: list(config(o).get("instances", {}).items()),
        [],
        [("ml.g5.*", {"gpu": 1, "node_selector": {"a": "b"}, "tolerations": [TOLERATION]}), ("*", {"cpu": 0.5})],
    ),
    "instances.priorityClassName": Case("low", lambda o: config(o)["kubernetes"]["priority_class"], "", "low"),
    "instances.runtimeClassName": Case("gvisor", lambda o: config(o)["kubernetes"]["runtime_class"], "", "gvisor"),
    "instances.podLabels": Case({"a/b": "c"}, lambda o: config(o)["kubernetes"]["labels"], {}, {"a/b": "c"}),
    "instances.podAnnotations": Case({"a/b": "c"}, lambda o: config(o)["kubernetes"]["annotations"], {}, {"a/b": "c"}),
    "instances.quota": Case(
        {"pods": 500},
        lambda o: [each["spec"]["hard"] for each in o if each["kind"] == "ResourceQuota"],
        [],
        [{"pods": 500}],
    ),
    "s3.endpoint": Case("aws", lambda o: config(o).get("s3_endpoint"), None, "aws"),
    "s3.existingSecret": Case(
        "s3",
        lambda o: [container(control(o)).get("envFrom"), config(o)["kubernetes"]["s3_secret"]],
        [None, ""],
        [[{"secretRef": {"name": "s3"}}], "s3"],
    ),
    "metrics.enabled": Case(
        True,
        lambda o: [
            variables(control(o)).get("HOSTLER_METRICS_LISTEN"),
            [each["containerPort"] for each in container(control(o))["ports"]],
            [each["port"] for each in o.one("Service", "hostler-control")["spec"]["ports"]],
            o.one("NetworkPolicy", "hostler-control")["spec"]["ingress"][1:],
        ],
        [None, [7700, 7701], [7700, 7701], []],
        ["tcp:0.0.0.0:7702", [7700, 7701, 7702], [7700, 7701, 7702], [{"ports": [{"port": 7702}]}]],
    ),
    "metrics.from": Case(
        [{"namespaceSelector": {}}],
        lambda o: [each.get("from") for each in o.one("NetworkPolicy", "hostler-control")["spec"]["ingress"][1:]],
        [],
        [[{"namespaceSelector": {}}]],
        {"metrics": {"enabled": True}},
    ),
    "networkPolicy.enabled": Case(False, lambda o: len(names(o, "NetworkPolicy")), 5, 0),
    "networkPolicy.clients": Case(
        [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        lambda o: o.one("NetworkPolicy", "hostler-gateway")["spec"]["ingress"][0].get("from"),
        None,
        [
            {"ipBlock": {"cidr": "10.0.0.0/8"}},
            {"podSelector": {"matchLabels": {**OURS, "app.kubernetes.io/component": "test"}}},
        ],
    ),
    "networkPolicy.blocked": Case(
        ["169.254.0.0/16", "10.1.0.0/16"],
        blocked,
        [["169.254.169.254/32"], ["fd00:ec2::254/128"]],
        [["169.254.0.0/16", "10.1.0.0/16"], None],
    ),
    "registries": Case(
        [{"pattern": "b*", "registry": "one.example"}, {"pattern": "*", "registry": "two.example/ecr"}],
        lambda o: list(config(o).get("registries", {}).items()),
        [],
        [("b*", "one.example"), ("*", "two.example/ecr")],
    ),
    "settings": Case(
        {"invoke_timeout": 30, "instance_memory": '2 "GiB"', "strict_images": True, "idle_ttl": 0.5},
        lambda o: {
            name: config(o).get(name) for name in ("invoke_timeout", "instance_memory", "strict_images", "idle_ttl")
        },
        dict.fromkeys(("invoke_timeout", "instance_memory", "strict_images", "idle_ttl")),
        {"invoke_timeout": 30, "instance_memory": '2 "GiB"', "strict_images": True, "idle_ttl": 0.5},
    ),
}


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def merged(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    return {**left, **right} | {
        name: merged(left[name], right[name])
        for name in left.keys() & right.keys()
        if isinstance(left[name], dict) and isinstance(right[name], dict)
    }


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the paths of all values; `resources` is one."""
    for name, value in values.items():
        if isinstance(value, dict) and value and name != "resources":
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_each_value_has_a_case() -> None:
    assert sorted(CASES) == sorted(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))


@pytest.fixture(scope="module")
def defaults() -> Objects:
    return render({"links": {}})


@pytest.mark.parametrize("path", CASES)
def test_a_value_changes_what_it_says(path: str, defaults: Objects) -> None:
    case = CASES[path]
    assert case.fact(defaults) == case.default
    assert case.fact(render(merged(case.beside, nested(path, case.value)))) == case.then


def test_hostler_takes_its_settings_and_tables(tmp_path: Path) -> None:
    everything: dict[str, Any] = {}
    for path, case in CASES.items():
        if path != "settings":  # among which is a size that is none
            everything = merged(everything, nested(path, case.value))
    objects = render(merged(everything, OPEN))
    file = tmp_path / "hostler.toml"
    file.write_text(objects.one("ConfigMap", "hostler")["data"]["hostler.toml"])
    environment = {**variables(gateway(objects)), "HOSTLER_CONFIG": str(file)}
    loaded = settings.load({}, environment, tmp_path)
    assert loaded.kubernetes.namespace == "models"
    assert loaded.instances["ml.g5.*"].gpu == 1
    assert settings.load({}, {**variables(control(objects)), "HOSTLER_CONFIG": str(file)}, tmp_path).link_listen


def test_settings_are_those_of_hostler_that_the_chart_does_not_set_and_that_do_something_in_a_cluster() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    of_one_machine = {
        "aws_hosts_port", "bubblewrap", "docker_host", "gateways", "limits", "memory_fraction", "offline",
        "strict_labels",
    }  # fmt: skip
    objects = render({"links": {"tokenReview": False}, "s3": {"endpoint": "aws"}, "metrics": {"enabled": True}})
    names = {*variables(gateway(objects)), *variables(control(objects))}
    by_the_chart = {*config(objects), *(name.removeprefix("HOSTLER_").lower() for name in names)}
    left = {each.name for each in settings.Settings.described()} - of_one_machine - by_the_chart
    assert {*schema["properties"]["settings"]["propertyNames"]["enum"]} == left


def test_the_chart_says_all_that_the_table_kubernetes_may_hold() -> None:
    said = config(render({"links": {"tokenReview": False}}))["kubernetes"]
    assert set(said) == {field.name for field in msgspec.structs.fields(Kubernetes)}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"gateway": {}}, "additional properties 'gateway' not allowed"),
        ({"gateways": {"replicas": 0}}, "minimum"),
        ({"gateways": {"spread": "none"}}, "value must be one of 'soft', 'hard'"),
        ({"control": {"storage": {"size": "10 GB"}}}, "does not match pattern"),
        ({"instances": {"types": [{"cpu": 1}]}}, "missing property 'type'"),
        ({"networkPolicy": {"blocked": ["metadata"]}}, "does not match pattern"),
        ({"settings": {"port": 80}}, "invalid propertyName 'port'"),
        ({"settings": {"idle_tll": 80}}, "invalid propertyName 'idle_tll'"),
        ({"settings": {"[images]": 80}}, "invalid propertyName"),
        ({"settings": {"memory_fraction": 0.5}}, "invalid propertyName 'memory_fraction'"),
        ({"instances": {"quota": {"limits.cpu": "100"}}}, "invalid propertyName 'limits.cpu'"),
        ({"instances": {"types": [{"type": "*", "tolerations": [{"effct": "NoExecute"}]}]}}, "'effct' not allowed"),
        ({"signatures": {"verify": False}}, "set signatures.allowRemoteAccessWithoutAuthentication"),
        ({"instances": {"namespace": "hostler"}}, "choose another"),
        (
            {"instances": {"types": [{"type": "ml.*", "cpu": 1}, {"type": "*"}, {"type": "ml.*", "cpu": 2}]}},
            "instances.types has two rows of the type ml.*: leave one out",
        ),
        (
            {"registries": [{"pattern": "*", "registry": "a.b"}, {"pattern": "*", "registry": "c.d"}]},
            "registries has two rows of the pattern *: leave one out",
        ),
        (
            {"gateways": {"autoscaling": {"minReplicas": 20}}},
            "gateways.autoscaling: minReplicas, which is 20, is more than maxReplicas, which is 10",
        ),
    ],
)
def test_a_wrong_value_is_refused_in_words(values: Values, complaint: str) -> None:
    rendered = template(values)
    assert rendered.returncode
    assert complaint in rendered.stderr


def test_a_release_has_a_name_that_fits_the_labels_of_its_pods() -> None:
    render(release="a" * 44)
    assert "is longer than 44 characters" in template({}, release="a" * 45).stderr


def test_replicas_without_autoscaling_are_not_compared() -> None:
    values = {"gateways": {"autoscaling": {"enabled": False, "minReplicas": 20}}}
    assert names(render(values), "HorizontalPodAutoscaler") == []


def test_a_part_of_a_processor_may_be_a_number() -> None:
    resources = {"requests": {"cpu": 0.5}}
    assert container(control(render({"control": {"resources": resources}})))["resources"]["requests"]["cpu"] == 0.5


def test_a_gateway_has_the_disk_for_the_access_log_that_it_is_to_write() -> None:
    assert volume(gateway(render()), "data")["emptyDir"] == {"sizeLimit": "1Gi"}
    assert volume(gateway(render({"gateways": {"accessLog": "4GiB"}})), "data")["emptyDir"] == {}


def test_nothing_is_cluster_wide_without_reviews_and_zones() -> None:
    objects = render({"links": {"tokenReview": False}, "instances": {"showZones": False}})
    assert names(objects, "ClusterRole") == names(objects, "ClusterRoleBinding") == []


def test_without_reviews_control_knows_the_tokens_that_gateways_and_agents_have() -> None:
    objects = render({"links": {"tokenReview": False, "existingSecret": "ours"}})
    data = {
        name: base64.b64decode(value).decode()
        for name, value in objects.one("Secret", "hostler-link-tokens", HOME)["data"].items()
    }
    assert tomllib.loads(data["tokens.toml"]) == {"gateway": data["gateway"], "agent": data["agent"]}
    agents = objects.one("Secret", "hostler-link-tokens", ELSEWHERE)
    assert base64.b64decode(agents["data"]["token"]).decode() == data["agent"]
    assert volume(control(objects), "tokens")["secret"]["secretName"] == "hostler-link-tokens"
    assert data["gateway"] != data["agent"]
