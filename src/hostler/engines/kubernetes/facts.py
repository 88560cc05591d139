"""What Kubernetes says of an instance's pod, as a report. Nothing here does IO.

Sources: the API of Kubernetes 1.30, "Pod v1 core", and the reasons that kubelet, scheduler and controllers write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from hostler import contract, names
from hostler.core.endpoints.failure_facts import Lack
from hostler.engines import ports, references
from hostler.engines.engine import ContainerReport, InstanceReport
from hostler.engines.exits import exit_code
from hostler.engines.kubernetes import pods
from hostler.engines.kubernetes.answers import Condition, ContainerStatus, Event, Pod, Waiting
from hostler.engines.kubernetes.pods import Note
from hostler.engines.pull_causes import Cause, cause
from hostler.text import one_line

KIND = "kubernetes"  # ContainerReport.engine

_TRIES = 3  # failed pulls after which an image counts as missing
_QUOTED = 400  # characters of what Kubernetes says
_NOWHERE = "ended.invalid"  # the host of a pod that has no address any more
_KILLED = -9

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable")
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_NOT_CREATED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError")
_LASTING = frozenset({Cause.NO_IMAGE, Cause.NO_ACCESS, Cause.PLATFORM})  # of a failed pull: not that of a network
_PREPARING = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedCreatePodContainer")  # of events
_NODE_LOST = ("NodeLost", "DeletionByTaintManager")
_ADVICE_OF_ACCESS = (
    "Where the registry asks for a login, image_pull_secrets of [kubernetes] names a Secret with it; [registries] can"
    " name another registry for it."
)
_NO_SERVE = re.compile(r'"serve".*(?:executable file not found|no such file or directory)', re.IGNORECASE)


class Trouble(NamedTuple):
    """Why an instance is not there yet, or why its agent is not. `hopeless`: it will not pass by itself.

    `lack`: see InstanceReport.
    """

    text: str = ""
    hopeless: bool = False
    lack: Lack = ""


def note(pod: Pod) -> Note | None:
    """Return what is known of a pod's launch; None for one that no hostler created.

    Whoever may create pods may write any annotation: names become paths here, and for each container there is a report.
    """
    try:
        found = msgspec.json.decode((pod.metadata.annotations or {}).get(pods.LAUNCH, ""), type=Note)
        for name in (found.id, *(each.log for each in found.containers)):
            names.check_relative(name)
    except (msgspec.DecodeError, names.UnsafeName):
        return None
    house = pod.labels.get(pods.HOUSE, "")
    fits = pod.metadata.name == pods.name(house, found.id) and 0 < len(found.containers) <= contract.MOST_CONTAINERS
    return found if fits else None


def report(pod: Pod, note: Note, warnings: Sequence[Event] = (), zone: str = "") -> InstanceReport:
    """Return the report of an instance. `warnings`: the events of its pod of type Warning. `zone`: its node's."""
    statuses = {status.name: status for status in pod.status.container_statuses or ()}
    containers = tuple(_container(pod, note, n, statuses.get(pods.container(n))) for n in range(len(note.containers)))
    if all(each.address for each in containers):  # it serves, whatever its agent does: that is said alone
        trouble = _agents_trouble(pod, warnings)._replace(hopeless=False)
    else:
        trouble = _trouble(pod, note, statuses, warnings)
    return InstanceReport(
        note.id, note.labels, containers, trouble.text, trouble.hopeless,
        lack=trouble.lack,
        leaving=is_leaving(pod),
        lost=is_lost(pod),
        machine=machine(pod, zone),
        beat=f"tcp:{ip}:{contract.AGENT_PORT}" if (ip := address(pod)) else "",
    )  # fmt: skip


def address(pod: Pod) -> str:
    """Return the pod's address in the network; empty: it has none yet."""
    return pod.status.pod_ip


def machine(pod: Pod, zone: str) -> str:
    """Return the node with its zone, which the pod says, or `zone`; empty: none yet."""
    node, zone = pod.spec.node_name, pod.labels.get(pods.ZONE, zone)
    return f"{node}/{zone}" if node and zone else node


def is_leaving(pod: Pod) -> bool:
    """Return whether somebody ends it: it was deleted, or is to be evicted."""
    return pod.metadata.deletion_timestamp is not None or any(
        each.type == "DisruptionTarget" for each in pod.true_conditions
    )


def is_lost(pod: Pod) -> bool:
    """Return whether Kubernetes hears nothing of its node."""
    return any(reason in _NODE_LOST for reason in (pod.status.reason, *(each.reason for each in pod.true_conditions)))


def has_ended(pod: Pod) -> bool:
    """Return whether none of its containers will run any more."""
    return pod.status.phase in ("Failed", "Succeeded")


def end(pod: Pod) -> str:
    """Return why a pod ended, if Kubernetes or people ended it: a sentence. Empty: it ended by itself."""
    said = _sentence(pod.status.message)
    match pod.status.reason:
        case "":
            pass
        case "Evicted":
            return f"Its node evicted it: {said}"
        case "NodeLost":
            return "Its node is lost."
        case reason:
            return f"Its node did not let it run ({reason}): {said}" if said else f"Its node ended it ({reason})."
    for each in pod.true_conditions:
        if each.type == "DisruptionTarget":
            return f"Kubernetes ended it ({each.reason}): {_sentence(each.message)}"
    return ""


# --- containers ---------------------------------------------------------------------------------------------------


