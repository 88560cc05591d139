"""What Kubernetes is asked to create for an instance: a pod, as a value. Nothing here does IO.

The pod's first container is hostler's agent, a native sidecar: it brings the artifacts, and its startup probe holds the
instance's own containers back until they are there. All see parts of one volume, the room:

    a<n>    the agent's cache, of which container n of ours sees everything, read-only, at /opt/ml/.artifacts
    c<n>    /opt/ml of container n

Sources: the API of Kubernetes 1.30, "Pod v1 core"; for the container's contract §5.1 to §5.3 of docs/specification.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from lightkube.models.core_v1 import (
    Affinity,
    Capabilities,
    ConfigMapProjection,
    Container,
    ContainerPort,
    EmptyDirVolumeSource,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    HostAlias,
    HTTPGetAction,
    KeyToPath,
    Lifecycle,
    LifecycleHandler,
    LocalObjectReference,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    ObjectFieldSelector,
    PodSecurityContext,
    PodSpec,
    Probe,
    ProjectedVolumeSource,
    ResourceRequirements,
    SeccompProfile,
    SecretEnvSource,
    SecretProjection,
    SecurityContext,
    ServiceAccountTokenProjection,
    SleepAction,
    Toleration,
    TopologySpreadConstraint,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta, OwnerReference
from lightkube.resources.core_v1 import Pod

from hostler import __version__, contract
from hostler.engines import ports
from hostler.engines.engine import ContainerLaunch, InstanceLaunch
from hostler.engines.environments import environment, names_script
from hostler.engines.images import Server
from hostler.engines.kubernetes.sizes import PodSize
from hostler.errors import NotStarted
from hostler.setting_tables import Kubernetes
from hostler.settings import Settings

HOUSE, SPREAD, ISOLATED = "hostler.dev/house", "hostler.dev/spread", "hostler.dev/isolated"  # labels
MANAGED_BY, OURS = "app.kubernetes.io/managed-by", "hostler"  # a label, and its value
LAUNCH = "hostler.dev/launch"  # annotation: a Note in JSON
ZONE = "topology.kubernetes.io/zone"  # of a node; from Kubernetes 1.35 on of its pods, too

AGENT = "agent"  # the sidecar's name
AUDIENCE = "hostler"  # of the tokens by which agents and gateways prove who they are
USER = 10_001  # of hostler's image
ARTIFACTS = f"{contract.BASE_DIR}/{contract.ARTIFACTS_DIR}"

_GONE_AFTER = 30  # seconds until Kubernetes ends the pods of a node of which nothing is heard
_ENDPOINTS_KNOW = 3  # seconds from the end of a pod to SIGTERM, in which gateways learn that they must use another one
_PATIENCE = 7_200  # seconds for the agent to bring all artifacts
_GIB = 2**30
_TMP = "1Gi"

_RESTRICTED = SecurityContext(
    runAsNonRoot=True, runAsUser=USER, readOnlyRootFilesystem=True, allowPrivilegeEscalation=False,
    capabilities=Capabilities(drop=["ALL"]),
)  # fmt: skip
_NON_ROOT = SecurityContext(runAsNonRoot=True, allowPrivilegeEscalation=False, capabilities=Capabilities(drop=["ALL"]))
_BASELINE = SecurityContext(allowPrivilegeEscalation=False, capabilities=Capabilities(drop=["NET_RAW"]))


class ContainerNote(msgspec.Struct, frozen=True):
    """What the engine must know of a container, whichever control started it."""

    log: str  # stream
    reference: str
    framework: str = ""
    image: str = ""  # repository and tag of AWS's image
    multi_model: bool = False
    scripts: bool = False  # a script of its environment serves every model


class Note(msgspec.Struct, frozen=True):
    """The same of an instance."""

    id: str
    labels: dict[str, str]
    containers: tuple[ContainerNote, ...]
    memory: int = 0  # bytes that each container may use


@dataclass(frozen=True)
class Cell:
    """What all pods of one control have alike. `owner`: the uid of the ConfigMap that owns them.

    `control`: where agents dial it, such as tls:hostler-control.hostler.svc:7700. `control_ip`: the address of that
    host, where it is known: an isolated pod can ask no name server.
    """

    house: str
    owner: str
    settings: Settings
    control: str
    control_ip: str = ""


def name(house: str, instance: str) -> str:
    """Return a pod's name."""
    return f"hostler-{house}-{instance.replace('.', '-')}"


