"""Programs that call AWS by its own host names, in a shell after `eval "$(hostler env --aws-hosts)"`."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from running import Hostler, eventually, hostler_up
from shell import Shell

from hostler.proxy.authority import open_authority
from hostler.proxy.certificates import utc_now

STS = "sts.us-east-1.amazonaws.com"
NODE = shutil.which("node") or "node"
GUARD = 60  # seconds, against hanging


@pytest.fixture(scope="module")
def shell(hostler: Hostler, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(hostler, tmp_path_factory.mktemp("home"), "--aws-hosts")


@pytest.fixture(scope="module")
def by_name(shell: Shell) -> Shell:
    """The same shell without AWS_ENDPOINT_URL: its programs have AWS's host names alone."""
    other = Shell.__new__(Shell)
    other.folder = shell.folder
    other.environment = {name: value for name, value in shell.environment.items() if name != "AWS_ENDPOINT_URL"}
    return other


def proxy_of(hostler: Hostler) -> list[psutil.Process]:
    return hostler.named("hostler.proxy.main")


class Remote:
    """A host that is not AWS's: it accepts connections, and answers each with what it got in its first piece."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]
        self.seen: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                with connection:
                    self.seen.append(connection.recv(65_536))
                    connection.sendall(self.reply(self.seen[-1]))

    def reply(self, received: bytes) -> bytes:
        return received


@pytest.fixture
def remote() -> Iterator[Remote]:
    found = Remote()
    yield found
    found.server.close()


def connect(shell: Shell, target: str) -> tuple[socket.socket, bytes]:
    """CONNECT to a target through the shell's proxy; return the socket and the answer's first line."""
    proxy = urlsplit(shell.environment["HTTPS_PROXY"])
    sock = socket.create_connection((proxy.hostname, proxy.port), GUARD)
    sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = sock.recv(1)
        assert piece, answer
        answer += piece
    return sock, answer.split(b"\r\n")[0]


def tls(shell: Shell, host: str = STS, name: str | None = STS) -> ssl.SSLSocket:
    """TLS with a host of AWS's, by the shell's bundle; `name`: in the hello, None: without."""
    sock, line = connect(shell, f"{host}:443")
    assert line.split()[1] == b"200", line
    context = ssl.create_default_context(cafile=shell.environment["SSL_CERT_FILE"])
    context.check_hostname = name is not None
    return context.wrap_socket(sock, server_hostname=name)


def ask(connection: socket.socket, request: str) -> bytes:
    """Send a request on a connection and return all that is answered until it closes."""
    connection.sendall(request.encode())
    answer = b""
    with connection:
        while piece := connection.recv(65_536):
            answer += piece
    return answer


# --- programs ---------------------------------------------------------------------------------------------------------


def test_the_sdks_first_cell_by_variables_alone(shell: Shell) -> None:
    found = shell.python("""
import json, sagemaker
session = sagemaker.Session()
print(json.dumps([sagemaker.get_execution_role(session), session.default_bucket(), session.account_id()]))
""")
    assert found == ["arn:aws:iam::123456789012:role/hostler", "sagemaker-us-east-1-123456789012", "123456789012"]


def test_boto3_by_awss_names_alone(by_name: Shell) -> None:
    found = by_name.python("""
import boto3, json
s3, sm, rt = (boto3.client(name) for name in ("s3", "sagemaker", "sagemaker-runtime"))
assert s3.meta.endpoint_url.endswith("amazonaws.com"), s3.meta.endpoint_url
s3.create_bucket(Bucket="by-name")
s3.put_object(Bucket="by-name", Key="_hostlers/a key+", Body=b"x" * 3_000_000)
read = s3.get_object(Bucket="by-name", Key="_hostlers/a key+")["Body"].read()
signed = s3.generate_presigned_url("get_object", Params={"Bucket": "by-name", "Key": "_hostlers/a key+"})
import urllib.request
assert urllib.request.urlopen(signed).read() == read
errors = []
for call in (lambda: rt.invoke_endpoint(EndpointName="none", Body=b"1"),
             lambda: sm.describe_endpoint(EndpointName="none"),
             lambda: boto3.client("lambda").list_functions(), lambda: boto3.client("ec2").describe_instances()):
    try:
        call()
    except Exception as error:
        errors.append(error.response["Error"]["Code"])
print(json.dumps([len(read), [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]], errors]))
""")
    assert found[0] == 3_000_000
    assert "by-name" in found[1]
    assert found[2][:2] == ["ValidationError", "ValidationException"]
    assert [code.removesuffix("Exception") for code in found[2][2:]] == ["AccessDenied"] * 2


def test_requests_and_urllib_and_curl_are_answered_by_hostler(by_name: Shell) -> None:
    url, form = f"https://{STS}/", "Action=GetCallerIdentity&Version=2011-06-15"
    answers = by_name.python(f"""
import json, requests, urllib.request
headers = {{"Content-Type": "application/x-www-form-urlencoded"}}
print(json.dumps([requests.post({url!r}, data={form!r}, headers=headers).text,
    urllib.request.urlopen({url!r}, data={form!r}.encode()).read().decode()]))
