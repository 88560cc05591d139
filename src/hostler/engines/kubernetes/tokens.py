"""The doorman of a cluster: agents and gateways prove who they are by the tokens of their pods.

Kubernetes makes such a token for one audience, one pod and about an hour. Only it can say whether a token is good, by a
TokenReview; so a token that was made for anything else is none here, and one that is shown here is good nowhere else.
"""

from __future__ import annotations

import logging

from lightkube.models.authentication_v1 import TokenReviewSpec, UserInfo
from lightkube.resources.authentication_v1 import TokenReview

from hostler.engines.kubernetes import pods
from hostler.engines.kubernetes.api import Api, ask
from hostler.errors import EngineError
from hostler.setting_tables import Kubernetes
from hostler.wire.door import Knock, Peer

logger = logging.getLogger("hostler.engine")

_POD = "authentication.kubernetes.io/pod-name"  # in a user's extra
_ACCOUNT = "system:serviceaccount"
_PATIENCE = 8.0  # seconds for a review: the door waits a little longer


class TokenDoor:
    """Admits agents of the house's pods, and gateways. `table`: the names of namespaces and service accounts."""

    def __init__(self, api: Api, house: str, table: Kubernetes) -> None:
        self._api = api
        self._house = house
        self._accounts = {
            "agent": f"{_ACCOUNT}:{table.namespace}:{table.service_account}",
            "gateway": f"{_ACCOUNT}:{table.control_namespace}:{table.gateway_service_account}",
        }

    async def admit(self, knock: Knock) -> Peer | None:
        """Return who knocks, or None. A gateway has the name of its pod, an agent the id of its instance."""
        if not knock.proof:
            return None
        review = TokenReview(spec=TokenReviewSpec(token=knock.proof, audiences=[pods.AUDIENCE]))
        try:
            found = await ask(self._api.client.create(review), _PATIENCE)
        except EngineError as error:
            logger.warning("the token of %s %r cannot be reviewed: %s", knock.role, knock.name[:100], error)
            return None
        status = found.status
        if status is None or not status.authenticated or pods.AUDIENCE not in (status.audiences or ()):
            return None
        user = status.user or UserInfo()
        pod = pods.name(self._house, knock.name) if knock.role == "agent" else knock.name
        fits = user.username == self._accounts[knock.role] and (user.extra or {}).get(_POD) == [pod]
        return Peer(knock.role, knock.name) if fits else None
