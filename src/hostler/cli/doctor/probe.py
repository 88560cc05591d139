"""Does the cluster enforce NetworkPolicies? An isolated pod, which may call control alone, tries to call another."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from hostler.cli.doctor.kubernetes_api import Api

if TYPE_CHECKING:
    from hostler.cli.doctor.cluster import Names

_PATIENCE = 90.0  # seconds for the pod to end
_LOOK = 0.5  # seconds between two looks
_REACHED = 7  # the exit code of a pod that got through

# The API server is called: it is there in each cluster. A policy may take some seconds to hold for a new pod.
_PROGRAM = f"""
import os, socket, sys, time
where = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
time.sleep(5)
try:
    socket.create_connection(where, 5).close()
except OSError as error:
    print("stopped:", error)
else:
    sys.exit({_REACHED})
"""


def run(api: Api, names: Names) -> str:
    """Return `enforced`, `open`, or why the probe said nothing. The pod is removed in any case."""
    pods = f"/api/v1/namespaces/{names.instances}/pods"
    pod = _pod(names, f"hostler-doctor-{secrets.token_hex(4)}")
    made = api.post(pods, pod)
    if not made.ok:
        return f"the probe's pod is refused: {made.message}"
    path = f"{pods}/{pod['metadata']['name']}"
    try:
        return _outcome(api, path)
    finally:
        api.delete(path)


def _outcome(api: Api, path: str) -> str:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        status = api.get(path).body.get("status", {})
        [state] = [each.get("state", {}) for each in status.get("containerStatuses", [])] or [{}]
        if ended := state.get("terminated"):
            code = ended.get("exitCode")
            return {0: "enforced", _REACHED: "open"}.get(code, f"the probe's pod ended with exit code {code}")
        time.sleep(_LOOK)
    return f"the probe's pod did not end within {_PATIENCE:g} s: {_why(status)}"


def _why(status: dict[str, Any]) -> str:
    waiting = [each["state"]["waiting"] for each in status.get("containerStatuses", []) if each["state"].get("waiting")]
    unmet = [each for each in status.get("conditions", []) if each.get("status") == "False"]
    return next((str(each["message"]) for each in (*waiting, *unmet) if each.get("message")), status.get("phase", "?"))


def _pod(names: Names, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"hostler.dev/isolated": "true"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "activeDeadlineSeconds": int(_PATIENCE),
            "imagePullSecrets": [{"name": secret} for secret in names.pull_secrets],
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": names.image,
                    "command": ["python", "-c", _PROGRAM],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
                }
            ],
        },
    }  # fmt: skip
