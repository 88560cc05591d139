"""What the engine asks of a cluster besides lists and watches: pods are created and ended, output is read."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from lightkube.models.meta_v1 import OwnerReference
from lightkube.resources.core_v1 import ConfigMap
from lightkube.resources.core_v1 import Pod as NewPod

from hostler.engines.kubernetes import pods
from hostler.engines.kubernetes.answers import Pod
from hostler.engines.kubernetes.api import Api, Refused, ask
from hostler.engines.kubernetes.own_pod import OwnPod
from hostler.errors import EngineError, NoCapacity
from hostler.setting_tables import Kubernetes

logger = logging.getLogger("hostler.engine")

_LINE = 80  # bytes of a line of output, about
_QUOTA = "exceeded quota"  # in the message of a ResourceQuota's refusal, which has the code of a missing right: 403
_RIGHTS = "cannot create resource"  # in the message of a right that is missing
_ADVICE = " hostler doctor --cluster says which rights are missing."
_NO_OWNER = (
    "The ConfigMap {owner} in the namespace {namespace}, which owns the pods of instances, is not there: hostler's"
    " chart makes it, and the setting owner of [kubernetes] names it."
)


class Calls:
    """Those of a house. All raise EngineError. `own`: this control's pod, if it runs in one. While Kubernetes does not
    say that it has that pod, none is created or ended.
    """

    def __init__(self, api: Api, house: str, table: Kubernetes, own: OwnPod | None) -> None:
        self._api, self._house, self._table, self._own = api, house, table, own

    async def create(self, pod: NewPod) -> bool:
        """Create a pod; return False if one of its name is there. Raises NoCapacity beyond a quota."""
        await self._check()
        try:
            await ask(self._api.client.create(pod))
        except Refused as error:
            if error.code == 409:
                return False
            if _QUOTA in (why := str(error).rstrip(".")):
                raise NoCapacity(f"The quota of the instances' namespace is used up: {why}.") from None
            advice = _ADVICE if _RIGHTS in why else ""
            raise EngineError(f"The pod of the instance cannot be created: {why}.{advice}") from None
        return True

    async def delete(self, name: str, grace: int) -> bool:
        """Have a pod end; return whether it was there."""
        await self._check()
        client, namespace = self._api.client, self._table.namespace
        return await _found(client.delete(NewPod, name, namespace=namespace, grace_period=grace))

    async def is_there(self, name: str) -> bool:
        """Return whether there is a pod of this name."""
        return await _found(self._api.client.get(NewPod, name, namespace=self._table.namespace))

    async def owner(self) -> OwnerReference:
        """Return the reference to the ConfigMap that owns the pods, as it is now."""
        name, namespace = self._table.owner, self._table.namespace
        try:
            found = await ask(self._api.client.get(ConfigMap, name, namespace=namespace))
        except Refused as error:
            if error.code == 404:
                raise EngineError(_NO_OWNER.format(owner=name, namespace=namespace)) from None
            raise
        uid = (found.metadata and found.metadata.uid) or ""
        return OwnerReference(apiVersion="v1", kind="ConfigMap", name=name, uid=uid, controller=True)

    async def name_others(self, owner: OwnerReference) -> None:
        """Say which pods of this owner are another house's: that of a store that was lost, for instance."""
        namespace = self._table.namespace
        selector = f"{pods.MANAGED_BY}={pods.OURS},{pods.HOUSE}!={self._house}"
        found, _ = await self._api.list(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector}, Pod)
        ours = [pod for pod in found if owner.uid in [each.uid for each in pod.metadata.owner_references or ()]]
        houses = [pod.labels.get(pods.HOUSE, "") for pod in ours]
        for house in sorted({*houses}):
            logger.warning(
                "%d pods are of another store than this one's, and are left alone. If that is gone for good:"
                " kubectl -n %s delete pods -l %s=%s",
                houses.count(house), namespace, pods.HOUSE, house,
            )  # fmt: skip

    async def output(self, name: str, position: int, tail: int) -> str:
        """Return about the last `tail` bytes of a container's output."""

        async def read() -> str:
            lines = self._api.client.log(
                name, namespace=self._table.namespace, container=pods.container(position),
                tail_lines=max(1, tail // _LINE),
            )  # fmt: skip
            return "".join([line async for line in lines])

        return (await ask(read())).encode()[-tail:].decode(errors="ignore")

    async def _check(self) -> None:
        if self._own is not None:
            await self._own.check()


async def _found(call: Awaitable[object]) -> bool:
    """Make a call; return whether what it is about was there."""
    try:
        await ask(call)
    except Refused as error:
        if error.code == 404:
            return False
        raise
    return True
