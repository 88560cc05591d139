"""An image whose one program is for another processor."""

from __future__ import annotations

import hashlib
import json
import platform
import struct

import docker_rig
import packing


def image() -> str:
    """Load an image whose one program is for a processor that this machine has not; return its tag."""
    number, machine = (183, "arm64") if struct.calcsize("P") == 8 and _is_x86() else (62, "amd64")
    head = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8)
    head += struct.pack("<HHIQQQIHHHHHH", 2, number, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    layer = packing.tar({"serve": head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120, 120, 0x1000)})
    config = {
        "architecture": machine, "os": "linux", "config": {"Entrypoint": ["/serve"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }  # fmt: skip
    tag = "hostler-test/other-machine:1"
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    files = {
        "layer.tar": layer,
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    docker_rig.docker("load", stdin=packing.tar(files))
    return tag


def _is_x86() -> bool:
    return platform.machine() == "x86_64"
