"""AWS's host names: whose they are, and which bucket one of S3's holds. Pure; names are lower-case, without port."""

from __future__ import annotations

DOMAIN = "amazonaws.com"
ELSEWHERE = ("amazonaws.com.cn", "api.aws", "on.aws")  # AWS's, too, but hosted by nothing here


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
        if labels[index] == "s3" or labels[index].startswith("s3-"):
            return ".".join(labels[index:])
    return ""


def bucket(name: str) -> str:
    """Return the bucket that a name of S3's begins with; empty if it begins with none, or is another service's."""
    domain = s3_domain(name)
    return name.removesuffix(".").removesuffix(domain).removesuffix(".") if domain else ""
