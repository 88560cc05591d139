"""Tries ways out of a container: as a script (below), and as a mapped command that serves /invocations.

A call's body is {name of a way: [kind, address...]}; the answer has "reached", or the error, by the same names.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 3.0  # seconds for each way; one that is open takes milliseconds


def attempt(kind: str, *address: Any) -> str:
    try:
        if kind == "name":
            return "reached" if socket.gethostbyname(address[0]) else "nothing"
        family = {"tcp": socket.AF_INET, "udp": socket.AF_INET}.get(kind, socket.AF_UNIX)
        with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE)
            if kind == "udp":
                client.sendto(b"?", tuple(address))
                client.recv(100)
            elif kind == "abstract":
                client.connect("\0" + address[0])
            else:
                client.connect(tuple(address) if kind == "tcp" else address[0])
        return "reached"
    except OSError as error:
        return error.strerror or str(error)


def attempts(body: bytes) -> dict[str, str]:
    return {name: attempt(*way) for name, way in json.loads(body).items()}


# --- as a script ----------------------------------------------------------------------------------------------------


def model_fn(model_dir: str) -> int:
    return 1


def input_fn(body: bytes, content_type: str) -> bytes:
    return body


def predict_fn(body: bytes, model: int) -> dict[str, str]:
    return attempts(body)


def output_fn(answers: dict[str, str], accept: str) -> str:
    return json.dumps(answers)


# --- as a command ---------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(json.dumps(attempts(body)).encode())

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None: ...


if __name__ == "__main__" and sys.argv[1:] == ["serve"]:
    ThreadingHTTPServer(("0.0.0.0", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
