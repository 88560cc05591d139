"""CloudWatch Logs through boto3, over files that tests write as containers do."""

import itertools
import random

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

GROUP = "/aws/sagemaker/Endpoints/"
ARN = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/"


class Endpoint:
    """The logs of an endpoint of its own on the shared stage."""

    numbers = itertools.count(1)

    def __init__(self, stage, name=""):
        self.uid = f"e{next(self.numbers)}"
        self.name = name or f"endpoint-{self.uid}"
        self.group = GROUP + self.name
        self.logs = stage.context.logs
        self.logs.belongs(self.uid, f"us-east-1/{self.name}")
        self.client = stage.client("logs")

    def open(self, stream):
        return self.logs.open(f"{self.uid}/{stream}")

    def say(self, stream, text):
        with self.open(stream).open("ab") as file:
            file.write(text.encode() if isinstance(text, str) else text)

    def end(self, *streams):
        for stream in streams:
            self.logs.close(f"{self.uid}/{stream}")

    def filtered(self, **request):
        pages = self.client.get_paginator("filter_log_events").paginate(logGroupName=self.group, **request)
        return [event for page in pages for event in page["events"]]

    def messages(self, **request):
        return [event["message"] for event in self.filtered(**request)]


@pytest.fixture
def endpoint(shared_stage):
    return Endpoint(shared_stage)


def refusal(call, **request):
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**request)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def stripped(answer):
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


# --- groups and streams -----------------------------------------------------------------------------------------------


@pytest.mark.require("newest_botocore")  # an older one has no logGroupArn and no logGroupIdentifiers
def test_a_group_is_described_as_on_aws(endpoint):
    endpoint.say("AllTraffic/i-1", "said\n")
    (group,) = endpoint.client.describe_log_groups(logGroupNamePrefix=endpoint.group)["logGroups"]
    created = group.pop("creationTime")
    assert created > 1_700_000_000_000
    assert group == {
        "logGroupName": endpoint.group, "arn": ARN + f"{endpoint.name}:*", "logGroupArn": ARN + endpoint.name,
        "metricFilterCount": 0, "storedBytes": 0, "logGroupClass": "STANDARD",
    }  # fmt: skip
    endpoint.messages()  # it has been looked at
    (group,) = endpoint.client.describe_log_groups(logGroupNamePrefix=endpoint.group)["logGroups"]
    assert group["storedBytes"] == 5
    (brief,) = endpoint.client.describe_log_groups(logGroupNamePattern=endpoint.name)["logGroups"]
    assert brief == {"logGroupName": endpoint.group, "arn": ARN + f"{endpoint.name}:*", "creationTime": created}


def test_groups_are_listed_in_pages_by_prefix_pattern_and_identifier(shared_stage):
    for number in range(7):
        Endpoint(shared_stage, f"listed-{number}").say("v/i", "said\n")
    logs = shared_stage.client("logs")
    expected = [f"{GROUP}listed-{number}" for number in range(7)]

    def names(**request):
        pages = logs.get_paginator("describe_log_groups").paginate(**request)
        return [group["logGroupName"] for page in pages for group in page["logGroups"]]

    for size in (1, 3, 7, 50):
        assert names(logGroupNamePrefix=GROUP + "listed-", PaginationConfig={"PageSize": size}) == expected
    assert names(logGroupNamePattern="listed-3") == expected[3:4]
    assert names(logGroupNamePattern="LISTED") == []
    assert names(logGroupIdentifiers=[expected[1], ARN + "listed-2", GROUP + "none"]) == expected[1:3]
    assert names(logGroupNamePrefix="/aws/lambda") == []
    assert names(logGroupClass="INFREQUENT_ACCESS") == []
    assert names(includeLinkedAccounts=True, accountIdentifiers=["999999999999"]) == []
    assert shared_stage.client("logs", "eu-west-1").describe_log_groups()["logGroups"] == []


def test_streams_are_described_as_on_aws(endpoint):
    endpoint.say("AllTraffic/i-1/first", "one\ntwo\n")
    endpoint.open("AllTraffic/i-1/second")
    first, second = endpoint.client.describe_log_streams(logGroupName=endpoint.group)["logStreams"]
    events = endpoint.filtered()
    assert first.pop("creationTime") <= first["firstEventTimestamp"]
    assert first == {
        "logStreamName": "AllTraffic/i-1/first", "storedBytes": 0,
        "arn": ARN + f"{endpoint.name}:log-stream:AllTraffic/i-1/first",
        "firstEventTimestamp": events[0]["timestamp"], "lastEventTimestamp": events[1]["timestamp"],
        "lastIngestionTime": events[1]["ingestionTime"],
    }  # fmt: skip
    assert second.keys() == {"logStreamName", "storedBytes", "arn", "creationTime"}  # it has said nothing yet


