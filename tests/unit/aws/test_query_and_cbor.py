"""Our half of the query and CBOR protocols against botocore's: its serializers to our parsers, our renderers to its
parsers.
"""

from datetime import UTC, datetime

import botocore.parsers
import botocore.serialize
import botocore.session
import cbor2
import pytest
from documents import SETTINGS, epochs, values
from hypothesis import assume, given
from hypothesis import strategies as st

from hostler.aws import cbor_protocol, check, errors, query_protocol, service
from hostler.aws.classify import Call, Protocol
from hostler.errors import ApiError, SerializationException, ValidationException

NAMES = ["GetMetricStatistics", "GetMetricData", "ListMetrics", "PutMetricData", "PutDashboard"]
SERVICE = service.load("cloudwatch", NAMES)
BOTOCORE = botocore.session.Session().get_service_model("cloudwatch")
STS = service.load("sts", ["GetCallerIdentity"])
DATES = st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC))
NUMBERS = st.integers(0, 2**32 * 1000).map(lambda millisecond: millisecond / 1000)


def printable(value):
    """The value without the control characters that XML cannot hold."""
    if isinstance(value, str):
        return "".join(char for char in value if char in "\t\r\n" or (char >= " " and char not in "\ufffe\uffff"))
    if isinstance(value, list):
        return [printable(item) for item in value]
    return {name: printable(item) for name, item in value.items()} if isinstance(value, dict) else value


def is_empty(value):
    """Whether there is an empty structure somewhere, which a form cannot say."""
    if isinstance(value, list):
        return any(map(is_empty, value))
    return isinstance(value, dict) and (not value or any(map(is_empty, value.values())))


def round_trips(name, write, read, left_out=lambda params: False):
    @SETTINGS
    @given(values(SERVICE.operations[name].input, DATES))
    def round_trip(params):
        assume(not left_out(params))
        request = write.serialize_to_request(params, BOTOCORE.operation_model(name))
        assert check.read(SERVICE.operations[name].input, read(request["body"])) == epochs(params)

    round_trip()


@pytest.mark.parametrize("name", NAMES)
def test_what_botocore_writes_as_a_form_is_read_as_it_was_meant(name):
    def read(body):
        form = query_protocol.parse_form(botocore.compat.urlencode(body).encode() if isinstance(body, dict) else body)
        assert form["Action"] == name
        return query_protocol.parse(form, SERVICE.operations[name].input)

    round_trips(name, botocore.serialize.create_serializer("query"), read, is_empty)


@pytest.mark.require("newest_botocore")  # an older one speaks no CBOR
@pytest.mark.parametrize("name", NAMES)
def test_what_botocore_writes_as_cbor_is_read_as_it_was_meant(name):
    round_trips(name, botocore.serialize.create_serializer("smithy-rpc-v2-cbor"), cbor_protocol.parse)


def answers(name, protocol, render, prepare=lambda document: document):
    operation, parser = SERVICE.operations[name], botocore.parsers.create_parser(protocol)

    @SETTINGS
    @given(values(operation.output, NUMBERS))
    def round_trip(document):
        document = prepare(document)
        headers = {"x-amzn-requestid": "1", **cbor_protocol.HEADERS}
        response = {"status_code": 200, "headers": headers, "body": render(document, operation)}
        parsed = parser.parse(response, BOTOCORE.operation_model(name).output_shape)
        assert parsed.pop("ResponseMetadata")["RequestId"] == "1"
        assert epochs(parsed) == document

    round_trip()


@pytest.mark.parametrize("name", [name for name in NAMES if SERVICE.operations[name].output])
def test_what_we_write_as_xml_is_read_by_botocore_as_it_was_meant(name):
    answers(
        name, "query", lambda document, operation: query_protocol.render(document, operation, "urn:x", "1"), printable
    )


@pytest.mark.require("newest_botocore")  # an older one speaks no CBOR
@pytest.mark.parametrize("name", [name for name in NAMES if SERVICE.operations[name].output])
def test_what_we_write_as_cbor_is_read_by_botocore_as_it_was_meant(name):
    answers(name, "smithy-rpc-v2-cbor", lambda document, operation: cbor_protocol.render(document, operation.output))


def test_an_operation_without_output_has_an_empty_map_or_metadata_alone():
    assert cbor2.loads(cbor_protocol.render(None, None)) == {}
    operation = SERVICE.operations["PutMetricData"]
    assert operation.output is None
    assert query_protocol.render(None, operation, "urn:x", "1") == (
        b'<PutMetricDataResponse xmlns="urn:x"><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>'
        b"</PutMetricDataResponse>"
    )


