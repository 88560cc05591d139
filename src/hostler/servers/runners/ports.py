"""The ports of a server's processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class FreePorts:
    """The ports that no process has. The last of a range is taken first: programs of the container begin at the first.

    A port that was released is taken again as late as possible: somebody may still send requests there.
    """

    def __init__(self, ports: Iterable[int] = ()) -> None:
        self._free = deque(sorted(ports, reverse=True))

    def take(self, preferred: int = 0) -> int:
        """Take a port: the preferred one if it is free. 0: there is none."""
        if preferred in self._free:
            self._free.remove(preferred)
            return preferred
        return self._free.popleft() if self._free else 0

    def release(self, port: int) -> None:
        self._free.append(port)
