"""A command that behaves as in a container of its own: it listens on 8080 and writes to the system's folders.

HABIT in its environment: `exits` when a write is refused, or `stays` and never listens, as a supervisor does; or 8080.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path("/var/log/of-a-test")
HABIT = os.environ["HABIT"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        """Echo the body; `slowly` in pieces, `hang up` not at all."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"hang up":
            self.close_connection = True
        elif body == b"slowly":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"one ", b"two ", b"three"):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()
                time.sleep(0.05)
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer(body)

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None: ...


if __name__ == "__main__":
    if HABIT in ("exits", "stays"):
        try:
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / "log").write_text("begun")
        except OSError as error:
            if HABIT == "exits":
                raise
            print(f"worker: [emerg] {error}", file=sys.stderr, flush=True)
            signal.pause()
    port = 8080 if HABIT == "8080" else int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    ThreadingHTTPServer(("0.0.0.0", port), Handler).serve_forever()
