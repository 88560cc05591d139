"""The environment variables that point this process's AWS clients at a hostler, for a while."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

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


class PointedAt:
    """Sets the variables, and no other of AWS's, within a `with`, which may be entered again and again, also in itself.

    boto3's default session remembers credentials and AWS's models. Within the block there is another one, which nobody
    gets afterwards but the next block.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._session: object = None
        self._outer: list[tuple[dict[str, str], object]] = []  # of each block: what it found

    def __enter__(self) -> None:
        outer = dict(os.environ)
        self._outer.append((outer, _default_session()))
        for name in outer:
            if name.startswith("AWS_") and name not in _KEPT:
                del os.environ[name]
        os.environ.update(self._values)
        _set_default_session(self._session)

    def __exit__(self, *_: object) -> None:
        variables, session = self._outer.pop()
        for name in [name for name in os.environ if self._is_changed(name)]:
            del os.environ[name]
        os.environ.update({name: value for name, value in variables.items() if self._is_changed(name)})
        self._session = _default_session()
        _set_default_session(session)

    def _is_changed(self, name: str) -> bool:
        return name.startswith("AWS_") or name in self._values


def _default_session() -> object:
    return getattr(sys.modules.get("boto3"), "DEFAULT_SESSION", None)


def _set_default_session(session: object) -> None:
    if boto3 := sys.modules.get("boto3"):
        boto3.DEFAULT_SESSION = session  # type: ignore[attr-defined]
