"""The entry point: it starts the server with its handler, or runs another command."""

import os
import subprocess
import sys
from subprocess import CalledProcessError

from retrying import retry
from sagemaker_inference import model_server


@retry(stop_max_delay=50_000, retry_on_exception=lambda error: isinstance(error, CalledProcessError | OSError))
def serve() -> None:
    model_server.start_model_server(handler_service="/home/model-server/model_handler.py:handle")


if sys.argv[1] == "serve":
    # Java takes a share of the machine's memory; the tests' machine has several of these.
    os.environ.setdefault("SAGEMAKER_MODEL_SERVER_VMARGS", "-Xms32m -Xmx128m -XX:+UseSerialGC")
    serve()
else:
    sys.exit(subprocess.call(sys.argv[1:]))
