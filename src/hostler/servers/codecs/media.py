"""Media types: those of bodies, and the choice of the answer's. They are without parameters and in lower case."""

from __future__ import annotations

from functools import lru_cache

from hostler.servers.frameworks.predictor import Rejected

CSV = "text/csv"
JSON = "application/json"
JSON_LINES = "application/jsonlines"
NPY = "application/x-npy"
LIBSVM = "text/libsvm"
X_LIBSVM = "text/x-libsvm"
RECORDIO = "application/x-recordio-protobuf"
ANY = "*/*"


@lru_cache(maxsize=256)
def type_of(header: str) -> str:
    """Return the media type of a Content-Type: `text/csv` of `Text/CSV; charset=utf-8`; empty text stays empty."""
    return header.partition(";")[0].strip().lower()


@lru_cache(maxsize=256)
def accepted(header: str, offered: tuple[str, ...], default: str) -> str:
    """Return the offered media type that an Accept header prefers; the default for an empty one or `*/*`.

    Raises Rejected (406). Commas join choices, `q` weighs them (RFC 9110 §12.5.1), and their order breaks ties.
    """
    choices: list[tuple[float, str]] = []
    for part in header.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_type:
            choices.append((_weight(parameters), media_type))
    for weight, media_type in sorted(choices or [(1.0, ANY)], key=lambda choice: -choice[0]):
        if weight <= 0:
            continue
        if media_type == ANY:
            return default
        if media_type in offered:
            return media_type
        if media_type.endswith("/*"):
            for candidate in (default, *offered):
                if candidate.startswith(media_type[:-1]):
                    return candidate
    raise Rejected(406, f"Accept type {header} is not supported. Supported accept types: {', '.join(offered)}.")


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