def test_streams_are_listed_in_pages_by_name_or_by_their_last_event(endpoint):
    for name in ("b", "a", "d", "c", "other"):
        endpoint.say(f"v/{name}", "said\n")
        endpoint.messages()  # each has its own time

    def names(**request):
        pages = endpoint.client.get_paginator("describe_log_streams").paginate(logGroupName=endpoint.group, **request)
        return [stream["logStreamName"][2:] for page in pages for stream in page["logStreams"]]

    for config in ({"PageSize": 1}, {"PageSize": 2}, {}):
        assert names(PaginationConfig=config) == ["a", "b", "c", "d", "other"]
        assert names(descending=True, PaginationConfig=config) == ["other", "d", "c", "b", "a"]
        assert names(orderBy="LastEventTime", PaginationConfig=config) == ["b", "a", "d", "c", "other"]
        assert names(orderBy="LastEventTime", descending=True, PaginationConfig=config)[0] == "other"
    assert names(logStreamNamePrefix="v/o") == ["other"]
    assert names(logStreamNamePrefix="none") == []


def test_a_group_is_named_by_its_arn_too(endpoint):
    endpoint.say("v/i", "said\n")
    for identifier in (endpoint.group, ARN + endpoint.name):
        answer = endpoint.client.filter_log_events(logGroupIdentifier=identifier)
        assert [event["message"] for event in answer["events"]] == ["said"]
        answer = endpoint.client.get_log_events(logGroupIdentifier=identifier, logStreamName="v/i")
        assert [event["message"] for event in answer["events"]] == ["said"]
        assert endpoint.client.describe_log_streams(logGroupIdentifier=identifier)["logStreams"]


# --- events -----------------------------------------------------------------------------------------------------------


def test_an_event_has_its_times_and_an_id_that_stays(endpoint):
    endpoint.say("v/i", "Traceback (most recent call last):\n  File\n\nValueError: é\n")
    events = endpoint.filtered()
    assert [event["message"] for event in events] == [
        "Traceback (most recent call last):", "  File", "ValueError: é",
    ]  # fmt: skip
    for event in events:
        assert event["timestamp"] == event["ingestionTime"]
        assert event["logStreamName"] == "v/i"
        assert len(event["eventId"]) == 56
        assert event["eventId"].isdigit()
    assert sorted({event["eventId"] for event in events}) == [event["eventId"] for event in events]
    endpoint.say("v/i", "more\n")
    assert endpoint.filtered()[:3] == events
    got = endpoint.client.get_log_events(logGroupName=endpoint.group, logStreamName="v/i", limit=3, startFromHead=True)
    assert got["events"] == [
        {name: event[name] for name in ("timestamp", "message", "ingestionTime")} for event in events
    ]


def test_a_stream_is_walked_from_its_head_and_its_last_token_stays_the_same(endpoint):
    lines = [f"line {number}" for number in range(25)]
    endpoint.say("v/i", "\n".join(lines) + "\n")
    found, token = [], None
    while True:
        page = endpoint.client.get_log_events(
            logGroupName=endpoint.group, logStreamName="v/i", limit=10, startFromHead=True,
            **({"nextToken": token} if token else {}),
        )  # fmt: skip
        found += [event["message"] for event in page["events"]]
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    assert found == lines
    assert page["events"] == []
    endpoint.say("v/i", "more\n")
    page = endpoint.client.get_log_events(logGroupName=endpoint.group, logStreamName="v/i", nextToken=token)
    assert [event["message"] for event in page["events"]] == ["more"]


def test_a_stream_is_walked_back_from_its_end(endpoint):
    lines = [f"line {number}" for number in range(25)]
    endpoint.say("v/i", "\n".join(lines) + "\n")
    found, token = [], None
    while True:
        page = endpoint.client.get_log_events(
            logGroupName=endpoint.group, logStreamName="v/i", limit=10, **({"nextToken": token} if token else {})
        )
        found = [event["message"] for event in page["events"]] + found
        if page["nextBackwardToken"] == token:
            break
        token = page["nextBackwardToken"]
    assert found == lines
    page = endpoint.client.get_log_events(
        logGroupName=endpoint.group, logStreamName="v/i", limit=4, nextToken=page["nextForwardToken"]
    )
    assert [event["message"] for event in page["events"]] == lines[:4]


