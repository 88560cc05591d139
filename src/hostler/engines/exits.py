"""How a container ended, by the code that its engine reports."""

from __future__ import annotations

_SIGNALS = 64


def exit_code(code: int) -> int:
    """Return an exit code, or the negative signal that ended the process: Docker, Kubernetes and shells report 128 +
    its number.
    """
    return 128 - code if 128 < code <= 128 + _SIGNALS else code
