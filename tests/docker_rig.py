"""Images for tests on Docker, made without a registry: `image("flask")` builds tests/images/flask and returns its tag.

Every image stands on one base: Debian bookworm with Python, Java and nginx, made by debootstrap (as root) and kept as a
tar below ~/.cache/hostler-tests. HOSTLER_TEST_BASE, such as `debian:bookworm-slim`, names another Debian to begin with,
which Docker pulls, and into which it installs the same packages.

In the base `pip install` needs no network: its wheels, of the versions in requirements/images.txt, are in /wheels. A
tag is the hash of the image's content, so an image is built once. Run as a program, it builds the named images, or all.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
IMAGES = TESTS / "images"
CACHE = Path.home() / ".cache" / "hostler-tests"
LOCK = REPOSITORY / "requirements" / "images.txt"

SUITE = "bookworm"
PYTHON = (3, 11)  # the suite's; the wheels are of this version
PACKAGES = ("python3-pip", "python-is-python3", "libgomp1", "default-jre-headless", "nginx", "curl", "procps")
_LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
_PIP = "[global]\nno-index = true\nfind-links = /wheels\nbreak-system-packages = true\nroot-user-action = ignore\n"
_DOCKERFILE = """ARG BASE
FROM ${BASE}
COPY wheels /wheels
COPY pip.conf /etc/pip.conf
"""
# What an image has besides its own folder: files and folders of the repository, below their last name.
_SHARED = ["tests/containers", "src/hostler/__init__.py", "src/hostler/contract.py", "src/hostler/processes"]


def address() -> str:
    """Return the address of the machine's Docker."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def docker(*words: str, host: str = "", stdin: bytes | None = None) -> str:
    """Run the Docker client and return its output. Raises AssertionError with what it printed to stderr."""
    # The builder of old: it takes a base that is in no registry, and containers without a network.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(
        ["docker", "--host", host or address(), *words], input=stdin, capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, (
        f"docker {' '.join(words)}: {done.stderr.decode()[-4000:]}{done.stdout.decode()[-2000:]}"
    )
    return done.stdout.decode()


