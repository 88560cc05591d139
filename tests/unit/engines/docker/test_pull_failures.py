"""What Docker and registries say of a pull that failed, and what people are told of it."""

from __future__ import annotations

import pytest

from hostler.engines.docker.pull_failures import failure
from hostler.engines.pull_causes import Cause, cause

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
SAID = [
    (404, "manifest for r.example/x:9 not found: manifest unknown: manifest unknown", Cause.NO_IMAGE),
    (404, "name unknown: The repository with name 'x' does not exist in the registry with id '1'", Cause.NO_IMAGE),
    (
        404,
        "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access"
        " to the resource is denied",
        Cause.NO_IMAGE,
    ),
    (404, "whatever", Cause.NO_IMAGE),
    (500, 'Head "https://r.example/v2/x/manifests/1": no basic auth credentials', Cause.NO_ACCESS),
    (500, "unauthorized: authentication required", Cause.NO_ACCESS),
    (
        404,
        f"pull access denied for {ECR}/x, repository does not exist or may require 'docker login': denied: Your"
        " authorization token has expired. Reauthenticate and try again.",
        Cause.NO_ACCESS,
    ),
    (404, "pull access denied for x: denied: User: arn:aws:iam::1:user/me is not authorized", Cause.NO_ACCESS),
    (500, 'error parsing HTTP 403 response body: no error details found in HTTP response body: ""', Cause.NO_ACCESS),
    (500, "toomanyrequests: You have reached your pull rate limit.", Cause.LIMIT),
    (500, 'Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused', Cause.UNREACHABLE),
    (500, 'Get "https://nowhere.example/v2/": dial tcp: lookup nowhere.example: no such host', Cause.UNREACHABLE),
    (500, 'Get "https://r.example/v2/": net/http: TLS handshake timeout', Cause.UNREACHABLE),
    (500, 'Get "https://r.example/v2/": context deadline exceeded (Client.Timeout exceeded)', Cause.UNREACHABLE),
    (500, "received unexpected HTTP status: 503 Service Unavailable", Cause.UNREACHABLE),
    (500, 'Get "https://r.example/v2/": http: server gave HTTP response to HTTPS client', Cause.PLAIN),
    (500, 'Get "https://r.example/v2/": x509: certificate signed by unknown authority', Cause.TLS),
    (404, "no matching manifest for linux/amd64 in the manifest list entries", Cause.PLATFORM),
    (0, 'image operating system "windows" cannot be used on this platform', Cause.PLATFORM),
    (0, "write /var/lib/docker/tmp/GetImageBlob1: no space left on device", Cause.DISK_FULL),
    (0, "failed to register layer: Error processing tar file(exit status 1): write /x: no space left on device",
     Cause.DISK_FULL),
    (0, "unexpected EOF", Cause.CUT),
    (0, "filesystem layer verification failed for digest sha256:12", Cause.DAMAGED),
    (500, "the moon is full", Cause.OTHER),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message", "expected"), SAID)
def test_causes_are_told_apart(status: int, message: str, expected: Cause):
    assert cause(status, message) == expected


@pytest.mark.parametrize(("status", "message", "expected"), SAID)
def test_what_people_are_told_begins_alike_and_shows_no_path(status: int, message: str, expected: Cause):
    text = str(failure("r.example/x:9", status, message, "linux/amd64", "", had_credentials=False))
    assert text.startswith("Docker has no image r.example/x:9, and could not pull it. ")
    assert "/var/" not in text
    assert ("docker login r.example" in text) == (expected in (Cause.NO_IMAGE, Cause.NO_ACCESS, Cause.LIMIT))
    assert ("linux/amd64" in text) == (expected == Cause.PLATFORM)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ("me/x:1", "Docker Hub asks for a login. To log in, as the user who runs hostler: docker login"),
        (
            f"{ECR}/x:1",
            f"aws ecr get-login-password --region eu-west-1 | docker login --username AWS --password-stdin {ECR}",
        ),
        ("r.example:5000/x:1", "docker login r.example:5000"),
    ],
)
def test_the_line_that_logs_in_is_the_registrys(image: str, line: str):
    assert str(failure(image, 500, "unauthorized", "", "", had_credentials=False)).endswith(line)


def test_credentials_that_were_refused_and_a_problem_with_them_are_said():
    text = str(failure("r.io/x", 500, "unauthorized", "", "The program docker-credential-x is not there.",
                       had_credentials=True))  # fmt: skip
    assert "The registry r.io refused the login that Docker's configuration has. The program docker" in text


def test_of_what_nobody_knows_docker_is_quoted_without_paths_and_queries():
    message = 'open /var/lib/docker/x.json: Get "https://s3.example/layer?X-Amz-Signature=1234": odd\nmore'
    text = str(failure("r.io/x", 500, message, "", "", had_credentials=False))
    assert text.endswith('Docker said: open (a file): Get "https://s3.example/layer": odd')
