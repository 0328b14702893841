"""What `check` asks of Kubernetes when it runs in a pod."""

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.checks.pod import UnreadableError, own_job

SPEC = {"activeDeadlineSeconds": 60, "template": {"spec": {}}}
PATH = "/apis/batch/v1/namespaces/files/jobs/file-processor-x7k2p"


class Api(BaseHTTPRequestHandler):
    """The one answer of the API server that is asked for, to who has the token."""

    def do_GET(self) -> None:
        """Answer."""
        known = self.headers["Authorization"] == "Bearer a-token"
        body = json.dumps({"kind": "Job", "spec": SPEC}).encode()
        self.send_response(200 if known and self.path == PATH else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def certify(folder: Path) -> None:
    """A certificate for 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = dt.datetime.now(dt.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.pem").write_bytes(secret)


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """What Kubernetes mounts into a pod that may ask it."""
    certify(tmp_path)
    (tmp_path / "token").write_text("a-token\n")
    return tmp_path


@pytest.fixture
def environ(account: Path) -> Iterator[dict[str, str]]:
    """The environment of a pod, and the API server that it names."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(account / "ca.crt", account / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(server.server_address[1]),
        "JOB_NAME": "file-processor-x7k2p",
        "POD_NAMESPACE": "files",
    }
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_job_of_this_pod(environ: dict[str, str], account: Path) -> None:
    """Asked with the pod's token, trusting the cluster's authority alone."""
    assert own_job(environ, account) == SPEC


def test_outside_of_kubernetes_nothing_is_asked(tmp_path: Path) -> None:
    """No host, no question."""
    assert own_job({"JOB_NAME": "mine", "POD_NAMESPACE": "files"}, tmp_path) is None


def test_what_kubernetes_does_not_tell_is_said(environ: dict[str, str], account: Path) -> None:
    """No names, no permission, no token, no such authority: each with its reason."""
    with pytest.raises(UnreadableError, match="JOB_NAME"):
        own_job(environ | {"JOB_NAME": ""}, account)
    with pytest.raises(UnreadableError, match="403"):
        own_job(environ | {"JOB_NAME": "another"}, account)
    other = account / "other"
    other.mkdir()
    certify(other)
    (other / "token").write_text("a-token")
    with pytest.raises(UnreadableError, match=r"(?i)certificate"):
        own_job(environ, other)
    (account / "token").unlink()
    with pytest.raises(UnreadableError, match="no service account token"):
        own_job(environ, account)
