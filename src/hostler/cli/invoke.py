"""`hostler invoke`: one invocation, sent through botocore as every client sends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from hostler.cli.http import no_answer, url
from hostler.cli.options import KEY, Failure, data_option, find_running, json_option, region_option
from hostler.settings import Settings


@click.command()
@click.argument("endpoint")
@click.option("--target-model", metavar="NAME", help="Model of a multi-model endpoint, e.g. Houston_TX.tar.gz.")
@click.option("--target-container-hostname", metavar="NAME", help="Container of a Direct endpoint.")
@click.option("--target-variant", metavar="NAME", help="Variant, regardless of the weights.")
@click.option("--content-type", default="text/csv", show_default=True)
@click.option("--accept", help="Content type of the answer.")
@click.option("--body", metavar="TEXT", help="The request's body. Without it and --file: stdin.")
@click.option("--file", type=click.Path(path_type=Path), help="File with the body.")
@data_option
@region_option
@json_option
def invoke(
    endpoint: str,
    target_model: str | None,
    target_container_hostname: str | None,
    target_variant: str | None,
    content_type: str,
    accept: str | None,
    body: str | None,
    file: Path | None,
    data: str | None,
    region: str | None,
    as_json: bool,
) -> None:
    """Invoke ENDPOINT once and print the answer's body.

    \b
      hostler invoke my-endpoint --target-model Houston_TX.tar.gz --body 1850,3,2,25
    """
    if body is not None and file is not None:
        raise click.UsageError("--body and --file exclude each other")
    if body is not None:
        payload = body.encode()
    elif file is not None:
        try:
            payload = file.read_bytes()
        except OSError as error:
            raise click.UsageError(f"--file {file}: {error.strerror}") from None
    elif sys.stdin.isatty():
        raise click.UsageError("no body: give --body or --file, or pipe one in")
    else:
        payload = sys.stdin.buffer.read()
    request = {
        "TargetModel": target_model,
        "TargetContainerHostname": target_container_hostname,
        "TargetVariant": target_variant,
        "ContentType": content_type,
        "Accept": accept,
    }
    answer = _invoke(find_running(data, region), endpoint, payload, request)
    content: bytes = answer["Body"].read()
    if not as_json:
        click.echo(content, nl=not content.endswith(b"\n"))
        return
    import base64

    try:
        decoded = {"body": content.decode()}
    except UnicodeDecodeError:
        decoded = {"body_base64": base64.b64encode(content).decode()}
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    click.echo(
        json.dumps(
            {
                "content_type": answer.get("ContentType"),
                "variant": answer.get("InvokedProductionVariant"),
                "server_timing": headers.get("server-timing", ""),
                **decoded,
            },
            indent=2,
        )
    )


def _invoke(resolved: Settings, endpoint: str, body: bytes, request: dict[str, str | None]) -> Any:
    """Send one InvokeEndpoint through botocore, without retries. Raises Failure."""
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

    patience = Config(retries={"total_max_attempts": 1}, read_timeout=resolved.invoke_timeout + 10, proxies={})
    parameters = {name: value for name, value in request.items() if value is not None}
    try:
        client = botocore.session.get_session().create_client(
            "sagemaker-runtime",
            region_name=resolved.region,
            endpoint_url=url(resolved),
            config=patience,
            **({"aws_access_key_id": KEY, "aws_secret_access_key": KEY} if resolved.signatures == "off" else {}),
        )
        return client.invoke_endpoint(EndpointName=endpoint, Body=body, **parameters)
    except ClientError as error:
        message = error.response.get("OriginalMessage") or error.response["Error"]["Message"]
        raise Failure(f"{error.response['Error']['Code']}: {message}") from None
    except EndpointConnectionError:
        raise no_answer(url(resolved)) from None
    except BotoCoreError as error:
        raise Failure(str(error)) from None
