"""What `hostler env --aws-hosts` sets in a shell, and how that is undone. Pure: environments in, variables out.

A variable that the shell has already is merged, not lost: a record says what each was before and what it was set to.
So a second call in that shell begins from the same, and `--unset` restores what nobody has changed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hostler.aws.hosts import DOMAIN, ELSEWHERE, is_below

RECORD = "HOSTLER_UNSET"  # the variable that names the record's file
Record = Mapping[str, tuple[str | None, str]]  # by variable: what it was (None: not set), and what it was set to

_LOOPBACK = ("localhost", "127.0.0.1")
# By variable: those that its readers look at, the first that is set. Without any, Node adds nothing to its own
# authorities; the others have the system's.
BUNDLES = {
    "AWS_CA_BUNDLE": ("AWS_CA_BUNDLE",),
    "REQUESTS_CA_BUNDLE": ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "SSL_CERT_FILE": ("SSL_CERT_FILE",),
    "CURL_CA_BUNDLE": ("CURL_CA_BUNDLE", "SSL_CERT_FILE"),
    "NODE_EXTRA_CA_CERTS": ("NODE_EXTRA_CA_CERTS",),
}
NODE = "NODE_EXTRA_CA_CERTS"


@dataclass(frozen=True)
class Behind:
    """The proxy that a shell has, with the hosts that it passes by. Empty: none."""

    url: str
    no_proxy: str


def undo(environ: Mapping[str, str], record: Record) -> dict[str, str | None]:
    """Return what each variable that is still as it was set must be again; None: not set."""
    return {name: was for name, (was, ours) in record.items() if environ.get(name) == ours}


def before(environ: Mapping[str, str], record: Record) -> dict[str, str]:
    """Return the environment without what was set."""
    restored = {**environ, **undo(environ, record)}
    return {name: value for name, value in restored.items() if value is not None and name != RECORD}


def recorded(shell: Mapping[str, str], variables: Mapping[str, str], environ: Mapping[str, str], old: Record) -> Record:
    """Return the record of a shell (as it was before) that gets these variables; those of an old record stay in it."""
    kept = {name: old[name] for name in undo(environ, old)}
    return {**kept, **{name: (shell.get(name), value) for name, value in variables.items()}}


def behind(shell: Mapping[str, str], own: str) -> Behind:
    """Return the proxy of a shell, as most programs read it. `own`: the URL of hostler's, which is not the shell's."""
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    url = next((shell[name] for name in names if shell.get(name)), "")
    no_proxy = shell.get("no_proxy") or shell.get("NO_PROXY") or ""
    return Behind("", "") if not url or url.rstrip("/") == own else Behind(url, no_proxy)


def proxy_variables(shell: Mapping[str, str], own: str, hosts: Iterable[str]) -> dict[str, str]:
    """Return the variables of the proxy. Those in lower case that are set would win, so they are set, too.

    `hosts`: to which no proxy leads, besides this machine.
    """
    variables = {}
    for upper in ("HTTPS_PROXY", "NO_PROXY"):
        for name in (upper, upper.lower()):
            if name == upper or name in shell:
                current = shell.get(name) or shell.get(upper) or shell.get(upper.lower()) or ""
                variables[name] = own if upper == "HTTPS_PROXY" else no_proxy(current, hosts)
    return variables


def no_proxy(value: str, hosts: Iterable[str]) -> str:
    """Return a NO_PROXY that leads AWS's names to the proxy, and this machine's and `hosts` past it."""
    entries = [entry.strip() for entry in value.split(",")]
    kept = [entry for entry in entries if entry and not _names_aws(entry)]
    return ",".join([*kept, *(host for host in dict.fromkeys([*_LOOPBACK, *hosts]) if host not in kept)])


def _names_aws(entry: str) -> bool:
    """Return whether an entry of NO_PROXY may name a host of AWS's: some clients take it for the end of any text."""
    name = entry if entry.count(":") > 1 else entry.lower().partition(":")[0].lstrip("*.").rstrip(".")
    domains = (DOMAIN, *ELSEWHERE)
    return any(domain.endswith(name) or is_below(name, domain) for domain in domains)


def base(shell: Mapping[str, str], variable: str, folder: str) -> str:
    """Return the bundle of authorities that a variable's readers have now; empty for theirs by default.

    `folder`: where hostler keeps its own bundles, which are nobody's base.
    """
    found = next((shell[name] for name in BUNDLES[variable] if shell.get(name)), "")
    return "" if found.startswith(f"{folder}/") else found
