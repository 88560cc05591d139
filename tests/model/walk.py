"""A walk of random steps by clients and by fate through the control plane; each answer is checked against the rules.

The walk is seeded, and not Hypothesis's machine, which needs more time for a step and cannot know that the loop has a
clock and an order of its own: with those, a seed repeats a walk (except the order within sets, when two gateways get a
message). Every step draws from its own seed, so leaving some out changes little about the others: `shrunk` finds the
few that matter.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import rules
import simulated
from plant import BUCKET, KINDS, REGION, TARGETS, Container, Plant, Wrong
from rules import DONE, Call, Model, Rules, Spec, State, Variant

NAMES = ("e", "f", "g")  # of endpoints
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"
ROLE = "arn:aws:iam::123456789012:role/r"
REST = 400.0  # seconds in which everything must come to rest


class Walk:
    """`folder` is its own. Its steps are methods whose names begin with `step_`, chosen by WEIGHTS."""

    def __init__(self, seed: int, folder: Path) -> None:
        draw = random.Random(seed)
        self.plant = Plant(folder, gateway_count=draw.choice((1, 1, 2)), hold=draw.choice((0.0, 0.0, 2.0)))
        self.rules = Rules(self.plant.hurt)
        self.seed = seed
        self.draw = draw
        self.number = 0

    async def run(self, steps: Iterable[int]) -> None:
        try:
            await self.plant.begin()
            for self.number in steps:
                self.draw = random.Random(f"{self.seed}.{self.number}")
                [name] = self.draw.choices([*WEIGHTS], [*WEIGHTS.values()])
                await getattr(self, f"step_{name}")()
                self.plant.check()
            await self.step_rest()
        except Exception as error:
            self.plant.log(f"{type(error).__name__}: {error}")
            raise Wrong("\n".join([f"seed {self.seed}, step {self.number}", *self.plant.history])) from error
        finally:
            await self.plant.end()

    # --- models and endpoint configs ------------------------------------------------------------------------------

    async def step_create_model(self) -> None:
        name = self._name("m", 6)
        [model] = self.draw.choices([*MODELS], [*MODELS.values()])
        containers = []
        for position in range(model.containers):
            multi_model = model.multi_model and position == model.containers - 1
            key = f"{model.kind}-{self.number}.tar.gz"
            self.plant.put(key)
            container: dict[str, Any] = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{key}"}
            if multi_model:
                container |= {"ModelDataUrl": f"s3://{BUCKET}/p/", "Mode": "MultiModel"}
            if model.kind in KINDS and position == 0:
                container["Environment"] = {"KIND": model.kind}
            containers.append(container)
        mode: dict[str, Any] = {"PrimaryContainer": containers[0]}
        if len(containers) > 1:
            mode = {"Containers": containers}
        if model.kind == "direct":
            mode["InferenceExecutionConfig"] = {"Mode": "Direct"}
            for position, container in enumerate(containers):
                container["ContainerHostname"] = f"h{position}"
        answer, _ = await self._call("CreateModel", ModelName=name, ExecutionRoleArn=ROLE, **mode)
        self._expect(answer, [self.rules.create_model(name, model)])
        if model.kind == "vanished":
            self.plant.remove(key)

    async def step_delete_model(self) -> None:
        name = self._name("m", 6)
        answer, _ = await self._call("DeleteModel", ModelName=name)
        self._expect(answer, [self.rules.delete_model(name)])

    async def step_create_config(self) -> None:
        draw = self.draw
        models = sorted(self.rules.models) or ["none"]
        variants = tuple(
            Variant(f"v{number}", draw.choice((1, 1, 2, 3)), draw.choice((0.5, 1.0, 3.0)), draw.choice(models))
            for number in draw.sample(range(3), draw.choice((1, 1, 2)))
        )
        if draw.random() < 0.05:
            variants = (Variant("v0", 1, 1.0, "nowhere"),)
        spec = Spec(self._name("c", 8), variants)
        asked = [
            {
                "VariantName": v.name, "ModelName": v.model_name, "InitialInstanceCount": v.count,
                "InitialVariantWeight": v.weight, "InstanceType": "ml.m5.large",
            }
            for v in variants
        ]  # fmt: skip
        answer, _ = await self._call("CreateEndpointConfig", EndpointConfigName=spec.config, ProductionVariants=asked)
        self._expect(answer, self.rules.create_config(spec))

    async def step_delete_config(self) -> None:
        name = self._name("c", 8)
        answer, _ = await self._call("DeleteEndpointConfig", EndpointConfigName=name)
        self._expect(answer, [self.rules.delete_config(name)])

    # --- endpoints ------------------------------------------------------------------------------------------------

    async def step_create_endpoint(self) -> None:
        await self._act(*self._a_create(self._endpoint(None)))

    async def step_update(self) -> None:
        await self._act(*self._an_update(self._endpoint("InService")))

    async def step_scale(self) -> None:
        await self._act(*self._a_scale(self._endpoint("InService")))

    async def step_delete(self) -> None:
        await self._act(*self._a_delete(self._endpoint("Failed")))

    async def step_race(self) -> None:
        """Two calls about one endpoint at the same time."""
        name = self._endpoint("InService")
        acts = [self._any_act(name) for _ in range(2)]
        answers = await asyncio.gather(*(self._call(operation, **request) for _, operation, request, _ in acts))
        (_, _, _, first), (_, _, _, second) = acts
        states = rules.after_both(self.rules.states(name), (first, answers[0][0]), (second, answers[1][0]))
        self._now(name, states, f"{[answer for answer, _ in answers]}")

    async def step_cut(self) -> None:
        """Control dies during a call, of which no client knows the outcome."""
        name, operation, request, call = self._any_act(self._endpoint("InService"))
        asking = asyncio.create_task(self._call(operation, **request))
        for _ in range(self.draw.randrange(12)):
            await asyncio.sleep(0)
        self.plant.log(f"cut: {operation}")
        dying = asyncio.create_task(self.plant.restart_control())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await dying
        states = self.rules.states(name)
        self._now(name, states | rules.after(states, call, DONE), "cut")

    async def step_describe(self) -> None:
        await self._look(self._endpoint())

    async def step_list(self) -> None:
        answer, document = await self._call("ListEndpoints")
        self._expect(answer, [DONE])
        shown = {each["EndpointName"]: each["EndpointStatus"] for each in document["Endpoints"]}
        for name in {*shown, *self.rules.endpoints}:
            self._now(name, rules.after(self.rules.states(name), self.rules.listed(shown.get(name)), DONE), f"{shown}")

    # --- fate -----------------------------------------------------------------------------------------------------

    async def step_time(self) -> None:
        seconds = self.draw.choice((0.0, 0.0, 0.01, 0.1, 0.5, 0.5, 2.0, 2.0, 8.0, 30.0))
        self.plant.log(f"{seconds} s pass")
        await asyncio.sleep(seconds)

    async def step_kill(self) -> None:
        if container := self._container():
            exit = self.draw.choice((-9, -15, 1, 0))
            self.plant.log(f"{container.id} ends with {exit}")
            self._endanger(container)
            self.plant.kill(container, exit)

    async def step_remove(self) -> None:
        """Others remove a container: the engine lists it no more."""
        if container := self._container():
            self.plant.log(f"{container.id} is removed")
            self._endanger(container)
            self.plant.hurts(container)
            self.plant.host.remove(container.id)

    async def step_leave(self) -> None:
        """Others are about to end an instance, or its machine is said to be lost; then perhaps it answers no more."""
        if container := self._container():
            fate = self.draw.choice(("leaving", "lost", "lost and deaf"))
            self.plant.log(f"{container.instance} is {fate}")
            self._endanger(container)
            self.plant.hurt.add(container.endpoint)  # its route may lose all instances
            self.plant.host.report(container.instance, **{fate.partition(" ")[0]: True})
            if fate == "lost and deaf" and container.kind == "good":
                self.plant.hurts(container)
                container.kind = "deaf"

    async def step_sicken(self) -> None:
        if container := self._container():
            kind = self.draw.choice(("sick", "deaf", "good"))
            self.plant.log(f"{container.id} is {kind} from now on")
            self._endanger(container)
            self.plant.hurts(container)
            if container.kind in ("sick", "deaf", "good") and not container.doomed:
                container.kind = kind

    async def step_trouble(self) -> None:
        """Every start fails, until the trouble ends."""
        host = self.plant.host
        host.trouble = "" if host.trouble else self.draw.choice(("refuse", *KINDS))
        self.plant.log(f"trouble: {host.trouble or 'over'}")
        self.rules.trouble = bool(host.trouble)
        if host.trouble:
            for name in self.rules.endpoints:
                self.rules.endanger(name)

    async def step_restart(self) -> None:
        self.plant.log("control dies")
        await self.plant.restart_control()

    async def step_gateway(self) -> None:
        if not self.plant.gateways:
            return
        gateway = self.plant.gateways[self.draw.choice(sorted(self.plant.gateways))]
        match self.draw.choice(("dies", "hangs", "late", "late")):
            case "dies":
                self.plant.log(f"{gateway.name} dies")
                await self.plant.end_gateway(gateway.pid)
            case "hangs":
                self.plant.log(f"{gateway.name} hangs")
                self.plant.spawn(gateway.hang(self.draw.choice((0.5, 3.0, 20.0))))
            case "late":
                gateway.late = self.draw.choice((0.0, 0.01, 0.5, 3.0))
                self.plant.log(f"{gateway.name} is late by {gateway.late} s")

    async def step_invoke(self) -> None:
        for pid in sorted(self.plant.gateways):
            for _ in range(3):
                target = self.draw.choice((*TARGETS, *TARGETS, "bad.tar.gz", "missing.tar.gz"))
                self.plant.gateways[pid].invoke(target, self.draw.choice((0.0, 0.1, 1.0, 10.0, 25.0)))

    async def step_tag(self) -> None:
        """Change hostler's tags: they change nothing that AWS's operations show."""
        name = self._endpoint()
        arn = f"arn:aws:sagemaker:{REGION}:123456789012:endpoint/{name}"
        topic = self.draw.choice([*TAG_VALUES])
        if self.draw.random() < 0.3:
            answer, _ = await self._call("DeleteTags", ResourceArn=arn, TagKeys=[topic])
        else:
            tag = {"Key": topic, "Value": self.draw.choice(TAG_VALUES[topic])}
            answer, _ = await self._call("AddTags", ResourceArn=arn, Tags=[tag])
        self._expect(answer, {"", f'Could not find endpoint "{arn.lower()}".'})

    async def step_rest(self) -> None:
        """Wait: everything must come to rest, and nothing may be left over."""
        plant = self.plant
        plant.log("rest")
        plant.host.trouble, self.rules.trouble = "", False
        for container in plant.host.containers.values():
            if plant.host.runs(container.id) and container.kind in ("sick", "deaf"):
                plant.kill(container, -9)
                self._endanger(container)
        for gateway in plant.gateways.values():
            gateway.late = 0.0
        until = plant.loop.time() + REST
        while unrest := await self._unrest():
            if plant.loop.time() > until:
                raise Wrong("not at rest:\n" + "\n".join(unrest))
            plant.check()
            await asyncio.sleep(5.0)
        plant.hurt.clear()
        plant.damaged.clear()
        for name in [*self.rules.endpoints]:
            await self._look(name)

    async def _unrest(self) -> list[str]:
        """Return what is not as it should be in the end."""
        unsettled, expected, running = [], {}, self.plant.running()
        for name in [*self.rules.endpoints]:
            await self._look(name)
            statuses = {state.status if state else None for state in self.rules.states(name)}
            if len(statuses) > 1 or statuses - {"InService", "Failed", None}:
                unsettled.append(f"{name} may be {statuses}")
            elif statuses != {None}:  # states that differ in a model that was made anew look the same to a client
                desired = [_containers(state) for state in self.rules.states(name) if state]
                expected[name] = running[name] if running[name] in desired else desired[0]
        return unsettled or self.plant.leftovers(expected)

    # --- how ------------------------------------------------------------------------------------------------------

    def _name(self, letter: str, most: int) -> str:
        name = f"{letter}{self.draw.randrange(most)}"
        return name.upper() if self.draw.random() < 0.02 else name

    def _endpoint(self, *statuses: str | None) -> str:
        """Choose an endpoint, mostly one that may have such a status, so that most steps have an effect."""
        fit = [
            n for n in NAMES if {state and state.status for state in rules.drift(self.rules.states(n))} & {*statuses}
        ]
        return self.draw.choice(fit if fit and self.draw.random() < 0.8 else NAMES)

    def _container(self) -> Container | None:
        host = self.plant.host
        running = [host.containers[id] for id in sorted(host.containers) if host.runs(id)]
        return self.draw.choice(running) if running else None

    def _endanger(self, container: Container) -> None:
        """The endpoint's update may fail if this container's instance belongs to it."""
        name = container.endpoint
        newest = {r.uid: r.revision for r, *_ in self.plant.control.store.changes().endpoints}
        uid, revision = container.revision
        if newest.get(uid) == revision or any(state and state.scaling for state in self.rules.states(name)):
            self.rules.endanger(name)

    Act = tuple[str, str, dict[str, Any], Call]  # endpoint, operation, request, right answers

    def _any_act(self, name: str) -> Act:
        return self.draw.choice((self._a_create, self._a_delete, self._an_update, self._an_update, self._a_scale))(name)

    def _a_create(self, name: str) -> Act:
        config = self._config()
        request = {"EndpointName": name, "EndpointConfigName": config}
        return name, "CreateEndpoint", request, self.rules.create(name, config)

    def _an_update(self, name: str) -> Act:
        config = self._config()
        retain = self.draw.random() < 0.3
        exclude = tuple(n for n in ("DesiredInstanceCount", "DesiredWeight") if retain and self.draw.random() < 0.3)
        request: dict[str, Any] = {"EndpointName": name, "EndpointConfigName": config}
        if retain:
            request["RetainAllVariantProperties"] = True
            request["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": name} for name in exclude]
        return name, "UpdateEndpoint", request, self.rules.update(name, config, retain, exclude)

    def _a_scale(self, name: str) -> Act:
        draw = self.draw
        specs = sorted((state.now or state.then for state in self.rules.states(name) if state), key=str)
        variants = [variant.name for spec in specs[:1] if spec for variant in spec.variants]
        if not variants or draw.random() < 0.1:
            variants = ["v0", "v1", "v2"]
        changes = {
            name: draw.choice(((None, 1), (None, 2), (None, 4), (0.25, None), (2.0, None), (4.0, 2)))
            for name in draw.sample(variants, min(len(variants), draw.choice((1, 1, 2))))
        }
        asked = [
            {"VariantName": variant}
            | ({} if weight is None else {"DesiredWeight": weight})
            | ({} if count is None else {"DesiredInstanceCount": count})
            for variant, (weight, count) in changes.items()
        ]
        request = {"EndpointName": name, "DesiredWeightsAndCapacities": asked}
        return name, "UpdateEndpointWeightsAndCapacities", request, self.rules.scale(name, changes)

    def _a_delete(self, name: str) -> Act:
        return name, "DeleteEndpoint", {"EndpointName": name}, self.rules.delete(name)

    def _config(self) -> str:
        configs = sorted(self.rules.configs)
        return self.draw.choice(configs) if configs and self.draw.random() < 0.95 else self._name("c", 8)

    async def _act(self, name: str, operation: str, request: dict[str, Any], call: Call) -> None:
        answer, _ = await self._call(operation, **request)
        self._now(name, rules.after(self.rules.states(name), call, answer), answer)

    async def _look(self, name: str) -> None:
        well = self.plant.well(name)
        answer, document = await self.plant.call("DescribeEndpoint", EndpointName=name)
        described = None if answer.startswith("Could not find endpoint ") else document
        before = self.rules.states(name)
        whole = name not in self.plant.hurt
        states = rules.after(before, self.rules.describe(name, described, whole), DONE)
        if states != before or not states:
            self.plant.log(f"DescribeEndpoint {name}: {answer or _brief(document)}")
        self._now(name, states, f"DescribeEndpoint {name}: {answer or document}")
        if document.get("EndpointStatus") == "InService":
            self.plant.is_in_service(name, document)
        if well == self.plant.well(name) and document.get("EndpointStatus") == "InService":
            counts = [(v["CurrentInstanceCount"], v["DesiredInstanceCount"]) for v in document["ProductionVariants"]]
            desired = {v["VariantName"]: v["DesiredInstanceCount"] for v in document["ProductionVariants"]}
            if well and all(now == then for now, then in counts) and self.plant.has_all(name, desired):
                self.plant.hurt.discard(name)

    def _now(self, name: str, states: rules.States, seen: str) -> None:
        if not states:
            before = "\n  ".join(map(str, rules.drift(self.rules.states(name))))
            raise Wrong(f"{name}: {seen}\nbut it can only have been\n  {before}")
        self.rules.endpoints[name] = states

    def _expect(self, answer: str, right: Iterable[str]) -> None:
        if answer not in (answers := [*right]):
            raise Wrong(f"answered {answer!r}, not one of {answers}")

    async def _call(self, operation: str, **request: Any) -> tuple[str, dict[str, Any]]:
        answer, document = await self.plant.call(operation, **request)
        self.plant.log(f"{operation} {_asked(request)}: {answer or 'done'}")
        return answer, document


MODELS = {
    Model("good"): 6, Model("many", multi_model=True): 6, Model("pipeline", containers=2, multi_model=True): 2,
    Model("direct", containers=3): 2,
    Model("crash", doomed=True): 1, Model("mute", doomed=True): 1, Model("sick", doomed=True): 1,
    Model("vanished", doomed=True): 1,
}  # fmt: skip
WEIGHTS = {
    "create_model": 4, "delete_model": 1, "create_config": 6, "delete_config": 1.5,
    "create_endpoint": 6, "update": 8, "scale": 8, "delete": 1.5, "race": 2, "cut": 1, "describe": 10, "list": 2,
    "time": 30, "kill": 4, "remove": 2, "leave": 3, "sicken": 2, "trouble": 2, "restart": 1, "gateway": 3, "invoke": 8,
    "rest": 0.5, "tag": 4,
}  # fmt: skip
TAG_VALUES = {
    "hostler:idle-ttl": ("0", "2", "30"),
    "hostler:pin": ("t1.tar.gz", "t1.tar.gz t2.tar.gz t3.tar.gz", "..."),
    "hostler:preload": ("t1.tar.gz t2.tar.gz", "missing.tar.gz bad.tar.gz t3.tar.gz"),
}


def _containers(state: State) -> Counter[tuple[str, int]]:
    if state.now is None:
        return Counter()
    return Counter({(v.name, v.model.containers): v.count for v in state.now.variants if v.model})


def _asked(request: dict[str, Any]) -> str:
    words = []
    for name, value in request.items():
        if name == "ProductionVariants":
            value = [(v["VariantName"], v["ModelName"], v["InitialInstanceCount"]) for v in value]
        if name in ("PrimaryContainer", "Containers"):
            value = [c["ModelDataUrl"] for c in (value if name == "Containers" else [value])]
        if name != "ExecutionRoleArn":
            words.append(str(value))
    return " ".join(words)


def _brief(document: dict[str, Any]) -> str:
    members = ("CurrentWeight", "DesiredWeight", "CurrentInstanceCount", "DesiredInstanceCount")
    variants = [(v["VariantName"], *map(v.get, members)) for v in document.get("ProductionVariants", [])]
    reason = document.get("FailureReason", "")[:60]
    return f"{document['EndpointStatus']} {document['EndpointConfigName']} {reason} {variants}"


def walk(seed: int, steps: Iterable[int]) -> None:
    """Run the steps. Raises Wrong, with the history before it."""
    folder = Path(tempfile.mkdtemp(prefix="walk", dir=_quick()))
    try:
        simulated.run(_walk(seed, folder, steps), seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _walk(seed: int, folder: Path, steps: Iterable[int]) -> None:
    await Walk(seed, folder).run(steps)


def _quick() -> str | None:
    """Return a folder in memory, if there is one: the store calls fsync often."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def shrunk(seed: int, steps: list[int]) -> list[int]:
    """Return fewer steps with which the walk still goes wrong."""
    size = len(steps) // 2
    while size:
        for start in range(len(steps) - size, -1, -size):
            fewer = steps[:start] + steps[start + size :]
            try:
                walk(seed, fewer)
            except Wrong:
                steps = fewer
        size //= 2
    return steps