def container(position: int) -> str:
    """Return a container's name in its pod."""
    return f"c{position}"


def note(launch: InstanceLaunch, memory: int = 0) -> Note:
    """Return what a pod is to carry of its launch, whose containers have a server each."""
    return Note(launch.id, launch.labels, tuple(map(_container_note, launch.containers)), memory)


def _container_note(container: ContainerLaunch) -> ContainerNote:
    server, scripts = _server(container), names_script(container.environment)
    return ContainerNote(
        container.log, server.reference, server.framework, server.image, container.multi_model, scripts
    )


def pod(launch: InstanceLaunch, size: PodSize, cell: Cell) -> Pod:
    """Return the pod of an instance. Raises NotStarted if no process can have a container's environment."""
    table = cell.settings.kubernetes
    names = [each.hostname.lower() for each in launch.containers if each.hostname]
    containers = [_container(launch, position, size, cell) for position in range(len(launch.containers))]
    spread = label(launch.spread)
    return Pod(
        apiVersion="v1",
        kind="Pod",
        metadata=_metadata(launch, size, cell, containers),
        spec=PodSpec(
            restartPolicy="Never",  # an end stays visible, with its code
            serviceAccountName=table.service_account,
            automountServiceAccountToken=False,
            enableServiceLinks=False,
            terminationGracePeriodSeconds=math.ceil(cell.settings.invoke_timeout) + _ENDPOINTS_KNOW,
            hostname=names[0].partition(".")[0] if names else None,  # one label; the whole name is among the aliases
            hostAliases=_aliases(names, launch.isolated, cell) or None,
            securityContext=PodSecurityContext(
                fsGroup=USER,
                fsGroupChangePolicy="OnRootMismatch",
                seccompProfile=SeccompProfile(type="RuntimeDefault"),
            ),
            topologySpreadConstraints=_spread(spread, cell) if spread else None,
            affinity=_not_on(launch.avoid) if launch.avoid else None,
            nodeSelector=size.node_selector or None,
            tolerations=_tolerations(size),
            priorityClassName=table.priority_class or None,
            runtimeClassName=table.runtime_class or None,
            imagePullSecrets=[LocalObjectReference(name=each) for each in table.image_pull_secrets] or None,
            initContainers=[_agent(launch, cell)],
            containers=containers,
            volumes=_volumes(launch, cell),
        ),
    )  # fmt: skip


def _metadata(launch: InstanceLaunch, size: PodSize, cell: Cell, containers: Sequence[Container]) -> ObjectMeta:
    """Return a pod's name, labels, annotations and owner."""
    table, spread = cell.settings.kubernetes, label(launch.spread)
    return ObjectMeta(
        name=name(cell.house, launch.id),
        namespace=table.namespace,
        labels={
            **table.labels,
            MANAGED_BY: OURS,
            HOUSE: cell.house,
            ISOLATED: str(launch.isolated).lower(),
            **({SPREAD: spread} if spread else {}),
        },
        annotations={
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",  # it goes by controllers that it knows
            "eks.amazonaws.com/skip-containers": ",".join(each.name for each in containers),  # no role for models
            **table.annotations,
            LAUNCH: msgspec.json.encode(note(launch, size.memory)).decode(),
        },
        # A drain refuses pods without a controller; hostler replaces what one takes away.
        ownerReferences=[
            OwnerReference(apiVersion="v1", kind="ConfigMap", name=table.owner, uid=cell.owner, controller=True)
        ],
    )


def label(text: str) -> str:
    """Return a text of letters, digits, dots and dashes as the value of a label."""
    return text.replace(".", "-")


# --- containers ---------------------------------------------------------------------------------------------------


