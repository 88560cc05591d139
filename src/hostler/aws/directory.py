"""All of AWS's services, by what botocore's models say of themselves: for what is answered about those not hosted here.

Of each of the 440 models the first bytes are read, at the first question, in some 50 ms; a whole model only where
several services share a signing name, as SageMaker's do.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections import defaultdict
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from hostler.aws import service
from hostler.aws.classify import Call, Protocol

_HEAD = 4096  # bytes in which a model's metadata are
_MEMBERS = re.compile(r'"(\w+)"\s*:\s*"([^"\\]*)"')
_PROTOCOLS = {
    Protocol.JSON_1_0: "json",
    Protocol.JSON_1_1: "json",
    Protocol.QUERY: "query",
    Protocol.EC2: "ec2",
    Protocol.CBOR: "smithy-rpc-v2-cbor",
    Protocol.REST_JSON: "rest-json",
    Protocol.REST_XML: "rest-xml",
}

_REST = (Protocol.REST_JSON, Protocol.REST_XML)


class Entry(NamedTuple):
    """A service's model. `prefix`: of its X-Amz-Target."""

    folder: str
    full_name: str
    protocol: str
    prefix: str


def entry(call: Call, method: str, path: str) -> Entry | None:
    """Return the model of a call's service; None if there is none with its signing name, or with its X-Amz-Target."""
    protocol, prefix = _PROTOCOLS.get(call.protocol), call.operation.rpartition(".")[0]
    found = _directory().get(call.service) or [
        other for entries in _directory().values() for other in entries if prefix and other.prefix == prefix
    ]
    fitting = [other for other in found if other.protocol == protocol] or found
    if protocol == "json":
        fitting = [other for other in fitting if other.prefix == prefix] or fitting
    elif len(found) > 1 and call.protocol in _REST:
        fitting = [other for other in fitting if service.has_path(other.folder, method, path)] or found
    return min(fitting, key=lambda other: (other.folder != call.service, other.folder), default=None)


@functools.cache
def _directory() -> Mapping[str, list[Entry]]:
    """Return the services by signing name."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for folder in (resources.files("botocore") / "data").iterdir():
        if folder.is_dir():
            members = dict(reversed(_MEMBERS.findall(_head(folder))))
            name = members.get("signingName") or members.get("endpointPrefix", "")
            full_name, protocol = members.get("serviceFullName", folder.name), members.get("protocol", "")
            found[name].append(Entry(folder.name, full_name, protocol, members.get("targetPrefix", "")))
    return found


def _head(folder: Traversable) -> str:
    """Return the text in which a model's metadata are."""
    try:
        with service.model_file(folder).open("rb") as file:
            head: bytes = file.read(_HEAD)
    except (OSError, ValueError):  # a folder without a model
        return ""
    if head.startswith(b"\x1f\x8b"):
        head = zlib.decompressobj(31).decompress(head, _HEAD)
    return head.decode("utf-8", "replace")
