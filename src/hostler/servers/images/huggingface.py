"""AWS's Hugging Face images: aws/sagemaker-huggingface-inference-toolkit, on Multi Model Server.

Their version is that of transformers: `2.3.0-transformers4.48.0-cpu-py311` is (4, 48, 0).
"""

from __future__ import annotations

import re

from hostler.servers.images.profile import Mode, Profile, version

REPOSITORIES = ("huggingface-pytorch-inference", "huggingface-tensorflow-inference")
NEWEST = (4, 51, 3)
_TRANSFORMERS = re.compile(r"transformers(\d[\d.]*)")


def profile(repository: str, tag: str) -> Profile:
    found = _TRANSFORMERS.search(tag)
    mode = Mode("huggingface", default_accept="application/json")
    return Profile(
        family="huggingface",
        version=version(found[1]) if found else NEWEST,
        framework="huggingface",
        single=mode,
        multi=mode,
        modules=("inference", "huggingface", "mms"),
    )
