"""Media types: those that bodies may have, and the one to answer in. They come without parameters, in lower case."""

from __future__ import annotations

from functools import lru_cache

from hostler.servers.frameworks.predictor import Rejected

CSV = "text/csv"
JSON = "application/json"
JSON_LINES = "application/jsonlines"
NPY = "application/x-npy"
LIBSVM = "text/libsvm"
X_LIBSVM = "text/x-libsvm"
ANY = "*/*"


@lru_cache(maxsize=256)
def type_of(header: str) -> str:
    """`text/csv` of `Text/CSV; charset=utf-8`; empty text stays empty."""
    return header.partition(";")[0].strip().lower()


@lru_cache(maxsize=256)
def accepted(header: str, offered: tuple[str, ...], default: str) -> str:
    """The media type to answer in: of those offered, what Accept likes best; nothing or `*/*` means the default.

    Raises Rejected (406). Commas join choices and `q` weighs them (RFC 9110 §12.5.1); equals are taken as they stand.
    """
    choices: list[tuple[float, str]] = []
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind:
            choices.append((_weight(parameters), kind))
    for weight, kind in sorted(choices or [(1.0, ANY)], key=lambda choice: -choice[0]):
        if weight <= 0:
            continue
        if kind == ANY:
            return default
        if kind in offered:
            return kind
        if kind.endswith("/*"):
            for one in (default, *offered):
                if one.startswith(kind[:-1]):
                    return one
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
