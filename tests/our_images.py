"""Our own images, of this checkout: `our_image("hostler-server")` builds it once per content, and returns its tag."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys

import docker_rig
from docker_rig import REPOSITORY

EXTRAS = "xgboost,sklearn,onnx"
_BUILD = REPOSITORY / "deploy" / "docker" / "build"


@functools.cache
def our_image(name: str) -> str:
    """Build `hostler-server` or `hostler`, if this checkout has changed since it was built, and return its tag.

    The image of this checkout's content before, and what is left of its build, is removed.
    """
    parent = docker_rig.base()
    tag = f"test-{_digest(parent)}"
    note = docker_rig.CACHE / f"{name}-{hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:12]}"
    if (not note.exists() or note.read_text() == tag) and _is_there(f"{name}:{tag}"):
        return f"{name}:{tag}"  # others that build are not waited for
    with docker_rig.locked():
        if not _is_there(f"{name}:{tag}"):
            variables = {"BASE": parent, "EXTRAS": EXTRAS, "IMAGES": name, "TAG": tag, "PYTHON": sys.executable}
            environment = {**os.environ, **variables, "DOCKER_HOST": docker_rig.address(), "DOCKER_BUILDKIT": "0"}
            made = subprocess.run([str(_BUILD)], env=environment, capture_output=True, text=True, check=False)
            assert made.returncode == 0, f"{_BUILD}: {made.stdout[-4000:]}{made.stderr[-4000:]}"
            if note.exists() and (before := note.read_text()) != tag:
                words = ["docker", "--host", docker_rig.address(), "rmi", f"{name}:{before}"]
                subprocess.run(words, capture_output=True, check=False)  # a container may still use it
            note.write_text(tag)
    return f"{name}:{tag}"


def _is_there(image: str) -> bool:
    return bool(docker_rig.docker("images", "--quiet", image).strip())


def _digest(parent: str) -> str:
    paths = ["pyproject.toml", "requirements/test.txt", "deploy/docker", "src/hostler"]
    digest = hashlib.sha256(f"{parent} {EXTRAS}".encode())
    for path in (REPOSITORY / name for name in paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(f"\0{file.relative_to(REPOSITORY)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    if reason := docker_rig.missing():
        sys.exit(reason)
    for each in sys.argv[1:] or ("hostler-server", "hostler"):
        print(our_image(each), flush=True)