""")
    answers.append(by_name.run("curl", "-sS", "--fail", url, "-d", form))
    for answer in answers:
        assert "<Account>123456789012</Account>" in answer


NODE_PROGRAM = """
const http = require('http'), tls = require('tls');
const proxy = new URL(process.env.HTTPS_PROXY), host = process.argv[2];
const target = {host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: host + ':443'};
http.request(target).on('connect', (answer, socket) => {
  const secure = tls.connect({socket, servername: host, ALPNProtocols: ['h2', 'http/1.1']}, () => {
    secure.write('GET /?Action=GetCallerIdentity&Version=2011-06-15 HTTP/1.1\\r\\n');
    secure.write(`Host: ${host}\\r\\nConnection: close\\r\\nX-Alpn: ${secure.alpnProtocol}\\r\\n\\r\\n`);
    secure.pipe(process.stdout);
  });
}).end();
"""


@pytest.mark.require("node")
def test_node_accepts_the_authority(by_name: Shell) -> None:
    assert "<Account>123456789012</Account>" in by_name.run(NODE, "-e", NODE_PROGRAM, "x", STS)


NODE_CONSTRAINT = """
const tls = require('tls'), fs = require('fs');
const [pem, host] = process.argv.slice(2);
const server = tls.createServer({key: fs.readFileSync(pem), cert: fs.readFileSync(pem)}).on('tlsClientError', () => {});
server.listen(0, '127.0.0.1', () => {
  const end = (text) => { console.log(text); process.exit(0); };
  tls.connect({port: server.address().port, host: '127.0.0.1', servername: host}, () => end('accepted'))
    .on('error', (error) => end(error.message));
});
"""


@pytest.mark.require("node")
@pytest.mark.parametrize(
    ("host", "outcome"), [("iam.amazonaws.com", "accepted"), ("example.org", "permitted subtree violation")]
)
def test_node_enforces_the_constraints_of_the_authority(
    hostler: Hostler, shell: Shell, host: str, outcome: str
) -> None:
    pem = shell.folder / "leaf.pem"
    pem.write_bytes(open_authority(hostler.data, utc_now()).issue((host,), utc_now()))
    assert shell.run(NODE, "-e", NODE_CONSTRAINT, "x", pem, host).strip() == outcome


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_host_that_is_not_awss_is_tunnelled_untouched_and_so_is_an_address(shell: Shell, remote: Remote) -> None:
    for host in ("localhost", "127.0.0.1"):
        sock, line = connect(shell, f"{host}:{remote.port}")
        assert line == b"HTTP/1.1 200 Connection established"
        assert ask(sock, "\x16\x03\x01 anything") == b"\x16\x03\x01 anything"
    assert len(remote.seen) == 2


def test_a_connect_within_a_connect_is_refused(shell: Shell, remote: Remote) -> None:
    answer = ask(tls(shell), f"CONNECT 127.0.0.1:{remote.port} HTTP/1.1\r\nHost: {STS}\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    proxy = urlsplit(shell.environment["HTTPS_PROXY"]).port
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        sock, line = connect(shell, f"{host}:{proxy}")
        sock.close()
        assert line == b"HTTP/1.1 403 This proxy does not connect to itself"
    assert not remote.seen


def test_tls_without_a_name_gets_the_certificate_of_the_connect_and_another_name_gets_none(shell: Shell) -> None:
    with tls(shell, name=None) as nameless:
        certificate = nameless.getpeercert()
        assert certificate
        assert certificate["subjectAltName"] == (("DNS", STS),)
    for name in ("example.org", "iam.amazonaws.com"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tls(shell, name=name)


def test_a_web_page_that_tries_it_gets_one_sentence(shell: Shell) -> None:
    proxy = urlsplit(shell.environment["HTTPS_PROXY"])
    for line in ("GET / HTTP/1.1", "POST http://sts.us-east-1.amazonaws.com/ HTTP/1.1", "OPTIONS / HTTP/1.1"):
        sock = socket.create_connection((proxy.hostname, proxy.port), GUARD)
        answer = ask(sock, f"{line}\r\nHost: {proxy.netloc}\r\nOrigin: https://evil.com\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert answer.endswith(
            b"\r\n\r\nThis port is hostler's HTTPS proxy for AWS's host names: it takes CONNECT alone.\n"
        )
    origin = ask(tls(shell), f"GET / HTTP/1.1\r\nHost: {STS}\r\nOrigin: https://evil.com\r\nConnection: close\r\n\r\n")
    assert origin.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("path", ["/_hostler/health", "/_hostler/metrics", "/_localstack/health", "/%5fhostler/health"])
def test_our_own_pages_are_not_at_awss_names(shell: Shell, path: str) -> None:
    answer = ask(tls(shell), f"GET {path} HTTP/1.1\r\nHost: {STS}\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"not hostler's own pages" in answer


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "example.org", "amazonaws.com.cn"])
def test_within_tls_the_host_must_be_awss(shell: Shell, host: str) -> None:
    answer = ask(tls(shell), f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_awss_names_never_leave_however_they_are_spelt(shell: Shell) -> None:
    for target in ("STS.US-EAST-1.AMAZONAWS.COM:443", f"{STS}.:443"):
        sock, line = connect(shell, target)
        sock.close()
        assert line.split()[1] == b"200"
    for target, status in ((f"{STS}:8443", b"403"), (f"{STS}.cn:443", b"403"), (f"{STS}..:443", b"400"), (STS, b"400")):
        sock, line = connect(shell, target)
        sock.close()
        assert line.split()[1] == status, line


def test_no_other_machine_reaches_it(hostler: Hostler, shell: Shell) -> None:
    port = urlsplit(shell.environment["HTTPS_PROXY"]).port
    listening = [c.laddr for c in hostler.host.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port]
    assert [address.ip for address in listening] == ["127.0.0.1"]


# --- lives, and settings ----------------------------------------------------------------------------------------------


class ProxyBehind(Remote):
    """A proxy that connects to nobody and answers itself."""

    def reply(self, received: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\n\r\nfrom behind"


def test_one_life_without_use_with_kills_behind_another_proxy_and_to_the_end(tmp_path: Path, remote: Remote) -> None:
    """1. Nobody uses it: no process. 2. It is killed. 3. A shell has a proxy already. 4. hostler ends."""
    behind = ProxyBehind()
    url = f"https://{STS}/?Action=GetCallerIdentity&Version=2011-06-15"
    had = {"https_proxy": f"http://me:secret@127.0.0.1:{behind.port}", "NO_PROXY": ".amazonaws.com,localhost"}
    with hostler_up(tmp_path) as hostler:
        shell = Shell(hostler, tmp_path, "--aws-hosts", **had)
        assert not proxy_of(hostler)  # 1.
        killed: set[int] = set()
        for _ in range(3):  # 2.
            assert "<Account>" in shell.run("curl", "-sS", "--fail", url)
            [process] = proxy_of(hostler)
            assert process.pid not in killed
            process.kill()
            killed.add(process.pid)
        assert shell.environment["https_proxy"] == shell.environment["HTTPS_PROXY"]  # 3.
        assert "secret" not in json.dumps(shell.environment)
        sock, line = connect(shell, "pypi.org:443")
        assert (line.split()[1], ask(sock, "")) == (b"200", b"from behind")
        assert b"\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n" in behind.seen[0]
        sock, line = connect(shell, f"localhost:{remote.port}")
        assert (line.split()[1], ask(sock, "direct")) == (b"200", b"direct")
        kept, line = connect(shell, f"{STS}:443")  # 4. it does not hold up the end
        assert line.split()[1] == b"200"
        assert len(behind.seen) == 1
        assert "secret" not in hostler.output.read_text()
        hostler.stop()
        undone = shell.undone()
        assert (undone["https_proxy"], undone["HTTPS_PROXY"], undone["NO_PROXY"]) == (
            had["https_proxy"], None, had["NO_PROXY"],
        )  # fmt: skip
    kept.close()
    behind.server.close()


SIGNED = """
import boto3, json
from botocore.exceptions import ClientError
CALLS = {"sts": "get_caller_identity", "api.sagemaker": "list_endpoints", "logs": "describe_log_groups",
         "s3": "list_buckets"}
