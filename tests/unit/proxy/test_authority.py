"""The authority for AWS's host names: whom it vouches for, how it is kept, when it is renewed."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from handshake import handshake, shake_hands

from hostler.errors import UserError
from hostler.proxy import folder
from hostler.proxy.authority import certificate_names, open_authority
from small_disk import small_disk

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
YEARS = 3651 * DAY


@pytest.mark.parametrize(
    "host", ["sts.us-east-1.amazonaws.com", "amazonaws.com", f"{'a' * 60}.{'b' * 60}.us-east-1.amazonaws.com"]
)
def test_a_client_that_trusts_the_authority_accepts_its_certificate_for_the_host(tmp_path: Path, host: str) -> None:
    authority = open_authority(tmp_path, NOW)
    handshake(authority, authority.issue(certificate_names(host), NOW), host)


def test_a_certificate_of_s3_is_good_for_all_buckets_but_those_with_a_dot(tmp_path: Path) -> None:
    authority = open_authority(tmp_path, NOW)
    names = certificate_names("b.s3.us-east-1.amazonaws.com")
    assert names == certificate_names("s3.us-east-1.amazonaws.com")
    pem = authority.issue(names, NOW)
    for host in (
        "b.s3.us-east-1.amazonaws.com",
        "other-bucket.s3.us-east-1.amazonaws.com",
        "s3.us-east-1.amazonaws.com",
    ):
        handshake(authority, pem, host)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(authority, pem, "with.dot.s3.us-east-1.amazonaws.com")


@pytest.mark.parametrize("host", ["example.org", "notamazonaws.com", "amazonaws.com.example.org", "localhost"])
def test_no_client_accepts_its_certificate_for_another_domain(tmp_path: Path, host: str) -> None:
    authority = open_authority(tmp_path, NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(authority, authority.issue((host,), NOW), host)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_no_client_accepts_its_certificate_for_an_address(tmp_path: Path, address: str) -> None:
    authority = open_authority(tmp_path, NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder(authority.certificate.subject, x509.Name([]), key.public_key(), 1, NOW - DAY, NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ssl.SSLCertVerificationError, match="excluded subtree violation"):
        handshake(authority, private + leaf.public_bytes(Encoding.PEM) + authority.pem, address)


def test_the_certificate_that_it_issues_lives_for_a_day_and_is_no_authority(tmp_path: Path) -> None:
    authority = open_authority(tmp_path, NOW)
    leaf = x509.load_pem_x509_certificates(authority.issue(("sts.us-east-1.amazonaws.com",), NOW))[0]
    assert datetime.timedelta(hours=23) < leaf.not_valid_after_utc - NOW <= DAY
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert authority.certificate.extensions.get_extension_for_class(x509.NameConstraints).critical


def test_it_is_made_once_and_its_files_are_their_owners_alone(tmp_path: Path) -> None:
    first = open_authority(tmp_path, NOW)
    assert open_authority(tmp_path, NOW + 300 * DAY).pem == first.pem
    where = folder.folder_of(tmp_path)
    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in where.iterdir()} == {
        "authority.pem": 0o600, "lock": 0o600,
    }  # fmt: skip
    assert b"PRIVATE" not in first.pem


def test_all_who_open_it_at_once_get_the_same(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(open_authority(tmp_path, NOW).pem)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(set(found))) == (8, 1)


def test_it_is_renewed_before_its_end_and_who_trusts_the_old_certificate_trusts_it_still(tmp_path: Path) -> None:
    old = open_authority(tmp_path, NOW - YEARS + 20 * DAY)
    assert not old.is_good(NOW)
    new = open_authority(tmp_path, NOW)
    assert new.is_good(NOW)
    assert new.pem != old.pem
    host = "sts.us-east-1.amazonaws.com"
    for trusted in (old, new):
        handshake(trusted, new.issue((host,), NOW), host)


@pytest.mark.parametrize("damage", [b"", b"no PEM", None])
def test_a_file_that_is_damaged_or_open_to_others_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    first = open_authority(tmp_path, NOW)
    path = folder.folder_of(tmp_path) / "authority.pem"
    if damage is None:
        path.chmod(0o644)
    else:
        path.write_bytes(damage)
    second = open_authority(tmp_path, NOW)
    assert second.key.public_key() != first.key.public_key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "aws-hosts").write_text("a file")
    with pytest.raises(UserError, match=f"{tmp_path}/aws-hosts cannot be used: (File exists|Not a directory)"):
        open_authority(tmp_path, NOW)


def test_a_full_disk_is_one_clear_line_and_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        where = folder.folder_of(disk)
        where.mkdir()
        (where / "lock").touch()
        with contextlib.suppress(OSError), open(disk / "full", "wb") as file:
            file.write(bytes(2**23))
        with pytest.raises(UserError, match=f"{where} cannot be used: No space left on device"):
            open_authority(disk, NOW)
        assert [path.name for path in where.iterdir()] == ["lock"]
        (disk / "full").unlink()
        assert open_authority(disk, NOW).is_good(NOW)


def test_python_and_openssl_find_no_fault_when_they_are_strict(tmp_path: Path) -> None:
    authority = open_authority(tmp_path, NOW)
    host = "sts.us-east-1.amazonaws.com"
    client = ssl.create_default_context(cadata=authority.pem.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(client, authority.issue((host,), NOW), host)