def test_the_tokens_of_an_empty_stream_lead_to_what_comes(endpoint):
    for stream, ahead in (("v/a", True), ("v/b", False)):
        endpoint.open(stream)
        page = endpoint.client.get_log_events(logGroupName=endpoint.group, logStreamName=stream, startFromHead=ahead)
        assert page["events"] == []
        endpoint.say(stream, "said\n")
        again = endpoint.client.get_log_events(
            logGroupName=endpoint.group, logStreamName=stream, nextToken=page["nextForwardToken"]
        )
        assert [event["message"] for event in again["events"]] == ["said"]


def test_streams_are_interleaved_by_time_and_each_line_comes_once_whatever_the_page(endpoint):
    choose = random.Random(7)
    expected = []
    for number in range(60):
        stream = f"v/{choose.choice('abc')}"
        endpoint.say(stream, f"{stream} {number}\n")
        expected.append(f"{stream} {number}")
        if choose.random() < 0.4:
            endpoint.messages()  # the others get one time
    every = endpoint.filtered()
    assert sorted(event["message"] for event in every) == sorted(expected)
    assert [event["timestamp"] for event in every] == sorted(event["timestamp"] for event in every)
    for size in (1, 2, 7, 59, 60, 61):
        assert endpoint.filtered(PaginationConfig={"PageSize": size}) == every
        back = endpoint.filtered(startFromHead=False, startTime=1_704_067_200_000, PaginationConfig={"PageSize": size})
        assert back == every[::-1]
    assert endpoint.messages(logStreamNames=["v/a"]) == [text for text in expected if text.startswith("v/a")]
    assert endpoint.messages(logStreamNamePrefix="v/b") == [text for text in expected if text.startswith("v/b")]
    assert endpoint.messages(logStreamNamePrefix="w/") == []


def test_lines_that_are_written_while_pages_are_read_come_once_too(endpoint):
    endpoint.say("v/b", "b 0\n" * 3)
    endpoint.say("v/a", "a 0\n" * 3)
    pages = endpoint.client.get_paginator("filter_log_events").paginate(
        logGroupName=endpoint.group, PaginationConfig={"PageSize": 2}
    )
    messages = []
    for number, page in enumerate(pages, 1):
        messages += [event["message"] for event in page["events"]]
        if number <= 5:
            endpoint.say("v/a", f"a {number}\n")
            endpoint.say("v/b", f"b {number}\n")
    assert sorted(messages) == sorted(
        ["a 0"] * 3 + ["b 0"] * 3 + [f"{stream} {number}" for stream in "ab" for number in range(1, 6)]
    )


def test_ranges_of_time_include_their_end_in_filters_and_not_in_streams(endpoint):
    for text in ("one", "two", "three", "four"):
        endpoint.say("v/i", text + "\n")
        endpoint.messages()
    times = [event["timestamp"] for event in endpoint.filtered()]
    assert endpoint.messages(startTime=times[1]) == ["two", "three", "four"]
    assert endpoint.messages(startTime=times[1], endTime=times[2]) == ["two", "three"]
    assert endpoint.messages(endTime=times[0] - 1) == []
    assert endpoint.messages(startTime=times[3] + 1) == []
    assert endpoint.messages(startTime=times[2], endTime=times[1]) == []
    for ahead in (True, False):

        def messages(ahead=ahead, **times):
            answer = endpoint.client.get_log_events(
                logGroupName=endpoint.group, logStreamName="v/i", startFromHead=ahead, **times
            )
            return [event["message"] for event in answer["events"]]

        assert messages(startTime=times[1], endTime=times[3]) == ["two", "three"]
        assert messages(endTime=times[0]) == []
        assert messages(startTime=times[3] + 1) == []


def test_events_are_filtered_by_pattern(endpoint):
    endpoint.say("v/i", 'INFO a\nERROR b\n{"level": "ERROR", "took": 5}\n{"level": "INFO", "took": 50}\n')
    assert endpoint.messages(filterPattern="ERROR") == ["ERROR b", '{"level": "ERROR", "took": 5}']
    assert endpoint.messages(filterPattern="ERROR -took") == ["ERROR b"]
    assert endpoint.messages(filterPattern="{ $.took > 10 }") == ['{"level": "INFO", "took": 50}']
    assert endpoint.messages(filterPattern="?a ?b") == ["INFO a", "ERROR b"]
    assert endpoint.messages(filterPattern="nothing") == []


