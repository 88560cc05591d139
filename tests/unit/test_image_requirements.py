"""The packages in our images are those that the code in them imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "deploy" / "docker"))

from requirements import requirements  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(lines: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", line)[0] for line in lines}


def test_the_servers_image_has_what_the_servers_import_and_nothing_of_controls() -> None:
    assert names(requirements(PROJECT, "hostler-server", ["xgboost"])) == {
        "httptools", "msgspec", "uvloop", "xgboost-cpu", "numpy",
    }  # fmt: skip
    ours = ROOT / "src" / "hostler"
    files = [
        *ours.glob("*.py"),
        *(file for part in ("servers", "processes", "wire") for file in (ours / part).rglob("*.py")),
    ]
    imported = {
        name.partition(".")[0]
        for file in files
        if "modules" not in file.parts  # these stand in for packages of AWS's images
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    frameworks = {"numpy", "xgboost", "sklearn", "scipy", "joblib", "torch", "onnxruntime", "lightgbm", "catboost",
                  "transformers", "PIL"}  # fmt: skip
    foreign = imported - frameworks - set(sys.stdlib_module_names) - {"hostler"}
    assert foreign - {"sagemaker_inference", "sagemaker_containers"} == {"httptools", "msgspec", "uvloop"}


def test_an_extra_that_is_none_is_said_in_one_line() -> None:
    program = [sys.executable, str(ROOT / "deploy" / "docker" / "requirements.py"), "hostler", "xgbost"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("there is no extra 'xgbost': choose from xgboost, sklearn, ")
    assert done.stderr.count("\n") == 1


def test_the_image_hostler_has_all_of_hostlers_and_of_the_extras_that_extras_name() -> None:
    have = names(requirements(PROJECT, "hostler", ["sklearn"]))
    assert {
        *names(PROJECT["dependencies"]),
        "boto3",
        "xgboost-cpu",
        "aiodocker",
        "cryptography",
        "scikit-learn",
    } <= have


def test_an_unknown_extra_is_named() -> None:
    with pytest.raises(KeyError, match="sklearm"):
        requirements(PROJECT, "hostler-server", ["sklearm"])


def test_every_example_publishes_hostlers_port_on_this_machine_alone() -> None:
    compose = (ROOT / "deploy" / "docker" / "compose.yaml").read_text()
    service = yaml.safe_load(compose)["services"]["hostler"]
    assert service["ports"] == ["127.0.0.1:4566:4566"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    for text in (compose, *(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])):
        for published in re.findall(r"(?:-p |--publish[ =]|ports: \[\")([\d.:]*4566)", text):
            assert published.startswith("127.0.0.1:") or f"`-p {published}` would publish" in text, published
