"""AWS's rules for models, endpoint configs and endpoints, as a small machine that says what may be answered when.

A client cannot know where an endpoint is on its way, so of each endpoint it keeps every life that is possible by what
was seen so far. Each answer rules some of them out; when none is left, the answer was one that AWS could not give.
Sections and rules are those of docs/specification.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
DONE = ""  # what an operation that succeeds says; any other answer is an error's message


@dataclass(frozen=True)
class Model:
    """`kind` is how its containers behave; an endpoint with one that is `doomed` never comes into service."""

    kind: str
    containers: int = 1
    multi_model: bool = False
    doomed: bool = False


@dataclass(frozen=True)
class Variant:
    name: str
    count: int
    weight: float
    model_name: str
    model: Model | None = None  # as it was when the endpoint was told of it


@dataclass(frozen=True)
class Spec:
    """An endpoint config with its models."""

    config: str
    variants: tuple[Variant, ...]

    @property
    def doomed(self) -> bool:
        return any(variant.model and variant.model.doomed for variant in self.variants)

    def named(self, name: str) -> Variant | None:
        return next((variant for variant in self.variants if variant.name == name), None)


@dataclass(frozen=True)
class Life:
    """One life of an endpoint that is possible.

    `now` is in force, `then` is asked for and on its way. `at_risk`: what is on its way may fail, because something
    happened to it.
    """

    status: str
    now: Spec | None = None
    then: Spec | None = None
    scaling: bool = False  # `then` is the same config with other weights and counts
    failed: bool = False  # a FailureReason is shown
    at_risk: bool = False


TargetPolicy = frozenset[Life | None]  # None: there is no such endpoint
Outcome = tuple[str, Life | None]  # what is answered, and the life after it
Call = Callable[[Life | None], Iterable[Outcome]]


def drift(lives: TargetPolicy) -> TargetPolicy:
    """All that may have become of them by themselves (§2.10)."""
    return lives | {after for life in lives if life for after in _settled(life)}


def _settled(life: Life) -> Iterator[Life | None]:
    if life.status == "Deleting":
        yield None
    elif life.then:
        if not life.then.doomed:
            yield Life("InService", now=life.then)
        if life.then.doomed or life.at_risk:
            yield (
                Life("InService", now=life.now, failed=True)
                if life.now
                else replace(life, status="Failed", failed=True)
            )


def after(lives: TargetPolicy, call: Call, answer: str) -> TargetPolicy:
    """The lives that are possible once the call has got this answer."""
    return frozenset(then for life in drift(lives) for said, then in call(life) if said == answer)


def after_both(lives: TargetPolicy, first: tuple[Call, str], second: tuple[Call, str]) -> TargetPolicy:
    """Two calls at the same time: either may have come first."""
    return after(after(lives, *first), *second) | after(after(lives, *second), *first)


class Rules:
    """What a client knows. Names of models and configs are the same whatever their letter case (§2.0)."""

    def __init__(self, hurt: set[str]) -> None:
        self.models: dict[str, Model] = {}  # by name in lower case, as the configs
        self.configs: dict[str, Spec] = {}
        self.endpoints: dict[str, TargetPolicy] = {}
        self.trouble = False  # starts may fail now, whatever is started
        self.hurt = hurt  # endpoints that may not have all their instances now

    def lives(self, name: str) -> TargetPolicy:
        return self.endpoints.get(name, frozenset({None}))

    # --- models and endpoint configs: at once, and never blocked by use (rule 35) ---------------------------------

    def create_model(self, name: str, model: Model) -> str:
        if name.lower() in self.models:
            return f'Cannot create already existing model "{ARN}:model/{name.lower()}".'
        self.models[name.lower()] = model
        return DONE

    def delete_model(self, name: str) -> str:
        return DONE if self.models.pop(name.lower(), None) else _missing("model", name)

    def create_config(self, spec: Spec) -> Iterator[str]:
        """Every answer that is right; it is done where the first is DONE."""
        absent = [variant.model_name for variant in spec.variants if variant.model_name.lower() not in self.models]
        yield from (_missing("model", name) for name in absent)  # rule 16
        if spec.config.lower() in self.configs:
            arn = f"{ARN}:endpoint-config/{spec.config.lower()}"
            yield f'Cannot create already existing endpoint configuration "{arn}".'
        elif not absent:
            self.configs[spec.config.lower()] = spec
            yield DONE

    def delete_config(self, name: str) -> str:
        return DONE if self.configs.pop(name.lower(), None) else _missing("endpoint-config", name)

    # --- endpoints ------------------------------------------------------------------------------------------------

    def create(self, name: str, config: str) -> Call:
        """§2.4; a name is taken in any state, and models must still be there (rule 28)."""

        def call(life: Life | None) -> Iterator[Outcome]:
            yield from ((message, life) for message in self._unfit(config))
            if life:
                yield f'Cannot create already existing endpoint "{ARN}:endpoint/{name}".', life
            elif spec := self._launched(config):
                yield DONE, Life("Creating", then=spec, at_risk=self.trouble)

        return call

    def update(self, name: str, config: str, retain: bool, exclude: tuple[str, ...]) -> Call:
        """§2.7: only InService. The same config is a redeploy (ours); the old one must still be there (rule 30)."""

        def call(life: Life | None) -> Iterator[Outcome]:
            yield from ((message, life) for message in self._unfit(config))
            if life is None:
                yield _missing("endpoint", name), life
            elif life.status != "InService":
                yield _in_progress(name, life.status), life
            elif life.now and life.now.config.lower() not in self.configs:
                yield _missing("endpoint-config", life.now.config), life
            elif spec := self._launched(config):
                assert life.now
                then = _retained(spec, life.now, exclude) if retain else spec
                yield DONE, replace(life, status="Updating", then=then, scaling=False, at_risk=self.trouble)

        return call

    def scale(self, name: str, wanted: dict[str, tuple[float | None, int | None]]) -> Call:
        """UpdateEndpointWeightsAndCapacities (§2.8). `wanted`: variant -> (weight, count)."""

        def call(life: Life | None) -> Iterator[Outcome]:
            if life is None:
                yield _missing("endpoint", name), life
                return
            if life.status != "InService":
                yield _in_progress(name, life.status), life
            spec = life.now or life.then
            assert spec
            unknown = [variant for variant in wanted if not spec.named(variant)]
            if unknown:
                named = ", ".join(f'"{variant}"' for variant in unknown)
                config = f'endpoint configuration "{spec.config}".'
                yield f"The variant name(s) {named} is/are not present within {config}", life
                return
            variants = tuple(_scaled(variant, *wanted.get(variant.name, (None, None))) for variant in spec.variants)
            more = [a.model_name for b, a in zip(spec.variants, variants, strict=True) if a.count > b.count]
            gone = [name for name in more if name.lower() not in self.models]
            yield from ((_missing("model", name), life) for name in gone)  # §2.2: a later scale-out fails
            if life.status == "InService" and not gone:
                then = replace(spec, variants=variants)
                at_risk = self.trouble or name in self.hurt
                yield DONE, replace(life, status="Updating", then=then, scaling=True, at_risk=at_risk)

        return call

    def delete(self, name: str) -> Call:
        """§2.9: in any state (ours), and again while Deleting."""

        def call(life: Life | None) -> Iterator[Outcome]:
            yield (DONE, replace(life, status="Deleting")) if life else (_missing("endpoint", name), None)

        return call

    def describe(self, name: str, told: dict[str, Any] | None, whole: bool) -> Call:
        """A call that says DONE where DescribeEndpoint may show this (§2.5). `whole`: nothing was done to its
        instances, so that all are there.
        """

        def call(life: Life | None) -> Iterator[Outcome]:
            if (life is None) == (told is None) and (life is None or told is None or _shows(life, told, whole)):
                yield DONE, life

        return call

    def listed(self, status: str | None) -> Call:
        """A call that says DONE where ListEndpoints may show this status; None: it shows no such endpoint."""

        def call(life: Life | None) -> Iterator[Outcome]:
            if (life.status if life else None) == status:
                yield DONE, life

        return call

    def endanger(self, name: str) -> None:
        """Something happened to what is on its way."""
        lives = self.lives(name)
        self.endpoints[name] = frozenset(replace(life, at_risk=True) if life and life.then else life for life in lives)

    def _unfit(self, config: str) -> list[str]:
        if config.lower() not in self.configs:
            return [_missing("endpoint-config", config)]
        used = {variant.model_name for variant in self.configs[config.lower()].variants}
        return [_missing("model", name) for name in used if name.lower() not in self.models]

    def _launched(self, config: str) -> Spec | None:
        """The config with the models as they are now; None when something is missing."""
        if self._unfit(config):
            return None
        spec = self.configs[config.lower()]
        return replace(spec, variants=tuple(replace(v, model=self.models[v.model_name.lower()]) for v in spec.variants))


def _retained(spec: Spec, old: Spec, exclude: tuple[str, ...]) -> Spec:
    """RetainAllVariantProperties: what a variant of the same name has now stays, but for what is excluded (§2.7)."""

    def keep(variant: Variant) -> Variant:
        if (before := old.named(variant.name)) is None:
            return variant
        count = variant.count if "DesiredInstanceCount" in exclude else before.count
        weight = variant.weight if "DesiredWeight" in exclude else before.weight
        return replace(variant, count=count, weight=weight)

    return replace(spec, variants=tuple(map(keep, spec.variants)))


def _scaled(variant: Variant, weight: float | None, count: int | None) -> Variant:
    return replace(
        variant,
        weight=variant.weight if weight is None else weight,
        count=variant.count if count is None else count,
    )


def _shows(life: Life, told: dict[str, Any], whole: bool) -> bool:
    spec = life.now or life.then
    assert spec
    if told["EndpointStatus"] != life.status or told["EndpointConfigName"] != spec.config:
        return False
    if bool(told.get("FailureReason")) != life.failed or told["LastModifiedTime"] < told["CreationTime"]:
        return False
    pending = told.get("PendingDeploymentSummary")
    if pending and not (life.then and life.status in ("Creating", "Updating") and not life.scaling):
        return False
    if pending and life.then and pending["EndpointConfigName"] != life.then.config:
        return False
    shown = told.get("ProductionVariants", [])
    phases = [phase for one in shown for phase in one.get("VariantStatus", [])]
    if life.then and life.now and not life.scaling and life.status == "Updating" and phases:
        return False  # the old fleet is at rest until all traffic has moved
    if any(" 0 instance" in phase["StatusMessage"] for phase in phases):
        return False
    if not shown and life.status in ("Creating", "Failed", "Deleting"):
        return True  # absent until instances exist
    if [one["VariantName"] for one in shown] != [variant.name for variant in spec.variants]:
        return False
    return all(_shows_variant(life, variant, one, whole) for variant, one in zip(spec.variants, shown, strict=True))


def _shows_variant(life: Life, variant: Variant, shown: dict[str, Any], whole: bool) -> bool:
    current = (shown["CurrentWeight"], shown["CurrentInstanceCount"])
    desired = (shown["DesiredWeight"], shown["DesiredInstanceCount"])
    if life.status == "Deleting":
        return True
    if life.status == "InService":
        most = (variant.weight, variant.count)
        return desired == most and (current == most or (not whole and current[0] == most[0] and current[1] < most[1]))
    wanted = life.then.named(variant.name) if life.then and life.scaling else None
    wanted = wanted or variant
    return desired == (wanted.weight, wanted.count) and current[1] <= max(variant.count, wanted.count)


def _missing(kind: str, name: str) -> str:
    word = {"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}[kind]
    return f'Could not find {word} "{ARN}:{kind}/{name.lower()}".'


def _in_progress(name: str, status: str) -> str:
    why = {"Failed": " It has failed; only DeleteEndpoint is possible.", "Deleting": " It is being deleted."}
    return f'Cannot update in-progress endpoint "{ARN}:endpoint/{name}".{why.get(status, "")}'
