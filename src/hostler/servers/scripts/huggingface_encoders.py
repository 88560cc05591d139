"""Bodies to a pipeline's inputs and predictions to bodies, as the Hugging Face toolkit does (decoder_encoder.py).

A media type must be as it stands there, without parameters; only of audio any other is taken, too. Nothing is
unpickled. Whatever is raised is a client's error: see huggingface_toolkit.py.
"""

from __future__ import annotations

import base64
import csv
import datetime
import importlib.util
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from hostler import failures
from hostler.servers.codecs import media
from hostler.servers.frameworks.predictor import Rejected
from hostler.servers.scripts.containers_encoders import array_to_npy, npy_to_numpy

TEXT = (media.JSON, media.CSV)  # bodies that a script gets as text
_AUDIO = "audio/"
_ANY_IMAGE = "image/x-image"
_IMAGES = ("image/jpeg", "image/png", "image/tiff", "image/bmp", "image/gif", "image/webp", _ANY_IMAGE)
_COLUMNS = ("question", "context", "inputs")  # one of these must be in the first line of a CSV body


class _Picture(Protocol):
    """One of Pillow's."""

    def save(self, fp: io.BytesIO, format: str) -> None: ...


def decode(content: str | bytes | bytearray, content_type: str | None = media.JSON, pictures: bool = True) -> object:
    """Return a body's inputs. `pictures`: whether the image takes pictures and audio.

    Raises Rejected, ClientError, ValueError.
    """
    if content_type == media.JSON:
        return json.loads(content)
    if content_type == media.CSV:
        return _of_csv(content if isinstance(content, str) else content.decode())
    if content_type == media.NPY:
        return npy_to_numpy(content.encode() if isinstance(content, str) else content)
    if pictures and content_type in _IMAGES:
        return {"inputs": _picture(content)}
    if pictures and content_type and content_type.startswith(_AUDIO):
        return {"inputs": content.encode() if isinstance(content, str) else bytes(content)}
    raise Rejected(400, f"Content type {content_type} has no default input_fn: the script may define one.")


def encode(content: Any, accept_type: str = media.JSON) -> str | bytes:
    """Return a content's body. Raises Rejected, TypeError, ValueError, and what a value's own methods raise."""
    if accept_type == media.JSON:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    if accept_type == media.CSV:
        return _to_csv(content)
    if accept_type == media.NPY:
        return array_to_npy(content)
    if accept_type in _IMAGES:
        return _saved(content, "PNG" if accept_type == _ANY_IMAGE else accept_type.rpartition("/")[2].upper())
    raise Rejected(400, f"Accept {accept_type} has no default output_fn: the script may define one.")


def _of_csv(text: str) -> dict[str, object]:
    """Return the column `inputs` if there is one, else the records."""
    header = (text.splitlines() or [""])[0].lower()
    if not any(column in header for column in _COLUMNS):
        raise Rejected(400, f"The CSV body needs a first line of column names, such as {', '.join(_COLUMNS)}.")
    records = list(csv.DictReader(io.StringIO(text)))
    if not records:
        raise Rejected(400, "The CSV body has no line after its column names.")
    if "inputs" in records[0]:
        return {"inputs": [record["inputs"] for record in records]}
    return {"inputs": records}


def _picture(data: str | bytes | bytearray) -> object:
    if importlib.util.find_spec("PIL") is None:
        raise Rejected(400, f"Pictures need Pillow, which is not installed here: {failures.extra('huggingface')}")
    from PIL import Image

    return Image.open(io.BytesIO(data.encode() if isinstance(data, str) else data)).convert("RGB")


def _plain(value: object) -> object:
    """Return what JSON holds in place of a value that it cannot hold. Raises TypeError."""
    if hasattr(value, "tolist"):  # arrays and numbers of numpy, and tensors
        return value.tolist()
    if isinstance(value, datetime.datetime):
        return str(value)
    if hasattr(value, "convert") and hasattr(value, "save"):  # a picture of Pillow's
        return base64.b64encode(_saved(value, "PNG")).decode()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _to_csv(prediction: Iterable[Mapping[str, object]]) -> str:
    records = list(prediction)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, records[0].keys())
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def _saved(picture: _Picture, form: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=form)
    return stream.getvalue()
