import pytest
from botocore.exceptions import ClientError


def refusal(call, code="ValidationException", **request):
    """The message by which boto3 shows that the call was refused with HTTP 400 and that code."""
    with pytest.raises(ClientError) as refused:
        call(**request)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert refused.value.response["Error"]["Code"] == code
    return refused.value.response["Error"]["Message"]
