"""`python -m hostler.servers serve`: our model server as the command of a container (deploy/docker, users' images)."""

from __future__ import annotations

import os
import signal
import sys

for ending in (signal.SIGTERM, signal.SIGINT):
    # Process 1 of a container gets no signal without a handler. Once it serves, it finishes the calls in flight first.
    signal.signal(ending, lambda *_: os._exit(0))

from hostler.contract import SERVE  # noqa: E402 - the imports take long enough to be stopped in
from hostler.servers import main  # noqa: E402

if sys.argv[1:] != [SERVE]:
    given = " ".join(sys.argv[1:])
    print(
        f"the only argument is `{SERVE}`, not `{given}`" if given else f"the argument `{SERVE}` is missing",
        file=sys.stderr,
    )
    sys.exit(2)
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
try:
    main.run()
except SystemExit:
    os._exit(1)
os._exit(0)  # without waiting for a load on its thread
