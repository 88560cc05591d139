"""What a machine lacks, decided from what was seen of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from hostler.cli.doctor.finding import Finding, Level
from hostler.cli.doctor.machine import Machine, ports
from hostler.settings import Settings
from hostler.text import size

_OLDEST_API = (1, 41)  # of Docker 20.10
_LITTLE = 2**30  # bytes of memory, or of disk, with which few models fit
_FEW_FILES = 4096
_ENV = 'eval "$(hostler env)"'


def find(machine: Machine, settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each subject."""
    yield Finding("ok", "python", machine.python)
    yield from _containers(machine, settings)
    yield _docker(machine, settings)
    yield from _ports(machine, settings)
    yield _disk(machine, settings)
    yield _memory(machine, settings)
    if settings.signatures == "verify":
        why = machine.why_no_keys
        yield Finding("error" if why else "ok", "signatures", why or "requests are verified with the keys of keys_file")
    if machine.open_files < _FEW_FILES:
        yield Finding(
            "warning", "open files", f"a process may have {machine.open_files:,}", "Allow more: ulimit -Hn 65536"
        )
    yield from _aws(machine.environment, machine.url)


def _containers(machine: Machine, settings: Settings) -> Iterator[Finding]:
    opt_ml, isolation = machine.allowed.opt_ml, machine.allowed.isolation
    helps = (
        "Let users make namespaces: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000, and on"
        " Ubuntu kernel.apparmor_restrict_unprivileged_userns=0"
    )
    if opt_ml:
        yield Finding("warning", "namespaces", f"scripts find no /opt/ml of their own: {opt_ml}", helps)
    elif isolation:
        yield Finding("warning", "namespaces", f"no container can be isolated from the network: {isolation}", helps)
    else:
        yield Finding("ok", "namespaces", "each container has its /opt/ml, and can be isolated from the network")
    if settings.bubblewrap == "off":
        yield Finding("ok", "bubblewrap", "it is not used: bubblewrap = off")
    elif not machine.bubblewrap or machine.why_no_bubblewrap:
        why = machine.why_no_bubblewrap and f": {machine.why_no_bubblewrap}"
        says = f"it does not work here{why}" if machine.bubblewrap else "it is not installed"
        helps = helps if machine.bubblewrap else "Install it (apt install bubblewrap, dnf install bubblewrap)"
        if settings.bubblewrap == "on":
            yield Finding("error", "bubblewrap", f"{says}, and bubblewrap = on needs it", helps)
        else:
            level: Level = "warning" if settings.images else "ok"
            yield Finding(level, "bubblewrap", f"{says}: commands of [images] run without it", helps)
    else:
        yield Finding("ok", "bubblewrap", "it works")


def _docker(machine: Machine, settings: Settings) -> Finding:
    if settings.engine in ("process", "kubernetes"):
        return Finding("ok", "docker", f"it is not used: engine = {settings.engine}")
    if machine.why_no_docker:
        if settings.engine == "docker":
            return Finding("error", "docker", machine.why_no_docker.rstrip("."))
        return Finding("warning", "docker", f"images cannot run. {machine.why_no_docker}".rstrip("."))
    version = f"{machine.docker}, API {'.'.join(map(str, machine.docker_api))}"
    if machine.docker_api < _OLDEST_API:
        return Finding("error", "docker", f"{version} is too old", "Install Docker 20.10 or newer")
    return Finding("ok", "docker", version)


def _ports(machine: Machine, settings: Settings) -> Iterator[Finding]:
    if machine.url:
        yield Finding("ok", "port", f"hostler runs on {machine.url}")
        return
    for host, port in ports(settings):
        if port not in machine.taken:
            yield Finding("ok", "port", f"{port} on {host} is free")
        elif port == settings.port:
            yield Finding(
                "error", "port", f"{port} on {host} is taken, or this machine has no such address",
                f"Choose another with --port, or see who has it: ss -ltnp sport = {port}",
            )  # fmt: skip
        else:
            yield Finding(
                "warning", "port", f"{port} on {host} is taken: there is no proxy for `hostler env --aws-hosts`",
                "Set aws_hosts_port to another port, or to 0 for a free one",
            )  # fmt: skip


def _disk(machine: Machine, settings: Settings) -> Finding:
    if machine.why_no_data:
        return Finding("error", "data folder", machine.why_no_data, "Choose another with --data")
    free = f"{settings.data}: {size(machine.disk_free)} are free"
    if machine.disk_free < min(settings.disk_budget, _LITTLE):
        return Finding("error", "data folder", free, "Make room, or choose another folder with --data")
    if machine.disk_free < settings.disk_budget:
        budget = f"artifacts may need {size(settings.disk_budget)} (disk_budget)"
        return Finding("warning", "data folder", f"{free}, and {budget}", "Make room, or set a smaller disk_budget")
    return Finding("ok", "data folder", free)


def _memory(machine: Machine, settings: Settings) -> Finding:
    share = int(machine.memory * settings.memory_fraction)
    says = f"{size(machine.memory)}, of which {size(machine.memory_free)} are free; instances may use {size(share)}"
    if share < _LITTLE:
        return Finding("warning", "memory", says, "Few models fit: take a machine, or a container, with more")
    if machine.memory_free < share / 2:
        return Finding("warning", "memory", says, "End other programs, or set a smaller memory_fraction")
    return Finding("ok", "memory", says)


def _aws(environment: Mapping[str, str], url: str) -> Iterator[Finding]:
    """Yield whether the AWS programs of this shell call hostler."""
    endpoint = environment.get("AWS_ENDPOINT_URL", "")
    if environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        yield Finding(
            "warning", "AWS", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true: programs of this shell call AWS", "Unset it"
        )
    for service in ("SAGEMAKER", "SAGEMAKER_RUNTIME"):
        name = f"AWS_ENDPOINT_URL_{service}"
        if (other := environment.get(name, "")) and not _same(other, endpoint):
            yield Finding("warning", "AWS", f"{name} is {_shown(other)}, whatever AWS_ENDPOINT_URL is", "Unset it")
    if not endpoint:
        level: Level = "warning" if url else "ok"
        yield Finding(level, "AWS", "AWS_ENDPOINT_URL is not set: programs of this shell call AWS", f"Set it: {_ENV}")
    elif url and not _same(endpoint, url):
        yield Finding("warning", "AWS", f"AWS_ENDPOINT_URL is {_shown(endpoint)}, not {url}", f"Set it: {_ENV}")
    else:
        yield Finding("ok", "AWS", f"programs of this shell call {_shown(endpoint)}")
    proxy = environment.get("http_proxy") or environment.get("HTTP_PROXY")
    host = _place(endpoint or url)[0] or "localhost"
    without = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(",")
    if proxy and not any(name.strip() in ("*", host) for name in without):
        yield Finding(
            "warning", "AWS", f"HTTP_PROXY is set: calls of {host} go to that proxy", f"Add {host} to NO_PROXY"
        )


def _same(address: str, other: str) -> bool:
    """Return whether two URLs are of the same port of this machine, or of the same name."""
    one, two = _place(address), _place(other)
    loopback = {"localhost", "127.0.0.1", "::1"}
    return one == two or (one[1] == two[1] and {one[0], two[0]} <= loopback)


def _place(address: str) -> tuple[str, int | None]:
    """Return host and port; of a text that is no URL, nothing."""
    try:
        url = urlsplit(address)
        return url.hostname or "", url.port
    except ValueError:
        return "", None


def _shown(address: str) -> str:
    """Return a URL without a user and a password in it."""
    return re.sub(r"//[^/]*@", "//", address)
