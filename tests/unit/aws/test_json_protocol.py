"""Our half of the protocol against botocore's: its serializer to our parser, our renderer to its parser."""

from datetime import UTC, datetime

import botocore.parsers
import botocore.serialize
import botocore.session
import pytest
from documents import SETTINGS, epochs, values
from hypothesis import given
from hypothesis import strategies as st

from hostler.aws import check, json_protocol, service
from hostler.errors import ApiError, SerializationException

NAMES = [
    "CreateModel",
    "CreateEndpointConfig",
    "CreateEndpoint",
    "ListModels",
    "ListEndpoints",
    "AddTags",
    "ListTags",
    "DeleteTags",
    "DescribeModel",
    "DescribeEndpointConfig",
    "DescribeEndpoint",
]
SERVICE = service.load("sagemaker", NAMES)
BOTOCORE = botocore.session.Session().get_service_model("sagemaker")
DATES = st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC))
NUMBERS = st.integers(0, 2**32 * 1000).map(lambda millisecond: millisecond / 1000)


@pytest.mark.parametrize("name", NAMES)
def test_what_botocore_writes_is_read_as_it_was_meant(name):
    serializer = botocore.serialize.create_serializer("json")

    @SETTINGS
    @given(values(SERVICE.operations[name].input, DATES))
    def round_trip(params):
        request = serializer.serialize_to_request(params, BOTOCORE.operation_model(name))
        assert request["headers"]["X-Amz-Target"] == f"SageMaker.{name}"
        assert request["headers"]["Content-Type"] == json_protocol.CONTENT_TYPE
        document = check.read(SERVICE.operations[name].input, json_protocol.parse(request["body"]))
        assert document == epochs(params)

    round_trip()


@pytest.mark.parametrize("name", NAMES)
def test_what_we_write_is_read_by_botocore_as_it_was_meant(name):
    parser = botocore.parsers.create_parser("json")

    @SETTINGS
    @given(values(SERVICE.operations[name].output, NUMBERS))
    def round_trip(document):
        response = {
            "status_code": 200,
            "headers": {json_protocol.REQUEST_ID.lower(): "1"},
            "body": json_protocol.render(document),
        }
        parsed = parser.parse(response, BOTOCORE.operation_model(name).output_shape)
        assert parsed.pop("ResponseMetadata")["RequestId"] == "1"
        assert epochs(parsed) == document

    round_trip()


def test_an_error_is_read_by_botocore_with_code_and_message():
    body = json_protocol.render_error(ApiError("ValidationException", 'Could not find model "arn:x".'))
    response = {"status_code": 400, "headers": {}, "body": body}
    parsed = botocore.parsers.create_parser("json").parse(response, None)
    assert parsed["Error"] == {"Code": "ValidationException", "Message": 'Could not find model "arn:x".'}


def test_an_answer_leaves_absent_members_out_and_may_be_empty():
    assert json_protocol.render({"A": None, "B": 1529870369.986}) == b'{"B":1529870369.986}'
    assert json_protocol.render(None) == b""


def test_an_empty_body_is_an_empty_request():
    assert json_protocol.parse(b"") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"5",
        b"{} {}",
        b"\xff\xfe",
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\ud800 and more"}',
        b'{"a": "\\udc00\\ud800"}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' * 100_000,
        b"[" * 1_000_000,
        b'{"a": "\n"}',
        b"{'a': 1}",
        b"\xef\xbb\xbf{}",
        b"Action=GetCallerIdentity",
        b"\0",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_a_json_object_is_refused(body):
    with pytest.raises(SerializationException) as refused:
        json_protocol.parse(body)
    assert len(refused.value.message) < 300