def _agent(launch: InstanceLaunch, cell: Cell) -> Container:
    table = cell.settings.kubernetes
    return Container(
        name=AGENT,
        image=table.agent_image or f"hostler:{__version__}",
        args=["agent"],
        restartPolicy="Always",
        env=[
            EnvVar(name="HOSTLER_INSTANCE", value=launch.id),
            EnvVar(
                name="HOSTLER_POD",
                valueFrom=EnvVarSource(fieldRef=ObjectFieldSelector(fieldPath="metadata.name")),
            ),
            EnvVar(name="HOSTLER_CONTROL_ADDRESS", value=_literal(cell.control)),
        ],
        envFrom=[EnvFromSource(secretRef=SecretEnvSource(name=table.s3_secret))] if table.s3_secret else None,
        ports=[ContainerPort(containerPort=contract.AGENT_PORT, name=AGENT)],
        securityContext=_RESTRICTED,
        startupProbe=Probe(
            httpGet=HTTPGetAction(path="/started", port=contract.AGENT_PORT),
            periodSeconds=1,
            failureThreshold=_PATIENCE,
        ),
        readinessProbe=Probe(httpGet=HTTPGetAction(path="/serving", port=contract.AGENT_PORT), periodSeconds=2),
        resources=ResourceRequirements(requests={"cpu": "50m", "memory": "64Mi"}, limits={"memory": "512Mi"}),
        volumeMounts=[
            VolumeMount(name="room", mountPath=contract.AGENT_FOLDER),
            VolumeMount(name="token", mountPath=contract.AGENT_PROOFS, readOnly=True),
            VolumeMount(name="tmp-agent", mountPath="/tmp"),
        ],
    )


def _container(launch: InstanceLaunch, position: int, size: PodSize, cell: Cell) -> Container:
    each, settings = launch.containers[position], cell.settings
    server = _server(each)
    variables = environment(each, server, settings, base=contract.BASE_DIR, artifacts=ARTIFACTS)
    theirs = _NON_ROOT if settings.kubernetes.run_as_non_root else _BASELINE
    return Container(
        name=container(position),
        image=server.reference,
        args=[contract.SERVE],
        env=_variables(launch, position, variables),
        ports=[ContainerPort(containerPort=ports.port(position))],
        lifecycle=Lifecycle(preStop=LifecycleHandler(sleep=SleepAction(seconds=_ENDPOINTS_KNOW))),
        resources=_resources(position, len(launch.containers), size),
        securityContext=_RESTRICTED if server.framework else theirs,
        terminationMessagePolicy="FallbackToLogsOnError",
        volumeMounts=_mounts(each, server, position),
    )  # fmt: skip


def _mounts(each: ContainerLaunch, server: Server, position: int) -> list[VolumeMount]:
    own = f"c{position}"
    mounts = [VolumeMount(name="room", mountPath=contract.BASE_DIR, subPath=own)]
    if server.framework:
        return [
            *mounts,
            VolumeMount(name="room", mountPath=ARTIFACTS, subPath=f"a{position}", readOnly=True),
            VolumeMount(name=f"tmp-{position}", mountPath="/tmp"),
        ]
    models = contract.MODELS_DIR if each.multi_model else contract.MODEL_DIR
    # By itself, or a VOLUME of the image would hide it.
    return [*mounts, VolumeMount(name="room", mountPath=f"{contract.BASE_DIR}/{models}", subPath=f"{own}/{models}")]