def _container(pod: Pod, note: Note, position: int, status: ContainerStatus | None) -> ContainerReport:
    host = address(pod) or _NOWHERE
    running = ContainerReport(
        f"tcp:{host}:{ports.port(position)}",
        bool(note.containers[position].framework),
        engine=KIND,
        image=_image(note.containers[position].reference, status.image_id if status else ""),
    )
    state = status.state if status else None
    if state and state.terminated:
        code, reason = state.terminated.exit_code, state.terminated.reason
        why = end(pod)
        if not why and reason in ("StartError", "ContainerCannotRun"):
            why = _not_started(state.terminated.message)
        return msgspec.structs.replace(
            running, exit=exit_code(code), oom=reason == "OOMKilled" and code != 0, cause=why
        )
    if has_ended(pod):  # a node that refused it, or that is lost, says nothing of containers
        why = end(pod) or "Its pod has ended, and nothing says how."
        return msgspec.structs.replace(running, exit=_KILLED, cause=why)
    if state and state.running and address(pod):
        return running
    return ContainerReport()


def _image(reference: str, id: str) -> str:
    """Return an image's name with its digest, if the node says that of the reference's repository."""
    return references.with_digest(reference, [id.rpartition("://")[2]]) or reference


def _not_started(message: str) -> str:
    if _NO_SERVE.search(message):
        return (
            "The container could not be started: its image has no program serve, or not the interpreter that its first"
            " line names. SageMaker, and so hostler, starts an image with the one argument serve: it needs a program of"
            " that name on its PATH, or an ENTRYPOINT that takes the argument."
        )
    return f"The container could not be started: {_sentence(message)}"


# --- why it is not there yet --------------------------------------------------------------------------------------


def _trouble(pod: Pod, note: Note, statuses: dict[str, ContainerStatus], warnings: Sequence[Event]) -> Trouble:
    if has_ended(pod):
        return Trouble()
    if (refused := _condition(pod, "PodScheduled")) and refused.status == "False":
        text = f"no node of the cluster has room for it: {_sentence(refused.message or refused.reason)}"
        return Trouble(text, lack="capacity")
    if (trouble := _agents_trouble(pod, warnings)).text:
        return trouble
    for position, each in enumerate(note.containers):
        found = statuses.get(pods.container(position))
        if found and (trouble := _waiting(found, each.reference, warnings)).text:
            return trouble
    latest = [event for event in warnings if event.reason in _PREPARING]
    if latest:
        return Trouble(f"its node cannot prepare it: {_sentence(latest[-1].message)}")
    agents = pod.status.init_container_statuses or ()
    if not agents or any(status.state.running is None for status in agents):
        return Trouble()
    if not all(status.started for status in agents):
        return Trouble("hostler's agent in its pod has not reached control yet, or brings its artifacts")
    return Trouble("its node pulls the images, or starts the containers")


def _agents_trouble(pod: Pod, warnings: Sequence[Event]) -> Trouble:
    """Return what keeps the pod's agent from running; none if it is not known to be kept."""
    for status in pod.status.init_container_statuses or ():
        if (trouble := _waiting(status, status.image, warnings)).text:
            return trouble._replace(text=f"hostler's agent, which each pod has: {trouble.text}", lack="")
    return Trouble()


def _waiting(status: ContainerStatus, image: str, warnings: Iterable[Event]) -> Trouble:
    """Return what keeps a container from being started; none if it is not known to be kept."""
    waiting = status.state.waiting or Waiting()
    reason, message = waiting.reason, waiting.message
    if reason in _NEVER:
        return Trouble(f"The image {image} cannot be pulled ({reason}): {_sentence(message)}", True, "image")
    if reason in _NO_IMAGE:
        return _not_pulled(image, message, warnings)
    if reason in _NOT_CREATED:
        failed = sum(event.count or 1 for event in warnings if event.reason == "Failed")
        return Trouble(f"A container cannot be created ({reason}): {_sentence(message)}", failed >= _TRIES)
    if reason == "CrashLoopBackOff":
        return Trouble(f"It ends again and again{_last_end(status)}.")
    return Trouble()


def _not_pulled(image: str, message: str, warnings: Iterable[Event]) -> Trouble:
    """Return why an image was not pulled: by the last event that says so, else by the container's `message`."""
    pulls = [each for each in warnings if each.reason == "Failed" and image in each.message and "pull" in each.message]
    error = pulls[-1].message if pulls else message
    found, tries = cause(0, error), sum(event.count or 1 for event in pulls)
    advice = f" {_ADVICE_OF_ACCESS}" if found in (Cause.NO_ACCESS, Cause.NO_IMAGE) else ""
    text = f"The image {image} was not pulled. Its node said: {_sentence(error)}{advice}"
    return Trouble(text, found in _LASTING and tries >= _TRIES, "image")


def _last_end(status: ContainerStatus) -> str:
    """Return how a container ended the last time. Not kubelet's pause, which grows: a new text counts as progress."""
    if (last := status.last_state.terminated) is None:
        return ""
    return f", the last time with exit code {last.exit_code}{f' ({last.reason})' if last.reason else ''}"


def _condition(pod: Pod, type: str) -> Condition | None:
    return next((each for each in pod.status.conditions or () if each.type == type), None)


def _sentence(text: str) -> str:
    """Return what Kubernetes said as one line that ends like a sentence."""
    line = one_line(text, _QUOTED)
    return line if line.endswith((".", "…")) else f"{line}."
