"""A small real model server, an image with its model inside, as users bring their own: one hop of a request.

Run as `python hop.py NAME serve`, as SageMaker runs an image; nothing here knows hostler. It listens on the port
SAGEMAKER_BIND_TO_PORT and answers GET /ping and POST /invocations; where SAGEMAKER_MULTI_MODEL is `true`, the
multi-model API as well, over artifacts that are one file, `name`.

Its prediction is the request's body and another line: a JSON object that describes the request as it arrived here. So
a body that went through several hops has one line of each. If the first line of the body is a JSON object, its member
NAME has instructions for this hop:

    log     print this line first
    sleep   wait so many seconds; then, with `log`, print "<log> done"
    exit    end the process with this code, without an answer
    status  answer with this status, and `body`
    size    answer with so many bytes instead
    type, attributes    the answer's Content-Type and custom attributes

A file `slow` in its folder has the seconds that every request waits: so an instance can be slower than another.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = sys.argv[1]
MULTI_MODEL = os.environ.get("SAGEMAKER_MULTI_MODEL") == "true"
PORT = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
TYPE = f"application/x-{NAME}"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
PROCESS = os.urandom(4).hex()  # differs in every process
MODELS: dict[str, tuple[str, str]] = {}  # loaded models: name -> (url, the artifact's name)


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts == ["ping"]:
            self._answer(200)
        elif MULTI_MODEL and parts == ["models"]:
            listed = [{"modelName": name, "modelUrl": url} for name, (url, _) in [*MODELS.items()]]
            self._answer(200, json.dumps({"models": listed}).encode(), "application/json")
        elif MULTI_MODEL and parts[0] == "models" and parts[1] in MODELS:
            self._answer(200, json.dumps({"modelName": parts[1], "modelUrl": MODELS[parts[1]][0]}).encode())
        else:
            self._answer(404, b"not found")

    def do_DELETE(self) -> None:
        _, _, name = self.path.rpartition("/")
        self._answer(200 if MODELS.pop(name, None) else 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/invocations" and not MULTI_MODEL:
            self._invoke(body)
        elif self.path == "/models" and MULTI_MODEL:
            self._load(**json.loads(body))
        elif self.path.endswith("/invoke") and (name := self.path.split("/")[2]) in MODELS:
            self._invoke(body, MODELS[name][1])
        else:
            self._answer(404, b"not found")

    def _load(self, model_name: str, url: str) -> None:
        if model_name in MODELS:
            self._answer(409)
        elif (file := Path(url) / "name").exists():
            MODELS[model_name] = (url, file.read_text())
            self._answer(200)
        else:
            self._answer(400, b"this artifact has no name")

    def _invoke(self, body: bytes, model: str | None = None) -> None:
        instructions = _instructions(body)
        if "log" in instructions:
            print(instructions["log"], flush=True)
        if "sleep" in instructions:
            time.sleep(instructions["sleep"])
            print(instructions.get("log", ""), "done", flush=True)
        time.sleep(_slowness())
        if "exit" in instructions:
            print("exit as instructed", flush=True)
            os._exit(instructions["exit"])
        if "status" in instructions:
            self._answer(
                instructions["status"], instructions.get("body", "").encode(), instructions.get("type", "text/plain")
            )
            return
        seen = {
            "name": NAME, "process": PROCESS, "path": self.path, "model": model,
            "type": self.headers["Content-Type"],
            "accept": self.headers["Accept"], "attributes": self.headers[ATTRIBUTES],
            "target": self.headers["X-Amzn-SageMaker-Target-Model"],
        }  # fmt: skip
        answer = b"." * instructions["size"] if "size" in instructions else body + b"\n" + json.dumps(seen).encode()
        self._answer(200, answer, instructions.get("type", TYPE), instructions.get("attributes"))

    def _answer(self, status: int, body: bytes = b"", kind: str = "text/plain", attributes: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if attributes is not None:
            self.send_header(ATTRIBUTES, attributes)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log no successful request."""


def _slowness() -> float:
    try:
        return float(Path("slow").read_text())
    except FileNotFoundError:
        return 0.0


def _instructions(body: bytes) -> dict[str, Any]:
    line = body.split(b"\n", 1)[0]
    document = json.loads(line) if line.startswith(b"{") else {}
    instructions: dict[str, Any] = document.get(NAME, {})
    return instructions


if __name__ == "__main__":
    if sys.argv[2:] != ["serve"]:
        sys.exit(f"expected a name and the argument 'serve', got {sys.argv[1:]}")
    print(f"{NAME} listens on {PORT}", flush=True)
    Server(("0.0.0.0", PORT), Handler).serve_forever()
