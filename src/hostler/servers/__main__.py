"""`python -m hostler.servers serve`: our model server as the command of a user's own image."""

from __future__ import annotations

import sys

from hostler.contract import SERVE
from hostler.servers import main

if sys.argv[1:] != [SERVE]:
    print(f"usage: python -m hostler.servers {SERVE}", file=sys.stderr)
    sys.exit(2)
main.run(everywhere=True)
