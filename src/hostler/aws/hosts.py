"""AWS's host names: whose they are, and which service, bucket and region they name. Pure.

But for `of_header`, names are lower-case, without port.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DOMAIN = "amazonaws.com"
ELSEWHERE = ("amazonaws.com.cn", "api.aws", "on.aws")  # AWS's, too, but hosted by nothing here
_NEIGHBOURS = ("s3-control", "s3-object-lambda", "s3-outposts")  # services of their own
_REGION = r"[a-z]{2}(?:-[a-z]+){1,2}-\d"
_NO_SERVICE = re.compile(rf"{_REGION}|dualstack|fips").fullmatch
_LOCAL = re.compile(r"(?:(?P<bucket>.+?)\.)??(?:s3\.)?localhost").fullmatch


def is_aws(name: str) -> bool:
    """Return whether a name is amazonaws.com or below it. One dot at its end is the DNS root's, and no other name."""
    return is_below(name.removesuffix("."), DOMAIN)


def is_below(name: str, domain: str) -> bool:
    """Return whether a name is this domain or below it."""
    return name == domain or name.endswith(f".{domain}")


def s3_domain(name: str) -> str:
    """Return the domain below which S3's buckets have their names: of `b.s3.REGION.amazonaws.com` without `b.`.

    Empty for a name of another service. Its label is `s3`, or begins with `s3-` (`s3-REGION`, `s3-accelerate`).
    """
    if not is_aws(name):
        return ""
    labels = name.removesuffix(".").split(".")
    for index in range(len(labels) - 3, -1, -1):  # from the right: a bucket's own name may hold such labels, too
        if labels[index] == "s3" or (labels[index].startswith("s3-") and labels[index] not in _NEIGHBOURS):
            return ".".join(labels[index:])
    return ""


def bucket(name: str) -> str:
    """Return the bucket that a name of S3's begins with; empty if it begins with none, or is another service's."""
    domain = s3_domain(name)
    return name.removesuffix(".").removesuffix(domain).removesuffix(".") if domain else ""


def service(name: str) -> str:
    """Return the service that one of AWS's names names, as requests are signed for it; empty for another name.

    It is the last label before the domain that is no region: of `runtime.sagemaker.us-east-1.amazonaws.com`, sagemaker.
    """
    if not is_aws(name):
        return ""
    if s3_domain(name):
        return "s3"
    labels = [label for label in name.removesuffix(".").removesuffix(DOMAIN).split(".") if label]
    services = [label for label in labels if not _NO_SERVICE(label)]
    return services[-1].removesuffix("-fips") if services else ""


def region(name: str) -> str:
    """Return the region that one of AWS's names names; empty if it names none."""
    if not is_aws(name):
        return ""
    return next((found[0] for label in reversed(name.split(".")) if (found := re.findall(rf"{_REGION}$", label))), "")


class Named(NamedTuple):
    service: str
    bucket: str
    region: str


def of_header(host: str) -> Named:
    """Return what a Host header names, in whatever letters and with its port; each part may be empty.

    `bucket.localhost:4566` and `bucket.s3.localhost:4566` name a bucket, too.
    """
    name = re.sub(r":\d*$", "", host.lower())
    match = _LOCAL(name)
    return Named("", match["bucket"] or "", "") if match else Named(service(name), bucket(name), region(name))
