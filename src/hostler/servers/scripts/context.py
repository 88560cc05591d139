"""The `context` that a script's functions may take: that of Multi Model Server (mms/context.py) and of TorchServe.

One object serves all calls of a process. Before the first call it has no request, as there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

from hostler import contract

_OURS = (contract.H_CALL, "host", "content-length")
_CONTENT_TYPE = "content-type"
_UNITS = {"time": ("ms", "s"), "size": ("MB", "kB", "GB", "B")}


class RequestHeaders(dict[str, object]):
    """A request's headers, named as AWS writes them, and found by a name in any letters.

    `body` is among them, as in the servers of AWS's images: the headers of the request's only part.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__({_written(name): value for name, value in headers.items() if name not in _OURS})
        self["body"] = {_CONTENT_TYPE: headers.get(_CONTENT_TYPE, "")}

    def __missing__(self, name: str) -> object:
        if (written := _written(name)) == name:
            raise KeyError(name)
        return self[written]

    def get(self, name: str, default: object = None) -> object:
        return super().get(name, super().get(_written(name), default))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and super().__contains__(_written(name)))


class RequestProcessor:
    """A request's headers, and the status and headers that a script gives its answer."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._request = RequestHeaders(headers)
        self._status = 200
        self._phrase: str | None = None
        self._response: dict[str, str] = {}

    def get_request_property(self, key: str) -> object:
        return self._request.get(key)

    def get_request_properties(self) -> RequestHeaders:
        return self._request

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        self._status, self._phrase = code, reason_phrase

    def get_response_status_code(self) -> int:
        return self._status

    def get_response_status_phrase(self) -> str | None:
        return self._phrase

    def add_response_property(self, key: str, value: str) -> None:
        self._response[key] = value

    def get_response_headers(self) -> dict[str, str]:
        return self._response

    def get_response_header(self, key: str) -> str | None:
        return self._response.get(key)


class Metrics:
    """Takes a script's metrics, with the arguments of both servers; nobody reads them here."""

    def add_counter(self, name: str, value: float, idx: object = None, *more: object, **named: object) -> None: ...

    def add_percent(self, name: str, value: float, idx: object = None, *more: object, **named: object) -> None: ...

    def add_error(self, name: str, value: object, *more: object, **named: object) -> None: ...

    def add_metric(self, name: str, value: object, *more: object, **named: object) -> None: ...

    def add_time(
        self, name: str, value: float, idx: object = None, unit: str = "ms", *more: object, **named: object
    ) -> None:
        """Raises ValueError for another unit than ms and s."""
        _check_unit("time", unit)

    def add_size(
        self, name: str, value: float, idx: object = None, unit: str = "MB", *more: object, **named: object
    ) -> None:
        """Raises ValueError for another unit than MB, kB, GB and B."""
        _check_unit("size", unit)


class Context:
    """What a script may ask about its model and the request, and say of the answer."""

    def __init__(self, model_name: str, model_dir: Path, server_version: str) -> None:
        self.model_name = model_name
        self.manifest = _manifest(model_dir)
        self.metrics = Metrics()
        self.request_processor: list[RequestProcessor] | None = None
        self.request_ids: dict[int, str] | None = None
        self.system_properties: dict[str, object] = {
            "model_dir": str(model_dir),
            "gpu_id": None,
            "batch_size": 1,
            "server_name": "MMS",
            "server_version": server_version,
            "limit_max_image_pixels": True,
        }

    def begin(self, headers: Mapping[str, str]) -> RequestProcessor:
        """Take the next request's headers in place of the last one's."""
        request = RequestProcessor(headers)
        self.request_processor = [request]
        self.request_ids = {0: headers.get(contract.H_CALL, "").partition(" ")[0] or str(uuid.uuid4())}
        return request

    @property
    def _request_processor(self) -> list[RequestProcessor] | None:  # scripts are known to use it
        return self.request_processor

    def get_request_id(self, idx: int = 0) -> str | None:
        return self.request_ids.get(idx) if self.request_ids else None

    def get_request_header(self, idx: int, key: str) -> object:
        return self._of(idx).get_request_property(key)

    def get_all_request_header(self, idx: int) -> RequestHeaders:
        return self._of(idx).get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, _CONTENT_TYPE, value)

    def get_response_content_type(self, idx: int) -> str | None:
        return self.get_response_headers(idx).get(_CONTENT_TYPE)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self._of(idx).add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        return self._of(idx).get_response_headers()

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        return self._of(idx).get_response_status_code(), self._of(idx).get_response_status_phrase()

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        if self.request_processor is not None:
            self._of(idx).report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        for processor in self.request_processor or []:
            processor.report_status(code, phrase)

    def _of(self, idx: int) -> RequestProcessor:
        """Return the processor of a request. Raises TypeError while there is none, as AWS's servers do."""
        if self.request_processor is None:
            raise TypeError("there is no request yet: a model is loaded without one")
        return self.request_processor[idx]


def _written(name: str) -> str:
    """Return a header's name as AWS writes it: `X-Amzn-SageMaker-Custom-Attributes`."""
    return "-".join(part.capitalize() for part in name.lower().split("-")).replace("-Sagemaker-", "-SageMaker-")


def _manifest(folder: Path) -> object:
    """Return the manifest of a model archive of these servers; None if the folder has none."""
    file = folder / "MAR-INF/MANIFEST.json"
    return json.loads(file.read_text()) if file.is_file() else None


def _check_unit(kind: str, unit: str) -> None:
    if unit not in _UNITS[kind]:
        raise ValueError(f"the unit of a {kind} metric is one of {', '.join(_UNITS[kind])}")
