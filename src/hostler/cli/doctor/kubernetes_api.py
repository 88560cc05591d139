"""Questions to the API of Kubernetes. An answer that is refused is an answer, too."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple

import httpx2
from lightkube import KubeConfig
from lightkube.config import client_adapter
from lightkube.core.exceptions import ConfigError

from hostler.errors import UserError

_SECONDS = 10.0  # for an answer
# A Secret's keys are nobody's business here: this leaves out all but the metadata.
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Answer(NamedTuple):
    """`body`: the JSON object; of a refusal its Status."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def items(self) -> list[dict[str, Any]] | None:
        """The objects of a list; None if it may not be read."""
        return self.body.get("items", []) if self.ok else None

    @property
    def message(self) -> str:
        return str(self.body.get("message") or f"status {self.status}")


class Api:
    """The API server of a configuration; by default of the pod's service account, KUBECONFIG or ~/.kube/config."""

    def __init__(self, config: KubeConfig | None = None) -> None:
        """Raises UserError without a usable configuration."""
        try:
            one = (config or KubeConfig.from_env()).get()
            if one is None:
                raise ConfigError("there is no current context")
            parameters = client_adapter.ConnectionParams(timeout=httpx2.Timeout(_SECONDS))
            self._http = client_adapter.Client(one, parameters)
        except (ConfigError, OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise UserError(f"no cluster is known here: {error}; set KUBECONFIG") from None
        self.server = one.cluster.server
        self.in_pod = one.fname is None

    def get(self, path: str, accept: str = "application/json", **query: str) -> Answer:
        """GET a path. Raises UserError if nobody answers."""
        return self._ask("GET", path, params=query, headers={"Accept": accept})

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        return self._ask("POST", path, json=body)

    def delete(self, path: str) -> Answer:
        return self._ask("DELETE", path, params={"gracePeriodSeconds": "0"})

    def _ask(self, method: str, path: str, **more: Any) -> Answer:
        try:
            response = self._http.request(method, path, **more)
            body = response.json()
        except httpx2.HTTPError as error:
            raise UserError(f"{self.server} does not answer: {error or type(error).__name__}") from None
        except ValueError:
            body = None
        return Answer(response.status_code, body if isinstance(body, dict) else {})

    def __enter__(self) -> Api:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()