def test_a_page_has_one_megabyte_at_most_and_long_lines_are_several_events(endpoint):
    endpoint.say("v/i", "x" * 1_000_000 + "\n" + "y" * 200_000 + "\n")
    page = endpoint.client.filter_log_events(logGroupName=endpoint.group)
    sizes = [len(event["message"]) for event in page["events"]]
    assert sizes == [262_118, 262_118, 262_118, 213_646]
    assert "".join(endpoint.messages()) == "x" * 1_000_000 + "y" * 200_000
    last = endpoint.client.get_log_events(logGroupName=endpoint.group, logStreamName="v/i")
    assert [len(event["message"]) for event in last["events"]] == [262_118, 262_118, 213_646, 200_000]


def test_binary_output_is_shown_as_far_as_it_is_text(endpoint):
    endpoint.say("v/i", bytes(range(256)) + b"\n")
    (first, second) = endpoint.messages()
    assert first == "".join(map(chr, range(10)))
    assert second == bytes(range(11, 256)).decode(errors="replace")


def test_a_rare_term_is_found_behind_much_that_does_not_match(endpoint):
    endpoint.say("v/i", ("x" * 1000 + "\n") * 20_000 + "needle\n")
    page = endpoint.client.filter_log_events(logGroupName=endpoint.group, filterPattern="needle")
    assert page["events"] == []  # as on AWS: a page ends when much was searched for it
    assert page["nextToken"]
    assert endpoint.messages(filterPattern="needle") == ["needle"]


@pytest.mark.slow
def test_a_million_lines_come_once_each(endpoint):
    lines = 250_000
    for stream in "abcd":
        endpoint.say(f"v/{stream}", "".join(f"{stream} {number}\n" for number in range(lines)))
    expected = [f"{stream} {number}" for stream in "abcd" for number in range(lines)]
    events = endpoint.filtered()
    assert [event["message"] for event in events] == expected  # they were seen at one time
    assert len({event["eventId"] for event in events}) == len(expected)
    token, found = None, []
    while True:
        more = {"nextToken": token} if token else {"startFromHead": True}
        page = endpoint.client.get_log_events(logGroupName=endpoint.group, logStreamName="v/c", **more)
        found += [event["message"] for event in page["events"]]
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
    assert found == expected[2 * lines : 3 * lines]


# --- what is gone -----------------------------------------------------------------------------------------------------


def test_the_group_stays_when_its_endpoint_is_deleted_until_it_is_deleted_itself(shared_stage, endpoint):
    endpoint.say("v/i-1", "first\nlast words")
    endpoint.end("v/i-1")
    endpoint.logs.retire(endpoint.uid)
    assert endpoint.messages() == ["first", "last words"]
    again = Endpoint(shared_stage, endpoint.name)
    again.say("v/i-2", "second\n")
    assert endpoint.messages() == ["first", "last words", "second"]
    assert stripped(endpoint.client.delete_log_group(logGroupName=endpoint.group)) == {}
    gone = ("ResourceNotFoundException", "The specified log group does not exist.")
    assert refusal(endpoint.client.delete_log_group, logGroupName=endpoint.group) == gone
    again.say("v/i-2", "third\n")
    assert endpoint.messages() == ["third"]


def test_a_stream_that_disappears_between_two_pages_ends_there(endpoint):
    endpoint.say("v/a", "a\n" * 5)
    endpoint.say("v/b", "b\n" * 5)
    page = endpoint.client.filter_log_events(logGroupName=endpoint.group, limit=2)
    endpoint.open("v/a").unlink()
    rest = endpoint.client.filter_log_events(logGroupName=endpoint.group, nextToken=page["nextToken"])
    assert [event["message"] for event in rest["events"]] == ["b"] * 5


# --- bad input --------------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_refused_in_aws_words(endpoint):
    endpoint.say("v/i", "said\n")
    logs, group = endpoint.client, endpoint.group
    no_group = ("ResourceNotFoundException", "The specified log group does not exist.")
    no_stream = ("ResourceNotFoundException", "The specified log stream does not exist.")
    foreign = "arn:aws:logs:eu-west-1:123456789012:log-group:" + group
    for call in (logs.describe_log_streams, logs.filter_log_events):
        assert refusal(call, logGroupName=GROUP + "none") == no_group
        assert refusal(call, logGroupName="/aws/lambda/f") == no_group
        assert refusal(call, logGroupName=GROUP + "..") == no_group
        assert refusal(call, logGroupIdentifier=foreign) == no_group
    assert refusal(logs.get_log_events, logGroupName=GROUP + "none", logStreamName="v/i") == no_group
    assert refusal(logs.get_log_events, logGroupName=group, logStreamName="v/none") == no_stream
    assert refusal(logs.get_log_events, logGroupName=group, logStreamName="../../x") == no_stream
    assert refusal(logs.filter_log_events, logGroupName=group, logStreamNames=["v/i", "none"]) == no_stream
    assert refusal(logs.delete_log_group, logGroupName=GROUP + "none") == no_group


