"""Calls of targets before and after their object is uploaded, or replaced by a good one."""

from __future__ import annotations

from collections.abc import Callable

import targets
from botocore.exceptions import ClientError
from running import Hostler

BEFORE = ("nothing", "no archive", "no model")  # what is there before the upload
_BAD = {
    "no archive": lambda: b"no archive",
    "no model": lambda: targets.archive({"xgboost-model": b"{ this is no model }"}),
}


def refused_after_upload(
    hostler: Hostler, endpoint: str, put: Callable[[str, bytes], object], before: str, times: int
) -> list[str]:
    """Call a target, which is refused; upload a good one and call it at once, so often. Return the second refusals."""
    good, refused = targets.xgboost_target(5), []
    for number in range(times):
        target = f"{before.replace(' ', '-')}-{number}.tar.gz"
        if before in _BAD:
            put(target, _BAD[before]())
        for _ in range(2):
            try:
                hostler.invoke(endpoint, target)
            except ClientError:
                pass
            else:
                raise AssertionError(f"{target} is not there, and was not refused")
        put(target, good)
        try:
            assert targets.number(hostler.invoke(endpoint, target)) == 5
        except ClientError as error:
            refused.append(f"{target}: {error}")
    return refused
