"""The files behind `hostler env --aws-hosts`: bundles, the proxy behind hostler's, records of what a shell had."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import click

from hostler.aws.hosts import is_aws
from hostler.cli import shell_variables
from hostler.cli.options import Failure
from hostler.cli.shell_variables import BUNDLES, NODE, RECORD, Record
from hostler.settings import Settings

_RECORDS = 64  # the newest that are kept: one for each shell whose variables differ
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_SYSTEMS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine
)


def variables(resolved: Settings, usual: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which a shell's programs reach hostler by AWS's host names, the usual ones included.

    Writes the files that they name. Raises UserError or Failure.
    """
    # 1. Is there a proxy, and would nothing be lost by it?
    if resolved.aws_hosts_port is None:
        raise Failure(f"no hostler runs in {resolved.data}; start one: hostler up")
    if not resolved.aws_hosts_port:
        raise Failure("the proxy's port was taken when this hostler started; set aws_hosts_port and start it again")
    if is_aws(urlsplit(resolved.s3_url).hostname or ""):
        raise Failure(
            "the setting s3_endpoint names AWS's own S3, which no program would reach by --aws-hosts; use hostler env"
        )
    from hostler.proxy import folder, upstream
    from hostler.proxy.authority import open_authority
    from hostler.proxy.certificates import utc_now

    # 2. What the shell was before an earlier call.
    record = _read_record(environ)
    shell = shell_variables.before({name: environ[name] for name in environ.keys() - _orphans(environ)}, record)
    own = f"http://127.0.0.1:{resolved.aws_hosts_port}"
    behind = shell_variables.behind(shell, own)
    if behind.url:
        upstream.parse(behind.url, behind.no_proxy)
    # 3. The files.
    authority = open_authority(resolved.data, utc_now()).pem
    with folder.locked(resolved.data) as where:
        upstream.keep(where, behind.url, behind.no_proxy)
        bundles = {name: str(_bundle(where, name, shell, authority)) for name in BUNDLES}
        host = urlsplit(usual["AWS_ENDPOINT_URL"]).hostname or ""
        proxies = shell_variables.proxy_variables(shell, own, [host] if host else [])
        chosen = {**usual, **proxies, **bundles}
        kept = _keep(where, shell_variables.recorded(shell, chosen, environ, record))
    return {**chosen, RECORD: str(kept)}


def undone(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return what the variables of this shell must be again; None: not set. Nothing if there is nothing to undo."""
    if not environ.get(RECORD):
        return {}
    orphans = _orphans(environ)
    if orphans:
        gone = f"{environ[RECORD]} is gone: the proxy's variables are unset, those of before are not known"
        click.echo(f"hostler: {gone}", err=True)
    return {**dict.fromkeys(orphans), **shell_variables.undo(environ, _read_record(environ)), RECORD: None}


def _orphans(environ: Mapping[str, str]) -> list[str]:
    """Return the variables that are ours by their values, in a shell whose record is gone."""
    if not environ.get(RECORD) or _read_record(environ):
        return []
    ours = (f"{Path(environ[RECORD]).parent}/", "http://127.0.0.1:")
    return [name for name in ("HTTPS_PROXY", "https_proxy", *BUNDLES) if environ.get(name, "").startswith(ours)]


def _read_record(environ: Mapping[str, str]) -> Record:
    """Return the record of this shell; empty if it has none, or it is gone."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        path = Path(environ.get(RECORD, ""))
        return {str(name): (was, str(ours)) for name, (was, ours) in json.loads(path.read_bytes()).items()}
    return {}


def _keep(where: Path, record: Record) -> Path:
    """Write a record under a name that its content gives it; remove the oldest of many."""
    from hostler.proxy import folder

    content = json.dumps(record, sort_keys=True).encode()
    path = where / f"shell-{sha256(content).hexdigest()[:16]}.json"
    folder.write(path, content)
    path.touch()
    records = sorted(where.glob("shell-*.json"), key=lambda each: each.stat().st_mtime_ns)
    for old in records[:-_RECORDS]:
        old.unlink()
    return path


def _bundle(where: Path, variable: str, shell: Mapping[str, str], authority: bytes) -> Path:
    """Write the bundle for a variable: what its readers trust now, and the authority. Raises OSError."""
    from hostler.proxy import folder

    base = shell_variables.base(shell, variable, str(where))
    content = b""
    if base:
        try:
            content = _read_bundle(Path(base))
        except OSError as error:
            click.echo(f"hostler: {base} ({variable}) cannot be read: {error.strerror}; the system's is used", err=True)
            base = ""
    if not base and variable != NODE:
        content = _systems()
    mark = sha256(base.encode()).hexdigest()[:12] if base else "node" if variable == NODE else "system"
    path = where / f"bundle-{mark}.pem"
    folder.write(path, b"".join([content, b"\n" if content and not content.endswith(b"\n") else b"", authority]))
    return path


def _read_bundle(path: Path) -> bytes:
    """Return a bundle's certificates; of a folder, those of its files. Raises OSError."""
    if not path.is_dir():
        return path.read_bytes()
    found: dict[bytes, None] = {}
    for file in sorted(path.iterdir()):
        with contextlib.suppress(OSError):
            for part in file.read_bytes().split(_BEGIN)[1:]:
                found[_BEGIN + part.partition(_END)[0] + _END + b"\n"] = None
    return b"".join(found)


def _systems() -> bytes:
    """Return the bundle of the system, else that which botocore brings along."""
    import ssl

    for path in (ssl.get_default_verify_paths().openssl_cafile, *_SYSTEMS):
        with contextlib.suppress(OSError):
            return Path(path).read_bytes()
    import botocore

    return (Path(botocore.__file__).parent / "cacert.pem").read_bytes()
