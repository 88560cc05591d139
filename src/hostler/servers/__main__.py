"""`python -m hostler.servers serve`: our model server as the command of a user's own image."""

from __future__ import annotations

import os
import sys

from hostler.contract import ENV_BASE_DIR, SERVE
from hostler.servers import main

if sys.argv[1:] != [SERVE]:
    print(f"usage: python -m hostler.servers {SERVE}", file=sys.stderr)
    sys.exit(2)
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
try:
    # An engine that sets the base folder runs this on its own machine; else the container is the machine.
    main.run(everywhere=ENV_BASE_DIR not in os.environ)
except SystemExit:
    os._exit(1)
os._exit(0)  # without waiting for a load on its thread
