"""Origins for reading: nginx on loopback, as fast as it goes, and one that is as slow as S3.

Both serve the files of one folder under `/bucket/` and answer what an S3 client needs to read an
object: Range, If-Match, ETag, and the object's CRC64NVME with whole responses. What S3 gives is
imitated by pacing each connection in the kernel, and by a pause before each response; nginx's own
`limit_rate` does not hold ranges back that share a connection.
"""

import argparse
import base64
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

BUCKET = "bucket"
PACED_BYTES_A_SECOND = 80_000_000
FIRST_BYTE_SECONDS = 0.03
CHECKSUM = ".crc64nvme"
# <linux/net.h>; Python has no name for it.
SO_MAX_PACING_RATE = 47
SENDFILE_BYTES = 8 << 20

NGINX = """\
daemon off;
# One process, of the user who started it, who may read the files.
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    map $http_range $whole {{ "" 1; default 0; }}
    # A header with an empty value is not sent.
    map "$whole $uri" $crc64nvme {{
        default "";
{checksums}
    }}
    map $crc64nvme $checksum_type {{ "" ""; default FULL_OBJECT; }}
    server {{
        listen 127.0.0.1:{port} backlog=512;
        location /{bucket}/ {{
            alias {folder}/;
            add_header x-amz-checksum-crc64nvme $crc64nvme;
            add_header x-amz-checksum-type $checksum_type;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """A server that is up."""

    name: str
    endpoint: str
    process: "subprocess.Popen[bytes]"


def write_object(path: Path, size: int, block: bytes) -> None:
    """A file of this size out of one block over and over, and its checksum beside it.

    An empty block gives a file of zeros that takes no room on the disk.
    """
    from awscrt import checksums  # what only serves needs no AWS

    crc = 0
    with path.open("wb") as file:
        if block:
            for at in range(0, size, len(block)):
                piece = block[: size - at]
                file.write(piece)
                crc = checksums.crc64nvme(piece, crc)
        else:
            file.truncate(size)
            zeros = bytes(16 << 20)
            for at in range(0, size, len(zeros)):
                crc = checksums.crc64nvme(zeros[: size - at], crc)
    text = base64.b64encode(crc.to_bytes(8, "big")).decode()
    path.with_name(path.name + CHECKSUM).write_text(text)


def environment(origin: Origin) -> dict[str, str]:
    """The environment of a process that reads from the origin as if it were S3."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return mine | {
        "AWS_ENDPOINT_URL": origin.endpoint,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }


@contextmanager
def unshaped(folder: Path) -> Iterator[Origin]:
    """Nginx, as fast as loopback goes, over the files that are in the folder now.

    Raises:
        RuntimeError: nginx is not installed, or did not start.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise RuntimeError("nginx is not installed: apt-get install nginx-light")
    port = _free_port()
    lines = [
        f'        "1 /{BUCKET}/{path.name.removesuffix(CHECKSUM)}" "{path.read_text()}";'
        for path in sorted(folder.glob(f"*{CHECKSUM}"))
    ]
    config = folder / "nginx.conf"
    config.write_text(
        NGINX.format(folder=folder, port=port, bucket=BUCKET, checksums="\n".join(lines))
    )
    with _running("unshaped", [program, "-p", str(folder), "-c", str(config)], port) as origin:
        yield origin


@contextmanager
def paced(folder: Path) -> Iterator[Origin]:
    """An origin that gives each connection what S3 does: 80 MB/s, 30 ms to the first byte."""
    port = _free_port()
    command = [sys.executable, str(Path(__file__).resolve()), str(folder), str(port)]
    with _running("paced", command, port) as origin:
        yield origin


@contextmanager
def _running(name: str, command: list[str], port: int) -> Iterator[Origin]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait_for(process, port)
        yield Origin(name, f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("the origin did not start")


class _Server(socketserver.ThreadingTCPServer):
    """A thread a connection; each of them waits in the kernel nearly all of the time."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Answers as S3 does, at S3's pace."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        """Pace the connection."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, PACED_BYTES_A_SECOND)

    def do_HEAD(self) -> None:
        """The headers alone."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """The object, or a range of it."""
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        time.sleep(FIRST_BYTE_SECONDS)
        name = self.path.partition("?")[0].removeprefix(f"/{BUCKET}/")
        path = self.server.folder / name
        if "/" in name or not path.is_file():
            self._refuse(404)
            return
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            size = about.st_size
            etag = f'"{about.st_mtime_ns:x}-{size:x}"'
            wanted = self.headers.get("If-Match")
            if wanted is not None and wanted.strip('"') != etag.strip('"'):
                self._refuse(412)
                return
            start, stop = self._range(size)
            if start >= stop:
                self._refuse(416)
                return
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("ETag", etag)
            self.send_header("Last-Modified", formatdate(about.st_mtime, usegmt=True))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(stop - start))
            checksum = path.with_name(name + CHECKSUM)
            if "Range" in self.headers:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            elif checksum.exists():
                self.send_header("x-amz-checksum-crc64nvme", checksum.read_text())
                self.send_header("x-amz-checksum-type", "FULL_OBJECT")
            self.end_headers()
            if with_body:
                self._send(file.fileno(), start, stop)

    def _send(self, file: int, start: int, stop: int) -> None:
        try:
            while start < stop:
                count = min(SENDFILE_BYTES, stop - start)
                start += os.sendfile(self.connection.fileno(), file, start, count)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _range(self, size: int) -> tuple[int, int]:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-"))
        if found is None:
            return 0, size
        last = int(found[2]) if found[2] else size - 1
        return int(found[1]), min(size, last + 1)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def main() -> None:
    """Serve the paced origin until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    told = parser.parse_args()
    server = _Server(told.folder, told.port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