@functools.cache
def missing() -> str:
    """Return why images cannot be made or run here; empty if they can."""
    if not shutil.which("docker"):
        return "Docker's client is not installed"
    try:
        ask = ["docker", "--host", address(), "version", "--format", "{{.Server.Os}}"]
        asked = subprocess.run(ask, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return f"the Docker at {address()} does not answer"
    if asked.returncode:
        return f"no Docker answers at {address()}: {asked.stderr.strip()}"
    if sys.version_info[:2] != PYTHON:
        return f"the tests' images have Python {_dotted(PYTHON)}, for which this Python makes no wheels"
    if os.environ.get("HOSTLER_TEST_BASE") or _tar().exists() or _has(_debian_tag(), ""):
        return ""
    if os.geteuid() == 0 and shutil.which("debootstrap"):
        return ""
    return "the tests' images need a base: HOSTLER_TEST_BASE=debian:bookworm-slim, or debootstrap, and root once"


def image(name: str, host: str = "") -> str:
    """Build tests/images/{name}, if it has changed since it was built, and return its tag.

    Its Dockerfile begins with `ARG BASE` and `FROM ${BASE}`. `host`: another Docker than the machine's.
    """
    context = _context(IMAGES / name)
    parent = base(host)
    tag = f"hostler-test/{name}:{_digest(parent.encode(), context)}"
    if not _has(tag, host):
        with locked():
            if not _has(tag, host):
                _build(tag, context, parent, host)
    return tag


def base(host: str = "") -> str:
    """Make the base, if it is not there, and return its tag."""
    debian = os.environ.get("HOSTLER_TEST_BASE", "")
    tag = f"hostler-test/base:{_digest((debian or _debian_tag()).encode(), LOCK.read_bytes(), _PIP.encode())}"
    if not _has(tag, host):
        with locked():
            if not _has(tag, host):
                _make_base(tag, debian, host)
    return tag


def _make_base(tag: str, debian: str, host: str) -> None:
    parent = _pulled(debian, host) if debian else _debian(host)
    with tempfile.TemporaryDirectory() as folder:
        _make_wheels(Path(folder) / "wheels")
        (Path(folder) / "Dockerfile").write_text(_DOCKERFILE)
        (Path(folder) / "pip.conf").write_text(_PIP)
        _build(tag, _packed([(Path(folder), "")]), parent, host)


# --- Debian -----------------------------------------------------------------------------------------------------------


def _debian(host: str) -> str:
    """Import the tree of Debian, and make it first if there is none; return its tag."""
    tag = _debian_tag()
    if not _has(tag, host):
        if not _tar().exists():
            _bootstrap(_tar())
        docker("import", str(_tar()), tag, host=host)
    return tag


def _debian_tag() -> str:
    return f"hostler-test/debian:{_digest(SUITE.encode(), ' '.join(PACKAGES + _LEFT_OUT).encode())}"


def _tar() -> Path:
    return CACHE / f"{_debian_tag().replace('/', '-').replace(':', '-')}.tar"


def _bootstrap(tar: Path) -> None:
    """Make the tree of Debian, a minute's work, and pack it."""
    with tempfile.TemporaryDirectory(prefix="hostler-tests-", dir="/var/tmp") as folder:
        root, packed = Path(folder) / "root", Path(folder) / "root.tar"
        words = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
        made = subprocess.run(words, capture_output=True, text=True, check=False)
        assert made.returncode == 0, f"{' '.join(words)}: {made.stdout[-4000:]}{made.stderr[-2000:]}"
        left_out = [f"--exclude=./{path}/*" for path in _LEFT_OUT]
        subprocess.run(["tar", "-C", str(root), "--one-file-system", *left_out, "-cf", str(packed), "."], check=True)
        for old in CACHE.glob("*.tar"):
            old.unlink()
        shutil.move(packed, partial := tar.with_suffix(".partial"))
    partial.rename(tar)


def _pulled(debian: str, host: str) -> str:
    """Install the packages into an image of Debian that Docker has or pulls; return its tag."""
    tag = f"hostler-test/debian:{_digest(debian.encode(), ' '.join(PACKAGES).encode())}"
    if not _has(tag, host):
        install = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(PACKAGES)}"
        dockerfile = f"FROM {debian}\nRUN {install} && rm -rf /var/lib/apt/lists/*\n"
        docker("build", "--quiet", "--tag", tag, "-", host=host, stdin=dockerfile.encode())
    return tag


def _make_wheels(folder: Path) -> None:
    wheel = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    words = [*wheel, "--no-build-isolation", "--wheel-dir", str(folder), "--requirement", str(LOCK)]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"{' '.join(words)}: {made.stderr[-4000:]}"


# --- builds -----------------------------------------------------------------------------------------------------------


def _build(tag: str, context: bytes, parent: str, host: str) -> None:
    options = ["--quiet", "--force-rm", "--network", "none", "--build-arg", f"BASE={parent}", "--tag", tag]
    docker("build", *options, "-", host=host, stdin=context)


def _has(tag: str, host: str) -> bool:
    return bool(docker("images", "--quiet", tag, host=host).strip())


def _context(folder: Path) -> bytes:
    """Pack what an image is built of: its folder and, in `shared`, files of the repository that some images copy."""
    return _packed([(folder, "."), *((REPOSITORY / path, f"shared/{path}") for path in _shared(folder))])


def _shared(folder: Path) -> list[str]:
    return _SHARED if "shared/" in (folder / "Dockerfile").read_text() else []


def _packed(trees: list[tuple[Path, str]]) -> bytes:
    """Return a tar that depends on names, contents and modes alone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for tree, name in trees:
            for path in sorted(tree.rglob("*")) if tree.is_dir() else [tree]:
                if path.is_file() and path.suffix != ".pyc":
                    below = path.relative_to(tree).as_posix() if path != tree else ""
                    member = tarfile.TarInfo(os.path.normpath(f"{name}/{below}".lstrip("/")))
                    member.size, member.mode = path.stat().st_size, path.stat().st_mode & 0o755
                    with path.open("rb") as content:
                        tar.addfile(member, content)
    return packed.getvalue()


def _digest(*contents: bytes) -> str:
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:12]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let one process of this user at a time build."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    for each in sys.argv[1:] or sorted(folder.parent.name for folder in IMAGES.glob("*/Dockerfile")):
        print(image(each), flush=True)
