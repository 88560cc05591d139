"""`/_hostler/reset`: what there is, and its deletion, for test suites that begin anew. Off unless the setting is on.

It writes what is desired, as the operations do, and waits for the outcome. Objects of an S3 that the setting
s3_endpoint names are not hostler's, and stay.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable

import msgspec

from hostler import contract
from hostler.control.context import Context
from hostler.s3.buckets import Buckets, S3Error
from hostler.s3.multipart import Uploads
from hostler.store import clearing

_BUCKET = "arn:aws:s3:::"


class Request(msgspec.Struct, frozen=True):
    """The body of a POST: ARNs to keep."""

    keep: tuple[str, ...] = ()


async def contents(context: Context) -> list[str]:
    """Return the ARNs of all models, endpoint configs, endpoints and log groups, and of the embedded S3's buckets."""
    arns = await context.store_thread.call(clearing.arns, context.store)
    groups = await asyncio.to_thread(context.logs.groups)
    buckets = await asyncio.to_thread(_buckets, context)
    return [*arns, *(group.arn for group in groups), *(f"{_BUCKET}{bucket}" for bucket in buckets)]


async def reset(context: Context, keep: Collection[str]) -> list[str]:
    """Delete all of `contents` but `keep`, with its tags, objects and logs, and all faults on purpose.

    Metrics stay, as on AWS: gateways write those of the last second later. Return the ARNs of endpoints that are
    still there.

    1. The endpoints are marked for deletion; models and configs are deleted at once: no endpoint needs them any more.
    2. Their instances end, after the calls that are in flight there.
    3. The logs and the buckets go last: until then a container may write, or a target may be on its way.
    """
    async with context.resetting:
        context.faults.remove(None)
        buckets = [name for name in await asyncio.to_thread(_buckets, context) if f"{_BUCKET}{name}" not in keep]
        deleting = await context.store_thread.call(clearing.clear, context.store, keep, context.now())  # 1.
        context.lifecycle.wake()
        longest = context.settings.invoke_timeout + 2 * contract.STOP_GRACE
        await asyncio.gather(*(context.lifecycle.settled(uid, longest) for uid in deleting))  # 2.
        await asyncio.to_thread(_remove_logs, context, keep)  # 3.
        await asyncio.to_thread(_remove_buckets, context, buckets)
        present = await context.store_thread.call(clearing.arns, context.store)
        return [arn for arn in deleting.values() if arn in present]


def _remove_logs(context: Context, keep: Collection[str]) -> None:
    for group in context.logs.groups():
        if group.arn not in keep:
            context.logs.delete(group.region, group.endpoint)


def _buckets(context: Context) -> list[str]:
    if context.settings.s3_endpoint:
        return []
    return [bucket.name for bucket in Buckets(context.settings.data / "s3").list_buckets()]


def _remove_buckets(context: Context, names: Iterable[str]) -> None:
    buckets = Buckets(context.settings.data / "s3")
    uploads = Uploads(buckets)
    for name in names:
        for upload in uploads.in_progress(name, ""):
            uploads.abort(upload)
        with contextlib.suppress(S3Error):  # its owner has deleted it
            buckets.remove_bucket(name)
