"""CloudWatch's errors. Their names are those of its JSON protocol; `aws/errors` has the query protocol's."""

from __future__ import annotations

from collections.abc import Iterable

from hostler import names
from hostler.errors import ApiError, ValidationException


def invalid_value(*sentences: str) -> ApiError:
    return ApiError("InvalidParameterValueException", "\n".join(sentences))


def invalid_combination(sentence: str) -> ApiError:
    return ApiError("InvalidParameterCombinationException", sentence)


def missing(parameter: str) -> ApiError:
    return ApiError("MissingRequiredParameterException", f"The parameter {parameter} is required.")


def invalid_token() -> ApiError:
    return ApiError("InvalidNextToken", "The NextToken is not one that this operation gave for these parameters.")


def other_account(parameter: str) -> str:
    return f"The value for parameter {parameter} must be {names.ACCOUNT}: hostler has no other account."


def invalid_query(sentences: Iterable[str]) -> ValidationException:
    """GetMetricData's error: a line for each fault."""
    return ValidationException("".join(f"{sentence}\n" for sentence in sentences))