def _resources(position: int, count: int, size: PodSize) -> ResourceRequirements:
    """Return what a container asks for: its share of the instance; its memory may be all of it, as on AWS.

    No GPU can be shared: those of the instance go round, from the first container on.
    """
    gpus = size.gpu // count + (position < size.gpu % count)
    gpu = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    millis = max(1, round(1000 * size.cpu / count))
    return ResourceRequirements(
        requests={"cpu": f"{millis}m", "memory": str(size.memory // count), **gpu},
        limits={"memory": str(size.memory), **gpu},
    )


def _variables(launch: InstanceLaunch, position: int, environment: Mapping[str, str]) -> list[EnvVar]:
    ours = bool(_server(launch.containers[position]).framework)
    variables = {
        # By itself our server would have a worker for each processor of the machine.
        **({contract.ENV_WORKERS: "1"} if ours else {}),
        **environment,
        **({contract.ENV_PORTS: "true"} if ours else {}),
        contract.ENV_BIND_TO_PORT: str(ports.port(position)),
        contract.ENV_SAFE_PORT_RANGE: ports.safe_range(position, alone=len(launch.containers) == 1),
    }
    for key, value in variables.items():
        if not key or "=" in key or "\0" in key + value:
            raise NotStarted(position, f"the environment variable {key!r} cannot be set")
    return [EnvVar(name=key, value=_literal(value)) for key, value in variables.items()]


def _literal(value: str) -> str:
    """Return a value of which Kubernetes expands nothing: $(NAME) would be another variable's value."""
    return value.replace("$", "$$")


def _server(container: ContainerLaunch) -> Server:
    assert container.server is not None
    return container.server


# --- the pod ------------------------------------------------------------------------------------------------------


def _aliases(names: Sequence[str], isolated: bool, cell: Cell) -> list[HostAlias]:
    aliases = [HostAlias(ip="127.0.0.1", hostnames=[*dict.fromkeys(names)])] if names else []
    if isolated and cell.control_ip:
        host = cell.control.partition(":")[2].rpartition(":")[0]
        aliases.append(HostAlias(ip=cell.control_ip, hostnames=[host]))
    return aliases


def _spread(spread: str, cell: Cell) -> list[TopologySpreadConstraint]:
    unsatisfiable = "DoNotSchedule" if cell.settings.kubernetes.spread == "hard" else "ScheduleAnyway"
    return [
        TopologySpreadConstraint(
            maxSkew=1,
            topologyKey=key,
            whenUnsatisfiable=unsatisfiable,
            labelSelector=LabelSelector(matchLabels={HOUSE: cell.house, SPREAD: spread}),
        )
        for key in (ZONE, "kubernetes.io/hostname")
    ]


def _not_on(machines: tuple[str, ...]) -> Affinity:
    """Keep a pod from these nodes: Kubernetes puts pods on a lost one for 40 s, and spread makes that the first."""
    nodes = [machine.partition("/")[0] for machine in machines]
    others = [NodeSelectorRequirement(key="metadata.name", operator="NotIn", values=[node]) for node in nodes]
    term = NodeSelectorTerm(matchFields=others)
    required = NodeSelector(nodeSelectorTerms=[term])
    return Affinity(nodeAffinity=NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=required))


def _tolerations(size: PodSize) -> list[Toleration]:
    of_lost_nodes = [
        Toleration(
            key=f"node.kubernetes.io/{state}", operator="Exists", effect="NoExecute", tolerationSeconds=_GONE_AFTER
        )
        for state in ("unreachable", "not-ready")
    ]
    return of_lost_nodes + [
        Toleration(
            key=each.key or None,
            operator=each.operator,
            value=each.value or None,
            effect=each.effect or None,
            tolerationSeconds=each.seconds,
        )
        for each in size.tolerations
    ]


def _volumes(launch: InstanceLaunch, cell: Cell) -> list[Volume]:
    # Copies for users' containers lie beside the cache. A pod that has more on its disk is evicted.
    room = 2 * cell.settings.disk_budget + _GIB
    own = [position for position, each in enumerate(launch.containers) if _server(each).framework]
    table = cell.settings.kubernetes
    authority = ConfigMapProjection(name=table.link_ca, items=[KeyToPath(key="ca.crt", path="ca.crt")])
    return [
        Volume(name="room", emptyDir=EmptyDirVolumeSource(sizeLimit=str(room))),
        *(
            Volume(name=f"tmp-{part}", emptyDir=EmptyDirVolumeSource(sizeLimit=_TMP))
            for part in (AGENT, *map(str, own))
        ),
        Volume(
            name="token",
            projected=ProjectedVolumeSource(sources=[_token(table), VolumeProjection(configMap=authority)]),
        ),
    ]


def _token(table: Kubernetes) -> VolumeProjection:
    """Return where the agent's token comes from: a Secret, or by default Kubernetes, which makes one for the pod."""
    if table.link_token_secret:
        items = [KeyToPath(key="token", path="token")]
        return VolumeProjection(secret=SecretProjection(name=table.link_token_secret, items=items))
    token = ServiceAccountTokenProjection(path="token", audience=AUDIENCE, expirationSeconds=3600)
    return VolumeProjection(serviceAccountToken=token)
