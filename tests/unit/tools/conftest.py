"""The commands of the repository can be imported."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))  # last: it must hide nothing