def answer(name, call, **keys):
    client = boto3.client(name.split(".")[-1], endpoint_url=f"https://{name}.us-east-1.amazonaws.com", **keys)
    try:
        getattr(client, call)()
    except ClientError as error:
        return error.response["Error"]["Code"]
wrong = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "another"}
print(json.dumps([[answer(*call, **keys) for call in CALLS.items()] for keys in ({}, wrong)]))
"""


def test_offline_with_verified_signatures_and_another_s3(tmp_path: Path, remote: Remote) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('AKIDEXAMPLE = "secret of mine"\n')
    keys.chmod(0o600)
    settings = {"offline": "true", "s3_endpoint": "http://127.0.0.1:9", "signatures": "verify", "keys_file": keys}
    with hostler_up(tmp_path / "up", **settings) as hostler:
        own = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret of mine"}
        shell = Shell(hostler, tmp_path, "--aws-hosts", **own)
        sock, line = connect(shell, f"127.0.0.1:{remote.port}")
        sock.close()
        assert line == b"HTTP/1.1 403 hostler is offline, by its setting, and does not pass on 127.0.0.1"
        mismatches = ["SignatureDoesNotMatch", "InvalidSignatureException", "InvalidSignatureException"]
        assert shell.python(SIGNED) == [[None, None, None, "InvalidRequest"], [*mismatches, "SignatureDoesNotMatch"]]
        assert proxy_of(hostler)
        hostler.host.kill()
        eventually(
            lambda: not hostler.remains(), GUARD, "the proxy has ended with its host", lambda: str(hostler.remains())
        )
    assert not remote.seen
