"""A walk through what clients and fate may do to the control plane, in any order; each answer is held to the rules.

A seeded walk of our own, and not Hypothesis's machine: that one takes its time for each step and cannot know that the
loop has a clock and an order of its own, so that a seed is all that it takes to see the same again (all but the order
within sets, where two gateways are told of something). Every step draws from a seed of its own, so leaving some out
changes little about the others: `shrunk` finds the few that matter.
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
from rules import DONE, Call, Life, Model, Rules, Spec, Variant

NAMES = ("e", "f", "g")  # of endpoints
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"
ROLE = "arn:aws:iam::123456789012:role/r"
REST = 400.0  # seconds in which everything must come to rest
STORY = 40  # of the last things that happened, how many are told


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
            self.plant.tell(f"{type(error).__name__}: {error}")
            raise Wrong("\n".join([f"seed {self.seed}, step {self.number}", *self.plant.story])) from error
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
        known = sorted(self.rules.models) or ["none"]
        variants = tuple(
            Variant(f"v{number}", draw.choice((1, 1, 2, 3)), draw.choice((0.5, 1.0, 3.0)), draw.choice(known))
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
        lives = rules.after_both(self.rules.lives(name), (first, answers[0][0]), (second, answers[1][0]))
        self._now(name, lives, f"{[answer for answer, _ in answers]}")

    async def step_cut(self) -> None:
        """Control dies while it is asked: what came of that, nobody knows."""
        name, operation, request, call = self._any_act(self._endpoint("InService"))
        asking = asyncio.create_task(self._call(operation, **request))
        for _ in range(self.draw.randrange(12)):
            await asyncio.sleep(0)
        self.plant.tell(f"cut: {operation}")
        dying = asyncio.create_task(self.plant.restart_control())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await dying
        lives = self.rules.lives(name)
        self._now(name, lives | rules.after(lives, call, DONE), "cut")

    async def step_describe(self) -> None:
        await self._look(self._endpoint())

    async def step_list(self) -> None:
        answer, told = await self._call("ListEndpoints")
        self._expect(answer, [DONE])
        shown = {one["EndpointName"]: one["EndpointStatus"] for one in told["Endpoints"]}
        for name in {*shown, *self.rules.endpoints}:
            self._now(name, rules.after(self.rules.lives(name), self.rules.listed(shown.get(name)), DONE), f"{shown}")

    # --- fate -----------------------------------------------------------------------------------------------------

    async def step_time(self) -> None:
        seconds = self.draw.choice((0.0, 0.0, 0.01, 0.1, 0.5, 0.5, 2.0, 2.0, 8.0, 30.0))
        self.plant.tell(f"{seconds} s pass")
        await asyncio.sleep(seconds)

    async def step_kill(self) -> None:
        if container := self._container():
            exit = self.draw.choice((-9, -15, 1, 0))
            self.plant.tell(f"{container.id} ends with {exit}")
            self._endanger(container)
            self.plant.kill(container, exit)

    async def step_sicken(self) -> None:
        if container := self._container():
            kind = self.draw.choice(("sick", "deaf", "good"))
            self.plant.tell(f"{container.id} is {kind} from now on")
            self._endanger(container)
            self.plant.hurts(container)
            if container.kind in ("sick", "deaf", "good") and not container.doomed:
                container.kind = kind

    async def step_trouble(self) -> None:
        """Whatever is started, is started in vain, until it passes."""
        host = self.plant.host
        host.trouble = "" if host.trouble else self.draw.choice(("refuse", *KINDS))
        self.plant.tell(f"trouble: {host.trouble or 'over'}")
        self.rules.trouble = bool(host.trouble)
        if host.trouble:
            for name in self.rules.endpoints:
                self.rules.endanger(name)

    async def step_restart(self) -> None:
        self.plant.tell("control dies")
        await self.plant.restart_control()

    async def step_gateway(self) -> None:
        if not self.plant.gateways:
            return
        gateway = self.plant.gateways[self.draw.choice(sorted(self.plant.gateways))]
        match self.draw.choice(("dies", "hangs", "late", "late")):
            case "dies":
                self.plant.tell(f"{gateway.name} dies")
                await self.plant.end_gateway(gateway.pid)
            case "hangs":
                self.plant.tell(f"{gateway.name} hangs")
                self.plant.spawn(gateway.hang(self.draw.choice((0.5, 3.0, 20.0))))
            case "late":
                gateway.late = self.draw.choice((0.0, 0.01, 0.5, 3.0))
                self.plant.tell(f"{gateway.name} is late by {gateway.late} s")

    async def step_invoke(self) -> None:
        for pid in sorted(self.plant.gateways):
            for _ in range(3):
                target = self.draw.choice((*TARGETS, *TARGETS, "bad.tar.gz", "missing.tar.gz"))
                self.plant.gateways[pid].invoke(target, self.draw.choice((0.0, 0.1, 1.0, 10.0, 25.0)))

    async def step_tag(self) -> None:
        """Tags of ours come and go: they change nothing that AWS's operations show."""
        name = self._endpoint()
        arn = f"arn:aws:sagemaker:{REGION}:123456789012:endpoint/{name}"
        topic = self.draw.choice([*SAYINGS])
        if self.draw.random() < 0.3:
            answer, _ = await self._call("DeleteTags", ResourceArn=arn, TagKeys=[topic])
        else:
            tag = {"Key": topic, "Value": self.draw.choice(SAYINGS[topic])}
            answer, _ = await self._call("AddTags", ResourceArn=arn, Tags=[tag])
        self._expect(answer, {"", f'Could not find endpoint "{arn.lower()}".'})

    async def step_rest(self) -> None:
        """Nothing more is done to it: everything must settle, and nothing may be left over."""
        plant = self.plant
        plant.tell("rest")
        plant.host.trouble, self.rules.trouble = "", False
        for container in plant.host.containers.values():
            if plant.host.runs(container.id) and container.kind in ("sick", "deaf"):
                plant.kill(container, -9)
                self._endanger(container)
        for gateway in plant.gateways.values():
            gateway.late = 0.0
        until = plant.loop.time() + REST
        while found := await self._unrest():
            if plant.loop.time() > until:
                raise Wrong("not at rest:\n" + "\n".join(found))
            plant.check()
            await asyncio.sleep(5.0)
        plant.hurt.clear()
        plant.damaged.clear()
        for name in [*self.rules.endpoints]:
            await self._look(name)

    async def _unrest(self) -> list[str]:
        """What is not as it should be in the end."""
        found, expected, running = [], {}, self.plant.running()
        for name in [*self.rules.endpoints]:
            await self._look(name)
            statuses = {life.status if life else None for life in self.rules.lives(name)}
            if len(statuses) > 1 or statuses - {"InService", "Failed", None}:
                found.append(f"{name} may be {statuses}")
            elif statuses != {None}:  # lives that differ in a model that was made anew look the same to a client
                wanted = [_containers(life) for life in self.rules.lives(name) if life]
                expected[name] = running[name] if running[name] in wanted else wanted[0]
        return found or self.plant.leftovers(expected)

    # --- how ------------------------------------------------------------------------------------------------------

    def _name(self, letter: str, most: int) -> str:
        name = f"{letter}{self.draw.randrange(most)}"
        return name.upper() if self.draw.random() < 0.02 else name

    def _endpoint(self, *statuses: str | None) -> str:
        """Mostly one that may be in such a state, so that a step mostly comes to something."""
        fit = [n for n in NAMES if {life and life.status for life in rules.drift(self.rules.lives(n))} & {*statuses}]
        return self.draw.choice(fit if fit and self.draw.random() < 0.8 else NAMES)

    def _container(self) -> Container | None:
        host = self.plant.host
        found = [host.containers[id] for id in sorted(host.containers) if host.runs(id)]
        return self.draw.choice(found) if found else None

    def _endanger(self, container: Container) -> None:
        """What is on its way may fail if it is by this instance that it comes."""
        name = container.endpoint
        newest = {r.uid: r.revision for r, _ in self.plant.control.store.desired()}
        uid, revision = container.revision
        if newest.get(uid) == revision or any(life and life.scaling for life in self.rules.lives(name)):
            self.rules.endanger(name)

    Act = tuple[str, str, dict[str, Any], Call]  # endpoint, operation, request, what may be answered

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
            request["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": one} for one in exclude]
        return name, "UpdateEndpoint", request, self.rules.update(name, config, retain, exclude)

    def _a_scale(self, name: str) -> Act:
        draw = self.draw
        specs = sorted((life.now or life.then for life in self.rules.lives(name) if life), key=str)
        known = [variant.name for spec in specs[:1] if spec for variant in spec.variants]
        if not known or draw.random() < 0.1:
            known = ["v0", "v1", "v2"]
        wanted = {
            number: draw.choice(((None, 1), (None, 2), (None, 4), (0.25, None), (2.0, None), (4.0, 2)))
            for number in draw.sample(known, min(len(known), draw.choice((1, 1, 2))))
        }
        asked = [
            {"VariantName": variant}
            | ({} if weight is None else {"DesiredWeight": weight})
            | ({} if count is None else {"DesiredInstanceCount": count})
            for variant, (weight, count) in wanted.items()
        ]
        request = {"EndpointName": name, "DesiredWeightsAndCapacities": asked}
        return name, "UpdateEndpointWeightsAndCapacities", request, self.rules.scale(name, wanted)

    def _a_delete(self, name: str) -> Act:
        return name, "DeleteEndpoint", {"EndpointName": name}, self.rules.delete(name)

    def _config(self) -> str:
        known = sorted(self.rules.configs)
        return self.draw.choice(known) if known and self.draw.random() < 0.95 else self._name("c", 8)

    async def _act(self, name: str, operation: str, request: dict[str, Any], call: Call) -> None:
        answer, _ = await self._call(operation, **request)
        self._now(name, rules.after(self.rules.lives(name), call, answer), answer)

    async def _look(self, name: str) -> None:
        well = self.plant.well(name)
        answer, document = await self.plant.call("DescribeEndpoint", EndpointName=name)
        told = None if answer.startswith("Could not find endpoint ") else document
        before = self.rules.lives(name)
        whole = name not in self.plant.hurt
        lives = rules.after(before, self.rules.describe(name, told, whole), DONE)
        if lives != before or not lives:
            self.plant.tell(f"DescribeEndpoint {name}: {answer or _brief(document)}")
        self._now(name, lives, f"DescribeEndpoint {name}: {answer or document}")
        if document.get("EndpointStatus") == "InService":
            self.plant.is_in_service(name, document)
        if well == self.plant.well(name) and document.get("EndpointStatus") == "InService":
            counts = [(v["CurrentInstanceCount"], v["DesiredInstanceCount"]) for v in document["ProductionVariants"]]
            desired = {v["VariantName"]: v["DesiredInstanceCount"] for v in document["ProductionVariants"]}
            if well and all(now == then for now, then in counts) and self.plant.has_all(name, desired):
                self.plant.hurt.discard(name)

    def _now(self, name: str, lives: rules.TargetPolicy, seen: str) -> None:
        if not lives:
            before = "\n  ".join(map(str, rules.drift(self.rules.lives(name))))
            raise Wrong(f"{name}: {seen}\nbut it can only have been\n  {before}")
        self.rules.endpoints[name] = lives

    def _expect(self, answer: str, right: Iterable[str]) -> None:
        if answer not in (answers := [*right]):
            raise Wrong(f"answered {answer!r}, not one of {answers}")

    async def _call(self, operation: str, **request: Any) -> tuple[str, dict[str, Any]]:
        answer, document = await self.plant.call(operation, **request)
        self.plant.tell(f"{operation} {_asked(request)}: {answer or 'done'}")
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
    "time": 30, "kill": 4, "sicken": 2, "trouble": 2, "restart": 1, "gateway": 3, "invoke": 8, "rest": 0.5,
    "tag": 4,
}  # fmt: skip
SAYINGS = {
    "hostler:idle-ttl": ("0", "2", "30"),
    "hostler:pin": ("t1.tar.gz", "t1.tar.gz t2.tar.gz t3.tar.gz", "..."),
    "hostler:preload": ("t1.tar.gz t2.tar.gz", "missing.tar.gz bad.tar.gz t3.tar.gz"),
}


def _containers(life: Life) -> Counter[tuple[str, int]]:
    if life.now is None:
        return Counter()
    return Counter({(v.name, v.model.containers): v.count for v in life.now.variants if v.model})


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


def _brief(told: dict[str, Any]) -> str:
    members = ("CurrentWeight", "DesiredWeight", "CurrentInstanceCount", "DesiredInstanceCount")
    variants = [(v["VariantName"], *map(v.get, members)) for v in told.get("ProductionVariants", [])]
    return f"{told['EndpointStatus']} {told['EndpointConfigName']} {told.get('FailureReason', '')[:60]} {variants}"


def walk(seed: int, steps: Iterable[int]) -> None:
    """Raises Wrong, with what happened before."""
    folder = Path(tempfile.mkdtemp(prefix="walk", dir=_quick()))
    try:
        simulated.run(_walk(seed, folder, steps), seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _walk(seed: int, folder: Path, steps: Iterable[int]) -> None:
    await Walk(seed, folder).run(steps)


def _quick() -> str | None:
    """Memory, where there is some: what is kept is kept by fsync."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def shrunk(seed: int, steps: list[int]) -> list[int]:
    """Fewer steps with which it still goes wrong."""
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
