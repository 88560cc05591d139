"""The chart deploy/helm/hostler, rendered by helm: `render({"s3": {"endpoint": "aws"}})` returns its objects.

A certificate takes helm a third of a second to make, so a rendering is told that there is one, unless `links` is given.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
HELM = ROOT / ".venv" / "cluster" / "helm"
CHART = ROOT / "deploy" / "helm" / "hostler"

Values = Mapping[str, Any]


class Objects(list[dict[str, Any]]):
    """The objects of a rendering, in helm's order."""

    def one(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        """Return the object. `namespace`: only where two of its kind share the name."""
        [found] = (
            each
            for each in self
            if (each["kind"], each["metadata"]["name"]) == (kind, name)
            and (not namespace or each["metadata"]["namespace"] == namespace)
        )
        return found


def missing() -> str:
    """Return why helm cannot be used; empty if it can."""
    return "" if HELM.is_file() else "helm is not installed: make .venv/cluster/.installed"


def helm(*words: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm, with the values as a file of its standard input."""
    return subprocess.run(
        [str(HELM), *words, *(("--values", "-") if values is not None else ())],
        input=json.dumps(values), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def template(values: Values, release: str = "hostler", namespace: str = "hostler") -> subprocess.CompletedProcess[str]:
    """Render the chart."""
    links = {"links": {"existingSecret": "hostler-link"}}
    return helm("template", release, str(CHART), "--namespace", namespace, values={**links, **values})


def render(values: Values | None = None, release: str = "hostler", namespace: str = "hostler") -> Objects:
    """Return the chart's objects with these values beside the defaults."""
    rendered = template(values or {}, release, namespace)
    assert not rendered.returncode, rendered.stderr
    return Objects(each for each in yaml.safe_load_all(rendered.stdout) if each)
