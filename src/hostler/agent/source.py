"""Where an agent's artifacts come from: S3 itself, or control. Files of control's machine come from control always."""

from __future__ import annotations

from hostler import names
from hostler.artifacts.control_source import ControlSource
from hostler.artifacts.source import Listed, ObstoreSource, Opened, Source, Unchanged
from hostler.wire.agent_messages import Welcome
from hostler.wire.http_client import ConnectionPool
from hostler.wire.transport import split


class AgentSource:
    """Source as the last Welcome says. `control_address`: of control's door."""

    def __init__(self, pool: ConnectionPool, control_address: str) -> None:
        self._control = ControlSource(pool)
        self._control_address = control_address
        self._s3_endpoint = ""
        self._s3: Source = self._control

    def use(self, welcome: Welcome) -> None:
        """Take over what a Welcome says."""
        self._control.passkey = welcome.passkey
        self._control.address = _reached(welcome.api, self._control_address) if welcome.api else ""
        if welcome.s3_endpoint != self._s3_endpoint:
            self._s3_endpoint = welcome.s3_endpoint
            self._s3 = ObstoreSource(welcome.s3_endpoint) if welcome.s3_endpoint else self._control

    async def open(self, bucket: str, key: str, known: str = "") -> Opened | Unchanged:
        return await self._of(bucket).open(bucket, key, known)

    async def list(self, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        return await self._of(bucket).list(bucket, prefix, most)

    def _of(self, bucket: str) -> Source:
        return self._control if bucket == names.FILES else self._s3


def _reached(api: str, control_address: str) -> str:
    """Return where control's API is reached: at the host by which its door is reached, and the port that it names."""
    kind, _, port = split(api)
    return f"{kind}:{control_address.partition(':')[2].rpartition(':')[0]}:{port}"
