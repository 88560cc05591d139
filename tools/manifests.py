"""Write deploy/manifests/hostler.yaml, the chart as plain manifests: `python tools/manifests.py`.

python tools/manifests.py --check    exit code 1 if the file is not what the chart gives
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HELM = ROOT / ".venv" / "cluster" / "helm"
CHART = ROOT / "deploy" / "helm" / "hostler"
MANIFESTS = ROOT / "deploy" / "manifests" / "hostler.yaml"

# Secrets are in no manifest: whoever applies it makes them.
VALUES = {"signatures": {"existingSecret": "hostler-keys"}, "links": {"existingSecret": "hostler-link"}}
_OF_HELM = re.compile(r"^( *(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*|# Source: .*|)\n", re.MULTILINE)

HEAD = """\
# hostler for a cluster, without helm: the chart deploy/helm/hostler with its defaults, by `python tools/manifests.py`.
#
# After `kubectl apply -f hostler.yaml` its pods wait for the keys of callers, and for the certificate of control:
#
#   echo "MYKEY = \\"$(openssl rand -hex 20)\\"" > keys.toml
#   kubectl -n hostler create secret generic hostler-keys --from-file=keys.toml
#   openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=hostler-link -keyout ca.key -out ca.crt
#   openssl req -newkey rsa:2048 -nodes -subj /CN=hostler-control -keyout tls.key -out tls.csr
#   echo subjectAltName=DNS:hostler-control.hostler.svc > names
#   openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile names -out tls.crt
#   kubectl -n hostler create secret generic hostler-link --from-file=ca.crt --from-file=tls.crt --from-file=tls.key
#   kubectl -n hostler-instances create configmap hostler-link-ca --from-file=ca.crt
---
apiVersion: v1
kind: Namespace
metadata:
  name: hostler
  labels:
    app.kubernetes.io/name: hostler
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/warn: restricted
"""


def rendered() -> str:
    """Return the manifests. Raises SystemExit if helm renders none."""
    words = [HELM, "template", "hostler", CHART, "--namespace", "hostler", "--skip-tests", "--values", "-"]
    done = subprocess.run(words, input=json.dumps(VALUES), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return HEAD + _OF_HELM.sub("", done.stdout)


def main(words: list[str]) -> int:
    text = rendered()
    if words != ["--check"]:
        MANIFESTS.parent.mkdir(exist_ok=True)
        MANIFESTS.write_text(text)
        return 0
    old = MANIFESTS.read_text() if MANIFESTS.exists() else ""
    diff = difflib.unified_diff(
        old.splitlines(), text.splitlines(), str(MANIFESTS.relative_to(ROOT)), "the chart", "", "", 1, ""
    )
    print("\n".join(diff) or "manifests: as the chart gives them")
    if old == text:
        return 0
    print("python tools/manifests.py writes it anew")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
