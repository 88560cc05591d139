"""What an image of AWS does: a profile, by its family and version."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Family = Literal["xgboost", "sklearn", "pytorch", "huggingface", "script"]  # `script`: of no image
# Who calls a script's functions: sagemaker_inference, sagemaker_containers, or sagemaker_huggingface_inference_toolkit.
Toolkit = Literal["inference", "containers", "huggingface"]

_MODULES = Path(__file__).parent / "modules"
_PACKAGES = {  # the folder of `modules` that stands in for a package
    "sagemaker-containers": "containers",
    "sagemaker-inference": "inference",
    "sagemaker-pytorch-inference": "pytorch",
    "sagemaker-huggingface-inference-toolkit": "huggingface",
    "multi-model-server": "mms",
    "torchserve": "torchserve",
}
_VERSION = re.compile(r"(\d{1,4}(?:\.\d{1,4})*)(?:-(\d{1,4}))?(?![^-])")


@dataclass(frozen=True)
class Mode:
    """What an image does in one of its two modes, for one model or for many."""

    toolkit: Toolkit
    default_accept: str  # the answer's media type, for a call without Accept
    transform_fn: bool = True  # whether it calls a script's transform_fn; where not, it ignores it


@dataclass(frozen=True)
class Profile:
    """An image. `framework` loads its artifacts: xgboost | sklearn | torch, or auto for what the artifact shows."""

    family: Family
    version: tuple[int, ...]  # that of the tag: (1, 5, 1) of `1.5-1`, (2, 3, 0) of `2.3.0-cpu-py311`
    framework: str
    single: Mode
    multi: Mode
    modules: tuple[str, ...] = ()  # folders of images/modules: what a script can import, where it is not installed
    server_version: str = "1.1.11"  # what a script's context says: of the last Multi Model Server
    default_model: tuple[str, ...] = ()  # endings of the file that a script without model_fn is served with
    # Environment variables that the image sets. Values that begin with /opt/ml are paths of the contract.
    variables: Mapping[str, str] = field(default_factory=dict)

    def mode(self, multi_model: bool) -> Mode:
        return self.multi if multi_model else self.single

    def default_accept(self, multi_model: bool) -> str:
        return self.mode(multi_model).default_accept

    def toolkit(self, multi_model: bool) -> Toolkit:
        return self.mode(multi_model).toolkit

    def module_folders(self) -> list[Path]:
        """Return the folders of `modules`, for the end of a script's path: a package that is installed comes first."""
        return [_MODULES / name for name in self.modules]

    def stands_in_for(self, package: str) -> bool:
        """Whether a package's modules are among those of `modules`. `package`: its name in a requirements.txt."""
        return _PACKAGES.get(package.lower().replace("_", "-")) in self.modules


def version_among(tag: str, versions: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the version of a tag if an image has it, else the newest, the last."""
    number = version(tag)
    return number if number in versions else versions[-1]


def version(tag: str) -> tuple[int, ...]:
    """Return the version that a tag begins with, `-1` of `1.5-1` included; empty if it begins with none."""
    if not (match := _VERSION.match(tag)):
        return ()
    return tuple(int(number) for number in (*match[1].split("."), *([match[2]] if match[2] else [])))
