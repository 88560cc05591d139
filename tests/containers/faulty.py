"""Containers with frequent mistakes, as small real programs.

Run as `python faulty.py MISTAKE serve`, as SageMaker runs an image; nothing here knows hostler.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MISTAKE = sys.argv[1]
WORKER = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """Answer GET /ping with the status in the mistake's name, else 200; POST is for the mistake `hangs` alone."""

    status = int(MISTAKE.partition("-")[2]) if MISTAKE.startswith("ping-") else 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/ping" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        """Echo the body. `hang` never returns, and after it no other call does: the only worker is busy. `hoard` takes
        memory until there is no more.
        """
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"hoard":
            hoard: list[bytes] = []
            while True:
                hoard.append(os.urandom(2**20))
        with WORKER:
            if body == b"hang":
                threading.Event().wait()
            self.send_response(200 if MISTAKE in ("hangs", "hoards") else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def listen(port: int, address: str = "0.0.0.0") -> None:
    server = ThreadingHTTPServer((address, port), Handler)
    print("serving on port", server.server_port, flush=True)
    server.serve_forever()


def main() -> None:
    print(f"this is {MISTAKE}", flush=True)
    match MISTAKE:
        case "not-listening":
            time.sleep(600)
        case "wrong-port":
            listen(0)
        case "loopback":
            listen(int(os.environ["SAGEMAKER_BIND_TO_PORT"]), "127.0.0.1")
        case "ends-again-and-again":
            threading.Timer(1, os._exit, [9]).start()
            listen(int(os.environ["SAGEMAKER_BIND_TO_PORT"]))
        case "memory":
            hoard = [os.urandom(2**20) for _ in range(256)]
            print("has", len(hoard), "MiB", flush=True)
        case "slow-start":
            time.sleep(600)
            listen(int(os.environ["SAGEMAKER_BIND_TO_PORT"]))
        case "crash":
            sys.exit(3)
        case "done":
            return
        case "killed":  # as the kernel does when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        case "import-error":
            import a_module_that_nobody_has  # noqa: F401
        case _:
            listen(int(os.environ["SAGEMAKER_BIND_TO_PORT"]))


if __name__ == "__main__":
    main()
