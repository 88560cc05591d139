import pytest
from botocore.exceptions import ClientError


def refusal(call, code="ValidationException", **request):
    """Check that boto3 raises for HTTP 400 and that code; return the message."""
    with pytest.raises(ClientError) as refused:
        call(**request)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert refused.value.response["Error"]["Code"] == code
    return refused.value.response["Error"]["Message"]
