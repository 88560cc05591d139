"""The environment variables that point this process's AWS clients at a hostler, for a while."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping

KEY = "hostler"  # unless signatures are verified, any credentials do
_KEPT = ("AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE", "AWS_DATA_PATH")  # say how clients call, not whom


def variables(url: str, region: str) -> dict[str, str]:
    """Return the variables. The files of the user's home are not read: they may name endpoints, too."""
    direct = ",".join(filter(None, (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1")))
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


@contextlib.contextmanager
def pointed_at(values: Mapping[str, str]) -> Iterator[None]:
    """Set the variables, and no other of AWS's, within the block.

    boto3's default session remembers credentials: within the block there is another one, which nobody gets afterwards.
    """
    before = dict(os.environ)
    session = getattr(sys.modules.get("boto3"), "DEFAULT_SESSION", None)
    for name in before:
        if name.startswith("AWS_") and name not in _KEPT:
            del os.environ[name]
    os.environ.update(values)
    _set_session(None)
    try:
        yield
    finally:
        for name in {name for name in os.environ if name.startswith("AWS_")} | values.keys():
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if name.startswith("AWS_") or name in values})
        _set_session(session)


def _set_session(session: object) -> None:
    if boto3 := sys.modules.get("boto3"):
        boto3.DEFAULT_SESSION = session  # type: ignore[attr-defined]
