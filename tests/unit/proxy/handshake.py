"""A TLS handshake in memory: does a client accept this certificate for this host?"""

from __future__ import annotations

import ssl
import tempfile

from hostler.proxy.authority import Authority


def handshake(trusted: Authority, pem: bytes, host: str) -> None:
    """Shake hands as a client that trusts this authority alone. Raises SSLCertVerificationError."""
    shake_hands(ssl.create_default_context(cadata=trusted.pem.decode()), pem, host)


def shake_hands(client: ssl.SSLContext, pem: bytes, host: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        server.load_cert_chain(file.name)
    certificate_of(server, client, host)


def certificate_of(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> bytes:
    """Shake hands, and return the certificate that the client got, in DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = client.wrap_bio(to_client, to_server, server_hostname=host)
    ends = [end, server.wrap_bio(to_server, to_client, server_side=True)]
    waiting = True
    while waiting:
        waiting = False
        for each in ends:
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                waiting = True
    return end.getpeercert(binary_form=True) or b""
