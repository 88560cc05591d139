"""The measurements can be imported."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "bench"))  # last: it must hide nothing
