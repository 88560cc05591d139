"""AWS's public buckets of sample data and models, which SageMaker's notebooks read. None of them is here by itself."""

from __future__ import annotations

_NAMES = frozenset(
    [
        "amazon-forecast-samples",
        "amazon-reviews-pds",
        "aws-ml-blog",
        "dsoaws",
        "gec-sagemaker-blog",
        "open-images-dataset",
        "sagemaker-core-beta-artifacts",
        "sagemaker-sample-files",
    ]
)
_BEGINNINGS = (  # the region follows
    "jumpstart-cache-prod-",
    "jumpstart-private-cache-prod-",
    "sagemaker-example-files-",
    "sagemaker-examples-files-",
    "sagemaker-sample-data-",
    "sagemaker-servicecatalog-seedcode-",
    "sagemaker-solutions-prod-",
)


def advice(bucket: str) -> str:
    """Return what helps where one of these buckets is missing; empty for another bucket."""
    if bucket not in _NAMES and not bucket.startswith(_BEGINNINGS):
        return ""
    return (
        f"{bucket} is a public bucket of AWS's, of which hostler has no copy: put the files that you need from it into "
        f"s3/{bucket}/ of the data folder."
    )
