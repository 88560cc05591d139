"""References to images: their parts, and what [registries] makes of them."""

from __future__ import annotations

import pytest

from hostler.engines import references
from hostler.engines.references import Reference, parse

DIGEST = f"sha256:{2:064x}"

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flask", Reference("flask", "docker.io", "latest", "")),
        ("team/flask:1", Reference("team/flask", "docker.io", "1", "")),
        ("host:5000/flask", Reference("host:5000/flask", "host:5000", "latest", "")),
        ("localhost/a/b__c:V.1-x", Reference("localhost/a/b__c", "localhost", "V.1-x", "")),
        ("HOST:1/a", Reference("HOST:1/a", "HOST:1", "latest", "")),
        ("[::1]:5000/a", Reference("[::1]:5000/a", "[::1]:5000", "latest", "")),
        (f"r.io/a@sha256:{HEX}", Reference("r.io/a", "r.io", "", f"sha256:{HEX}")),
        (f"r.io/a:1@sha256:{HEX}", Reference("r.io/a", "r.io", "1", f"sha256:{HEX}")),
    ],
)
def test_a_reference_has_a_name_a_registry_a_tag_and_a_digest(text: str, expected: Reference):
    assert parse(text) == expected
    assert expected.version == (expected.digest or expected.tag)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("Team/flask", "capital letters"),
        ("team/Flask", "capital letters"),
        ("a//b", "a part of its name is empty"),
        ("/a", "a part of its name is empty"),
        ("a/", "a part of its name is empty"),
        ("a..b/c/_", "no part of a name|no registry"),
        ("a:", "'' is no tag"),
        ("a:-x", "'-x' is no tag"),
        (f"a:{'x' * 129}", "is no tag"),
        ("a@sha256:12", "'sha256:12' is no digest"),
        ("a@", "'' is no digest"),
        ("https://host/a", "a part of its name is empty|no tag|no registry"),
        ("-host.io/a", "no registry"),
        ("host:port/a", "no registry"),
        ("x" * 256, "longer than 255"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}t", "no part of a name"),
        ("a b", "no part of a name"),
    ],
)
def test_what_is_no_reference_is_told_why(text: str, why: str):
    with pytest.raises(ValueError, match=why):
        parse(text)


ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (f"{ECR}/team/mine:1", "mirror.example/ecr/team/mine:1"),
        (f"{ECR}/mine@sha256:{HEX}", f"mirror.example/ecr/mine@sha256:{HEX}"),
        (f"{ECR}/mine:1@sha256:{HEX}", f"mirror.example/ecr/mine:1@sha256:{HEX}"),
        (f"other/{ECR}/mine", f"other/{ECR}/mine"),
        (f"{ECR}.cn/mine", f"{ECR}.cn/mine"),
        ("host:5000/mine:1", "mine:1"),
        ("host:5000/other:1", "host:5000/other:1"),
        ("docker.io/library/x", "first.example/x"),
        ("docker.io/team/x", "first.example/x"),
        ("docker.io", "second.example"),
        ("docker-io/x", "docker-io/x"),
    ],
)
def test_the_first_pattern_that_matches_whole_parts_of_the_name_is_replaced(image: str, expected: str):
    registries = {
        "*.dkr.ecr.*.amazonaws.com": "mirror.example/ecr",
        "host:5000/mine": "mine",
        "docker.io/*/": "first.example/",
        "docker.io": "second.example",
    }
    assert references.rewritten(image, registries) == expected


@pytest.mark.parametrize(
    ("reference", "digests", "resolved"),
    [
        ("a/b:1", (f"a/b@{DIGEST}",), f"a/b@{DIGEST}"),
        ("host:5000/a/b", (f"c@{DIGEST}", f"host:5000/a/b@{DIGEST}"), f"host:5000/a/b@{DIGEST}"),
        ("host:5000/a/b:tag", (f"host:5000/a/b@{DIGEST}",), f"host:5000/a/b@{DIGEST}"),
        (f"a@{DIGEST}", (f"a@{DIGEST}",), f"a@{DIGEST}"),
        ("a:1", (), ""),
        ("a:1", ("a:1",), ""),
        ("docker.io/library/a:1", ("no digest", f"a@{DIGEST}"), f"docker.io/library/a@{DIGEST}"),
        ("No Reference", (f"a@{DIGEST}",), ""),
    ],
)
def test_an_image_has_the_digest_of_its_own_repository(reference: str, digests: tuple[str, ...], resolved: str) -> None:
    assert references.with_digest(reference, digests) == resolved