@pytest.mark.parametrize("body", [b"\xff", b"\x00", b"\x80", b"\xa1", b"\xa1\x01\x02", b"{}", b"\xa1\x61a\x00"])
def test_what_is_no_map_of_the_requests_members_is_refused(body):
    with pytest.raises(SerializationException) as refused:
        check.read(SERVICE.operations["ListMetrics"].input, cbor_protocol.parse(body))
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(
    "form",
    [
        "Dimensions=x",
        "Dimensions.member=x",
        "Dimensions.member.x.Name=a",
        "Dimensions.member.0.Name=a",
        "Dimensions.member.-1.Name=a",
        "Dimensions.member.1=a",
        "Dimensions.member.1.Name=a&Dimensions.member=b",
        "Dimensions.member=b&Dimensions.member.1.Name=a",
        "Dimensions.1.Name=a",
        "Colour=bay",
        "IncludeLinkedAccounts=perhaps",
        "Namespace.member.1=x",
        "." * 100,
        "a." * 100_000,
        "=",
        "Dimensions.member.999999999999.Name=a",
    ],
    ids=lambda form: form[:40],
)
def test_a_form_that_does_not_fit_is_refused(form):
    with pytest.raises((SerializationException, ValidationException)) as refused:
        check.read(
            SERVICE.operations["ListMetrics"].input,
            query_protocol.parse(query_protocol.parse_form(form.encode()), SERVICE.operations["ListMetrics"].input),
        )
    assert len(refused.value.message) < 700


@pytest.mark.parametrize("text", ["6_0", " 60", "٦٠", "60.0", "6e1", "", "9" * 5000])
def test_what_python_alone_takes_for_a_whole_number_is_none(text):
    shape = SERVICE.operations["GetMetricStatistics"].input
    assert query_protocol.parse({"Period": "60"}, shape) == {"Period": 60}
    with pytest.raises(SerializationException, match="'period' must be an integer"):
        check.read(shape, query_protocol.parse({"Period": text}, shape))


@pytest.mark.parametrize("text", ["1_0", " 1", "nan", "Infinity", "1e400", "٣", "", "0x1"])
def test_what_python_alone_takes_for_a_float_is_none(text):
    shape = SERVICE.operations["PutMetricData"].input
    form = {"MetricData.member.1.MetricName": "M", "MetricData.member.1.Value": text, "Namespace": "N"}
    assert (
        query_protocol.parse(form | {"MetricData.member.1.Value": "-1.5E3"}, shape)["MetricData"][0]["Value"] == -1500
    )
    with pytest.raises(SerializationException, match="must be a float"):
        check.read(shape, query_protocol.parse(form, shape))


def test_items_of_a_list_are_in_the_order_of_their_numbers():
    form = {f"Dimensions.member.{number}.Name": str(number) for number in (10, 9, 1, 2)}
    document = query_protocol.parse(form, SERVICE.operations["ListMetrics"].input)
    assert [dimension["Name"] for dimension in document["Dimensions"]] == ["1", "2", "9", "10"]


ERRORS = [
    ("query", Protocol.QUERY, "AccessDenied", 403),
    ("ec2", Protocol.EC2, "AccessDenied", 403),
    ("rest-xml", Protocol.REST_XML, "AccessDenied", 403),
    ("json", Protocol.JSON_1_1, "AccessDeniedException", 400),
    ("json", Protocol.JSON_1_0, "AccessDeniedException", 400),
    pytest.param(
        *("smithy-rpc-v2-cbor", Protocol.CBOR, "AccessDeniedException", 400),
        marks=pytest.mark.require("newest_botocore"),
    ),
    ("rest-json", Protocol.REST_JSON, "AccessDeniedException", 403),
]


@pytest.mark.parametrize(("name", "protocol", "code", "status"), ERRORS)
def test_an_error_is_read_by_botocore_with_code_and_message_in_every_protocol(name, protocol, code, status):
    error = ApiError("AccessDeniedException", 'No <way> & "no" \x01 path')
    answer = errors.render(Call("x", protocol, ""), error, "1", "urn:x")
    assert answer.status == status
    headers = {key.lower(): value for key, value in answer.headers.items()}
    response = {"status_code": answer.status, "headers": headers, "body": answer.body}
    parsed = botocore.parsers.create_parser(name).parse(response, None)
    message = (
        error.message.replace("\x01", "\ufffd") if b"<?xml" in answer.body or b"xmlns" in answer.body else error.message
    )
    assert parsed["Error"]["Code"] == code
    assert parsed["Error"]["Message"] == message
    assert parsed["ResponseMetadata"]["RequestId"] == "1"


@pytest.mark.parametrize("protocol", [Protocol.QUERY, Protocol.JSON_1_0, Protocol.CBOR])
def test_the_errors_of_a_service_that_spoke_query_have_their_old_names_there(protocol):
    error = ApiError("InvalidParameterValueException", "No.")
    answer = errors.render(Call("x", protocol, ""), error, "1", SERVICE.namespace, SERVICE.query_codes)
    assert answer.status == 400
    if protocol is Protocol.QUERY:
        assert b"<Code>InvalidParameterValue</Code>" in answer.body
    else:
        assert answer.headers["x-amzn-query-error"] == "InvalidParameterValue;Sender"
        assert b"InvalidParameterValueException" in answer.body
