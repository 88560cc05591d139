"""The operations of CloudWatch Logs that are hosted, over the containers' output (§8.7).

Files are read in a thread of their own, one request after another, so that a long search holds up nobody else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from hostler import names
from hostler.control import page_tokens
from hostler.control.context import Context, Function
from hostler.control.logs import pages, tokens
from hostler.control.logs.errors import (
    InvalidParameterException,
    ResourceNotFoundException,
    ServiceUnavailableException,
)
from hostler.control.logs.pages import Place, Range
from hostler.engines.log_files import Group, LogFiles
from hostler.engines.log_stream import Event, LogStream
from hostler.store.records import Document

T = TypeVar("T")

_DESCRIBED = 50  # groups or streams of a page
_DESCENDING_SINCE = 1_704_067_200_000  # 2024: events before that AWS returns in ascending order alone
_ARN = re.compile(r"arn:[^:]+:logs:(?P<region>[^:]*):(?P<account>\d*):log-group:(?P<name>[^:]+)")

_thread = ThreadPoolExecutor(1, "logs")


async def _in_thread(function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_thread, function)


# --- groups -----------------------------------------------------------------------------------------------------------


async def describe_log_groups(context: Context, region: str, request: Document) -> Document:
    if "logGroupNamePrefix" in request and "logGroupNamePattern" in request:
        raise InvalidParameterException(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
        )
    if "logGroupIdentifiers" in request and request.keys() & {"logGroupNamePrefix", "logGroupNamePattern"}:
        raise InvalidParameterException("logGroupIdentifiers excludes a prefix and a pattern of names.")
    return await _in_thread(partial(_describe_groups, context.logs, region, request))


def _describe_groups(logs: LogFiles, region: str, request: Document) -> Document:
    groups = {group.name: group for group in logs.groups() if group.region == region}
    prefix, pattern = request.get("logGroupNamePrefix", ""), request.get("logGroupNamePattern", "")
    named = [_name_of(region, identifier) for identifier in request.get("logGroupIdentifiers", ())]
    fits = [
        (0, name) for name in groups if name.startswith(prefix) and pattern in name and (not named or name in named)
    ]
    accounts = request.get("accountIdentifiers", [names.ACCOUNT])
    elsewhere = request.get("includeLinkedAccounts") and names.ACCOUNT not in accounts
    if elsewhere or request.get("logGroupClass", "STANDARD") != "STANDARD":
        fits = []
    page, token = _page_of(fits, ["groups", region], request)
    return {"logGroups": [_group_document(groups[name], brief=bool(pattern)) for name in page], **token}


def _group_document(group: Group, *, brief: bool) -> Document:
    document = {"logGroupName": group.name, "creationTime": group.created, "arn": f"{group.arn}:*"}
    if brief:  # as AWS answers a request with logGroupNamePattern
        return document
    return document | {
        "metricFilterCount": 0, "storedBytes": group.size(), "logGroupClass": "STANDARD", "logGroupArn": group.arn,
    }  # fmt: skip


async def delete_log_group(context: Context, region: str, request: Document) -> None:
    group, _ = await _look(context, region, request)
    try:
        await _in_thread(partial(context.logs.delete, region, group.endpoint))
    except OSError as error:
        raise ServiceUnavailableException(f"The log group cannot be deleted: {error.strerror}.") from None


async def _look(context: Context, region: str, request: Document) -> tuple[Group, int]:
    """Return the group that a request names, with what its containers have written until now, and the time of now.

    Raises ApiError.
    """
    if ("logGroupName" in request) == ("logGroupIdentifier" in request):
        raise InvalidParameterException("Exactly one of logGroupName and logGroupIdentifier must be specified.")
    name = request.get("logGroupName") or _name_of(region, request["logGroupIdentifier"])
    if not name.startswith(names.LOG_GROUPS):
        raise ResourceNotFoundException("group")
    endpoint = name.removeprefix(names.LOG_GROUPS)
    seen = context.logs.note_group(region, endpoint)
    group = await _in_thread(partial(context.logs.group, region, endpoint))
    if group is None:
        raise ResourceNotFoundException("group")
    return group, seen


def _name_of(region: str, identifier: str) -> str:
    """Return the name of the group that an identifier, a name or an ARN, means. Raises ResourceNotFoundException."""
    if not identifier.startswith("arn:"):
        return identifier
    match = _ARN.fullmatch(identifier)
    if match is None or (match["region"], match["account"]) != (region, names.ACCOUNT):
        raise ResourceNotFoundException("group")
    return match["name"]


# --- streams ----------------------------------------------------------------------------------------------------------


async def describe_log_streams(context: Context, region: str, request: Document) -> Document:
    if request.get("orderBy") == "LastEventTime" and "logStreamNamePrefix" in request:
        raise InvalidParameterException("Cannot order by LastEventTime with a logStreamNamePrefix.")
    group, _ = await _look(context, region, request)
    return await _in_thread(partial(_describe_streams, group, request))


def _describe_streams(group: Group, request: Document) -> Document:
    by_time = request.get("orderBy") == "LastEventTime"
    prefix = request.get("logStreamNamePrefix", "")
    fits = [
        (_last_time(stream) if by_time else 0, name)
        for name, stream in group.streams.items()
        if name.startswith(prefix)
    ]
    page, token = _page_of(fits, ["streams", group.region, group.name, by_time], request)
    return {"logStreams": [_stream_document(group, name) for name in page], **token}


def _last_time(stream: LogStream) -> int:
    return next((event.time for event in stream.backwards(2**63)), 0)


def _stream_document(group: Group, name: str) -> Document:
    stream = group.streams[name]
    arn = f"{group.arn}:log-stream:{name}"
    span = stream.span()
    document: Document = {
        "logStreamName": name, "creationTime": span.created if span else group.created, "arn": arn, "storedBytes": 0,
    }  # fmt: skip
    if (first := next(stream.events(0), None)) is not None:
        last = _last_time(stream)
        document |= {"firstEventTimestamp": first.time, "lastEventTimestamp": last, "lastIngestionTime": last}
    return document


def _page_of(fits: list[tuple[int, str]], question: list[Any], request: Document) -> tuple[list[str], Document]:
    """Return a page of names, in the order of these pairs, and if more follow, the token of the next page."""
    descending, limit = request.get("descending", False), request.get("limit", _DESCRIBED)
    if "nextToken" in request:
        last = tuple(tokens.read(request["nextToken"], question, int, str))
        fits = [pair for pair in fits if (pair < last if descending else pair > last)]
    page = sorted(fits, reverse=descending)[:limit]
    token = {"nextToken": page_tokens.write(question, *page[-1])} if len(fits) > limit else {}
    return [name for _, name in page], token


# --- events -----------------------------------------------------------------------------------------------------------


async def get_log_events(context: Context, region: str, request: Document) -> Document:
    group, _ = await _look(context, region, request)
    if (stream := group.streams.get(request["logStreamName"])) is None:
        raise ResourceNotFoundException("stream")
    return await _in_thread(partial(_get_events, group, stream, request))


def _get_events(group: Group, stream: LogStream, request: Document) -> Document:
    key = [group.region, group.name, request["logStreamName"]]
    limit = request.get("limit", pages.EVENTS_MAX)
    times = Range(request.get("startTime"), request.get("endTime"))
    ahead, position = request.get("startFromHead", False), None
    if "nextToken" in request:
        ahead, position = tokens.read_stream(request["nextToken"], key)
    if ahead:
        events = pages.forward(stream, position or 0, limit, times)
    else:
        events = pages.backward(stream, position, limit, times)
    if events:
        first, last = events[0].position, events[-1].end
    else:
        first = last = times.positions(stream)[int(not ahead)] if position is None else position
    return {
        "events": [
            {"timestamp": event.time, "message": event.message.decode(errors="replace"), "ingestionTime": event.time}
            for event in events
        ],
        "nextForwardToken": tokens.write_forward(key, last),
        "nextBackwardToken": tokens.write_backward(key, first),
    }


async def filter_log_events(context: Context, region: str, request: Document) -> Document:
    from hostler.control.logs import filter_pattern  # at the first call: it compiles patterns

    if "logStreamNames" in request and "logStreamNamePrefix" in request:
        raise InvalidParameterException("logStreamNames and logStreamNamePrefix are mutually exclusive parameters.")
    if request.get("startFromHead") is False and request.get("startTime", 0) < _DESCENDING_SINCE:
        raise InvalidParameterException("startFromHead can be false only with a startTime on or after 2024-01-01.")
    try:
        matches = filter_pattern.compile(request.get("filterPattern", ""))
    except filter_pattern.InvalidPattern as error:
        raise InvalidParameterException(str(error)) from None
    group, seen = await _look(context, region, request)
    if not group.streams.keys() >= {*request.get("logStreamNames", ())}:
        raise ResourceNotFoundException("stream")
    return await _in_thread(partial(_filter_events, group, seen, request, matches))


def _filter_events(group: Group, seen: int, request: Document, matches: Callable[[str], bool]) -> Document:
    # 1. The place to go on from; its token alone says in which direction.
    question = [group.region, group.name]
    backwards, after = request.get("startFromHead") is False, None
    if "nextToken" in request:
        backwards, *place = tokens.read(request["nextToken"], question, bool, int, str, int)
        after = Place(*place)
    # 2. The streams, and the range of time: AWS includes endTime here.
    wanted, prefix = request.get("logStreamNames"), request.get("logStreamNamePrefix", "")
    streams = {
        name: stream
        for name, stream in group.streams.items()
        if name.startswith(prefix) and (wanted is None or name in wanted)
    }
    until = request.get("endTime")
    times = Range(request.get("startTime"), None if until is None else until + 1, seen)
    # 3. The page. After its last event comes a token, even if nothing follows yet: the SDKs that follow a log need it.
    found = pages.merged(streams, after, request.get("limit", pages.EVENTS_MAX), times, matches, backwards=backwards)
    document: Document = {
        "events": [
            {
                "logStreamName": name, "timestamp": event.time, "message": message, "ingestionTime": event.time,
                "eventId": _event_id(group, name, event),
            }
            for name, event, message in found.events
        ],
        "searchedLogStreams": [],
    }  # fmt: skip
    if found.last is not None:
        document["nextToken"] = page_tokens.write(question, backwards, *found.last)
    return document


def _event_id(group: Group, stream: str, event: Event) -> str:
    """Return the event's id: as on AWS 56 digits that grow with time."""
    number = tokens.number([group.region, group.name, stream])
    return f"{(event.time << 128) + (number << 64) + event.position:056d}"


OPERATIONS: dict[str, Function] = {
    "DeleteLogGroup": delete_log_group,
    "DescribeLogGroups": describe_log_groups,
    "DescribeLogStreams": describe_log_streams,
    "FilterLogEvents": filter_log_events,
    "GetLogEvents": get_log_events,
}
