"""How far a pull has come, from the messages of Docker's stream. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LARGE = 10**9  # bytes


class PullProgress:
    """Adds up the layers of one pull. Layers whose size is not known yet count as large as the known ones."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._sizes: dict[str, int] = {}  # bytes, by layer; 0: not known yet
        self._loaded: dict[str, int] = {}  # bytes that came
        self._whole: set[str] = set()  # layers of which all bytes came
        self._unpacked: dict[str, int] = {}
        self._most = 0.0  # share of the bytes that was shown
        self._trying_again = False

    @property
    def size(self) -> int:
        """Bytes of all layers that were pulled, as they came."""
        return sum(self._sizes.values())

    def take(self, message: Mapping[str, Any]) -> None:
        """Take note of a message."""
        status, layer = str(message.get("status", "")), str(message.get("id", ""))
        detail = message.get("progressDetail")
        current, total = _bytes(detail, "current"), _bytes(detail, "total")
        self._trying_again = status.startswith("Retrying")
        if status in ("Pulling fs layer", "Waiting") or self._trying_again:
            self._sizes.setdefault(layer, 0)
        elif status == "Already exists":
            self._sizes.pop(layer, None)
        elif status == "Downloading":  # after a connection broke it may lack the total
            self._sizes[layer] = total or max(current, self._sizes.get(layer, 0))
            self._loaded[layer] = current
        elif status in ("Download complete", "Extracting", "Pull complete"):
            self._sizes[layer] = max(total, self._sizes.get(layer, 0))
            self._loaded[layer] = self._sizes[layer]
            self._whole.add(layer)
            if status != "Download complete":
                self._unpacked[layer] = current if status == "Extracting" else self._sizes[layer]

    def __str__(self) -> str:
        """Return it for people: `pulling x: 45 %`, then `unpacking x: 10 %`. Within each the figure never falls."""
        if self._sizes and self._whole >= self._sizes.keys():
            return f"unpacking {self._image}: {self._percent(self._share(self._unpacked))}"
        self._most = max(self._most, self._share(self._loaded))
        again = ", trying again after the connection broke" if self._trying_again else ""
        return f"pulling {self._image}: {self._percent(self._most)}{again}"

    def _percent(self, share: float) -> str:
        """Return a share that changes within a minute or two even if a large image comes slowly."""
        return f"{int(1000 * share) / 10:.1f} %" if self.size >= _LARGE else f"{int(100 * share)} %"

    def _share(self, done: Mapping[str, int]) -> float:
        known = [size for size in self._sizes.values() if size]
        if not known:
            return 0.0
        unknown = sum(1 for layer, size in self._sizes.items() if not size and layer not in self._loaded)
        return sum(done.values()) / (sum(known) + unknown * sum(known) / len(known))


def _bytes(detail: object, name: str) -> int:
    value = detail.get(name) if isinstance(detail, dict) else 0
    return value if isinstance(value, int) and value > 0 else 0
