"""The demonstration's own parts; that it runs and agrees is shown in tests/e2e/test_clients.py."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from hostler.cli import demo


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("queue;dur=0.5, load;dur=20, cache;desc=miss", {"queue": 0.5, "load": 20.0}),
        ('infer;desc="model";dur=1.25', {"infer": 1.25}),
        ("", {}),
    ],
)
def test_server_timing_is_read_as_milliseconds_by_name(header: str, parts: dict[str, float]):
    assert demo.server_timing(header) == parts


def test_a_citys_model_is_packed_as_sagemaker_wants_it_and_is_the_same_every_time(tmp_path: Path):
    archive, price = demo.train("Houston_TX", tmp_path)
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["xgboost-model"]
    assert demo.train("Houston_TX", tmp_path)[1] == price
    assert 100_000 < price < 1_000_000


def test_the_program_invokes_a_city_of_the_demo():
    assert "Houston_TX" in demo.CITIES
    assert demo.PROGRAM == demo.SETUP + demo.INVOKE + demo.READ
    assert demo.INVOKE.count("Houston_TX") == 1
