"""A bring-your-own container's entry point: Multi Model Server 1.1.11, through AWS's own `sagemaker-inference` 1.10.1.

Run as `python serve.py serve`, as SageMaker runs an image; nothing here knows hostler. Requirements, observed with
Python 3.11 and Java 17:

- /opt/ml is a folder of this container only: targets are loaded from /opt/ml/models/{id}/model.
- /etc is writable: the toolkit writes /etc/sagemaker-mms.properties at start. /tmp is writable and private: MMS keeps
  its pid (/tmp/.model_server.pid; a second one refuses to start), a socket and two fifos for each worker there.
- A process namespace with its own /proc: the toolkit looks for `com.amazonaws.ml.mms.ModelServer` among all visible
  processes, and gives up if there are two.
- SIGTERM goes to this program, which forwards it to Java, which ends its workers; all exit within half a second.
- It listens on 0.0.0.0:SAGEMAKER_BIND_TO_PORT, invocations and management alike. /ping answers 200 about 2 s after the
  start, before any target is loaded, also while others load.

Multi-model behaviour, observed through the port:

- POST /models: 200 `{"status": "Workers scaled"}` after 0.25 to 0.4 s (a process for each target), 409 when the name
  is registered, 404 when the folder is missing or the url is relative, 500 when the handler's start fails.
- A target whose handler raises MemoryError at load is answered 507 ("Failed to start workers") and *stays registered*
  with no worker: GET /models lists it, a second POST is answered 409, an invocation 503. It must be deleted before it
  is loaded again.
- MemoryError only becomes a 507 when the handler is a module's function `handle`: MMS logs and swallows what a class's
  `initialize` raises, and answers 200.
- DELETE: 200 within 0.01 s, and the worker's memory is free by then (no 507 in 30 loads right after one); 404 unknown.
- GET /models: by name, `limit` (100 when not given) and `next_page_token`, which is the offset of the next page.
- Errors are answered with `Connection: close`. A body over 6,553,500 bytes is answered 413 with no body.
"""

import os
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
# The toolkit starts `multi-model-server` by its bare name, and MMS imports the handler by its module's name.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "/usr/bin:/bin")])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("SAGEMAKER_MODEL_SERVER_VMARGS", "-XX:-UseContainerSupport -Xms32m -Xmx128m -XX:+UseSerialGC")
os.chdir("/tmp")  # MMS keeps its logs in ./logs

from sagemaker_inference import model_server  # noqa: E402 (it reads the environment when imported)

if sys.argv[1:] != ["serve"]:
    sys.exit(f"expected the one argument 'serve', got {sys.argv[1:]}")
model_server.start_model_server(handler_service=os.environ.get("HANDLER", "handler"))
