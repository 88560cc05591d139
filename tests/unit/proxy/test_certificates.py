"""The certificates that the proxy shows, as its clock goes on, or back."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from handshake import certificate_of

from hostler.proxy.certificates import Certificates

STS, IAM = "sts.us-east-1.amazonaws.com", "iam.amazonaws.com"
NOW = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
DAY = 24 * HOUR


def shown(context: ssl.SSLContext, host: str = STS) -> x509.Certificate:
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return x509.load_der_x509_certificate(certificate_of(context, client, host))


def test_a_host_keeps_its_certificate_for_half_a_day(tmp_path: Path) -> None:
    now = NOW
    certificates = Certificates(tmp_path, lambda: now)
    first = certificates.context(STS)
    assert certificates.context(IAM) is not first
    now += 11 * HOUR
    assert certificates.context(STS) is first
    now += 2 * HOUR
    assert shown(certificates.context(STS)) != shown(first)


@pytest.mark.parametrize("step", [13 * HOUR, 30 * DAY, 4000 * DAY, -2 * HOUR, -14 * HOUR, -30 * DAY, -4000 * DAY])
def test_a_certificate_is_valid_by_the_clock_however_that_was_set_meanwhile(
    tmp_path: Path, step: datetime.timedelta
) -> None:
    now = NOW
    certificates = Certificates(tmp_path, lambda: now)
    certificates.context(STS)
    now += step
    for host in (STS, IAM):  # one that was asked for before, and another
        leaf = shown(certificates.context(host), host)
        assert leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc
