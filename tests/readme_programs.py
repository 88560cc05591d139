"""README's programs, and what stands before and after them in a test that runs them word for word."""

from __future__ import annotations

from pathlib import Path

from aws_clients import ROLE

PREAMBLE = f"""
import boto3, json
sm, rt = boto3.client("sagemaker"), boto3.client("sagemaker-runtime")
role = {ROLE!r}
"""
DELETE = """
sm.delete_endpoint(EndpointName="my-endpoint")
sm.get_waiter("endpoint_deleted").wait(EndpointName="my-endpoint")
sm.delete_endpoint_config(EndpointConfigName="my-epc")
"""


def program(heading: str) -> str:
    """Return README's program below this heading."""
    section = (Path(__file__).parents[1] / "README.md").read_text().split(f"\n## {heading}\n")[1]
    return section.split("```python\n")[1].split("```")[0]