@pytest.mark.require("newest_botocore")  # an older one has no logGroupArn and no logGroupIdentifiers
def test_wrong_parameters_are_refused(shared_stage, endpoint):
    endpoint.say("v/i", "said\n" * 3)
    logs, group = unchecked(shared_stage), endpoint.group
    refused = [
        (logs.describe_log_groups, {"logGroupNamePrefix": "a", "logGroupNamePattern": "a"}, "mutually exclusive"),
        (logs.describe_log_groups, {"logGroupIdentifiers": [group], "logGroupNamePrefix": "a"}, "logGroupIdentifiers"),
        (logs.describe_log_groups, {"limit": 51}, "less than or equal to 50"),
        (logs.describe_log_groups, {"logGroupNamePrefix": "a b"}, "regular expression pattern"),
        (logs.describe_log_groups, {"nextToken": "none"}, "The specified nextToken is invalid."),
        (logs.describe_log_streams, {}, "logGroupName"),
        (logs.describe_log_streams, {"logGroupName": group, "logGroupIdentifier": group}, "logGroupIdentifier"),
        (logs.describe_log_streams, {"logGroupName": group, "nextToken": "ab"}, "The specified nextToken is invalid."),
        (
            logs.describe_log_streams,
            {"logGroupName": group, "orderBy": "LastEventTime", "logStreamNamePrefix": "v"},
            "Cannot order by LastEventTime with a logStreamNamePrefix.",
        ),
        (logs.describe_log_streams, {"logGroupName": group, "orderBy": "Size"}, "enum value set"),
        (logs.get_log_events, {"logGroupName": group, "logStreamName": "v/i", "nextToken": "f/1/s"}, "nextToken"),
        (logs.get_log_events, {"logGroupName": group, "logStreamName": "v/i", "nextToken": f"f/{'1' * 56}/s"}, "nextT"),
        (logs.get_log_events, {"logGroupName": group, "logStreamName": "v/i", "limit": 10_001}, "10000"),
        (logs.get_log_events, {"logGroupName": group, "logStreamName": "a:b"}, "regular expression pattern"),
        (logs.filter_log_events, {"logGroupName": group, "limit": 0}, "greater than or equal to 1"),
        (logs.filter_log_events, {"logGroupName": group, "startTime": -1}, "greater than or equal to 0"),
        (logs.filter_log_events, {"logGroupName": group, "filterPattern": "a-b"}, "Invalid character(s) in term '-'"),
        (logs.filter_log_events, {"logGroupName": group, "filterPattern": "x" * 1025}, "1024"),
        (logs.filter_log_events, {"logGroupName": group, "nextToken": "5b5d"}, "The specified nextToken is invalid."),
        (
            logs.filter_log_events,
            {"logGroupName": group, "logStreamNames": ["v/i"], "logStreamNamePrefix": "v"},
            "mutually exclusive",
        ),
        (logs.filter_log_events, {"logGroupName": group, "logStreamNames": []}, "greater than or equal to 1"),
        (logs.filter_log_events, {"logGroupName": group, "startFromHead": False}, "2024"),
        (logs.filter_log_events, {"logGroupIdentifier": f"{ARN}{endpoint.name}:*"}, "regular expression pattern"),
    ]
    for call, request, sentence in refused:
        code, message = refusal(call, **request)
        assert code == "InvalidParameterException", (request, message)
        assert sentence in message


def unchecked(stage):
    """A client that sends what botocore itself would refuse."""
    return boto3.client(
        "logs", region_name="us-east-1", endpoint_url=stage.url, aws_access_key_id="a", aws_secret_access_key="b",
        config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )  # fmt: skip


def test_a_token_of_one_stream_or_group_is_none_of_another(shared_stage, endpoint):
    other = Endpoint(shared_stage)
    for one in (endpoint, other):
        one.say("v/i", "said\n" * 3)
    page = endpoint.client.filter_log_events(logGroupName=endpoint.group, limit=1)
    invalid = ("InvalidParameterException", "The specified nextToken is invalid.")
    token = page["nextToken"]
    assert refusal(endpoint.client.filter_log_events, logGroupName=other.group, nextToken=token) == invalid
    assert refusal(endpoint.client.describe_log_streams, logGroupName=endpoint.group, nextToken=token) == invalid
    page = endpoint.client.get_log_events(logGroupName=endpoint.group, logStreamName="v/i", limit=1)
    token = page["nextForwardToken"]
    call = endpoint.client.get_log_events
    assert refusal(call, logGroupName=other.group, logStreamName="v/i", nextToken=token) == invalid
