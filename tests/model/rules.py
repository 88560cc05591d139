"""AWS's rules for models, endpoint configs and endpoints, as a small machine: which answers are right, and when.

A client cannot know how far an endpoint is on its way, so it keeps every state that is possible by the answers so far.
Each answer excludes some of them; if no state remains, the answer was one that AWS could not give. Sections and rules
are those of docs/specification.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
DONE = ""  # the answer of an operation that succeeds; any other answer is an error's message


@dataclass(frozen=True)
class Model:
    """`kind`: how its containers behave. An endpoint with a `doomed` model never comes into service."""

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
    model: Model | None = None  # as it was when the endpoint was created or updated


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
class State:
    """One possible state of an endpoint.

    `now` is in force, `then` is requested and on its way. `at_risk`: `then` may fail, because something happened to it.
    """

    status: str
    now: Spec | None = None
    then: Spec | None = None
    scaling: bool = False  # `then` is the same config with other weights and counts
    failed: bool = False  # a FailureReason is shown
    at_risk: bool = False


States = frozenset[State | None]  # None: there is no such endpoint
Outcome = tuple[str, State | None]  # the answer, and the state after it
Call = Callable[[State | None], Iterable[Outcome]]


def drift(states: States) -> States:
    """Add the states that may follow without a call (§2.10)."""
    return states | {after for state in states if state for after in _settled(state)}


def _settled(state: State) -> Iterator[State | None]:
    if state.status == "Deleting":
        yield None
    elif state.then:
        if not state.then.doomed:
            yield State("InService", now=state.then)
        if state.then.doomed or state.at_risk:
            yield (
                State("InService", now=state.now, failed=True)
                if state.now
                else replace(state, status="Failed", failed=True)
            )


def after(states: States, call: Call, answer: str) -> States:
    """Return the states that are possible once the call has got this answer."""
    return frozenset(then for state in drift(states) for given, then in call(state) if given == answer)


def after_both(states: States, first: tuple[Call, str], second: tuple[Call, str]) -> States:
    """Two calls at the same time: either may have come first."""
    return after(after(states, *first), *second) | after(after(states, *second), *first)


class Rules:
    """The knowledge of a client. Names of models and configs are the same whatever their letter case (§2.0)."""

    def __init__(self, hurt: set[str]) -> None:
        self.models: dict[str, Model] = {}  # by name in lower case, as the configs
        self.configs: dict[str, Spec] = {}
        self.endpoints: dict[str, States] = {}
        self.trouble = False  # every start may fail now
        self.hurt = hurt  # endpoints that may not have all their instances now

    def states(self, name: str) -> States:
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
        """Yield every right answer; the config is created if the first is DONE."""
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

        def call(state: State | None) -> Iterator[Outcome]:
            yield from ((message, state) for message in self._missing_of(config))
            if state:
                yield f'Cannot create already existing endpoint "{ARN}:endpoint/{name}".', state
            elif spec := self._launched(config):
                yield DONE, State("Creating", then=spec, at_risk=self.trouble)

        return call

    def update(self, name: str, config: str, retain: bool, exclude: tuple[str, ...]) -> Call:
        """§2.7: only InService. The same config is a redeploy (ours); the old one must still be there (rule 30)."""

        def call(state: State | None) -> Iterator[Outcome]:
            yield from ((message, state) for message in self._missing_of(config))
            if state is None:
                yield _missing("endpoint", name), state
            elif state.status != "InService":
                yield _in_progress(name, state.status), state
            elif state.now and state.now.config.lower() not in self.configs:
                yield _missing("endpoint-config", state.now.config), state
            elif spec := self._launched(config):
                assert state.now
                then = _retained(spec, state.now, exclude) if retain else spec
                yield DONE, replace(state, status="Updating", then=then, scaling=False, at_risk=self.trouble)

        return call

    def scale(self, name: str, changes: dict[str, tuple[float | None, int | None]]) -> Call:
        """UpdateEndpointWeightsAndCapacities (§2.8). `changes`: variant -> (weight, count)."""

        def call(state: State | None) -> Iterator[Outcome]:
            if state is None:
                yield _missing("endpoint", name), state
                return
            if state.status != "InService":
                yield _in_progress(name, state.status), state
            spec = state.now or state.then
            assert spec
            unknown = [variant for variant in changes if not spec.named(variant)]
            if unknown:
                named = ", ".join(f'"{variant}"' for variant in unknown)
                config = f'endpoint configuration "{spec.config}".'
                yield f"The variant name(s) {named} is/are not present within {config}", state
                return
            variants = tuple(_scaled(variant, *changes.get(variant.name, (None, None))) for variant in spec.variants)
            more = [a.model_name for b, a in zip(spec.variants, variants, strict=True) if a.count > b.count]
            missing = [name for name in more if name.lower() not in self.models]
            yield from ((_missing("model", name), state) for name in missing)  # §2.2: a later scale-out fails
            if state.status == "InService" and not missing:
                then = replace(spec, variants=variants)
                at_risk = self.trouble or name in self.hurt
                yield DONE, replace(state, status="Updating", then=then, scaling=True, at_risk=at_risk)

        return call

    def delete(self, name: str) -> Call:
        """§2.9: in any state (ours), and again while Deleting."""

        def call(state: State | None) -> Iterator[Outcome]:
            yield (DONE, replace(state, status="Deleting")) if state else (_missing("endpoint", name), None)

        return call

    def describe(self, name: str, document: dict[str, Any] | None, whole: bool) -> Call:
        """Return a call that is DONE if DescribeEndpoint may answer this (§2.5); None: no such endpoint.

        `whole`: nothing was done to its instances, so that all are there.
        """

        def call(state: State | None) -> Iterator[Outcome]:
            if (state is None) == (document is None) and (
                state is None or document is None or _shows(state, document, whole)
            ):
                yield DONE, state

        return call

    def listed(self, status: str | None) -> Call:
        """Return a call that is DONE if ListEndpoints may show this status; None: no such endpoint."""

        def call(state: State | None) -> Iterator[Outcome]:
            if (state.status if state else None) == status:
                yield DONE, state

        return call

    def endanger(self, name: str) -> None:
        """Something happened to an update or creation on its way: it may fail."""
        states = self.states(name)
        self.endpoints[name] = frozenset(
            replace(state, at_risk=True) if state and state.then else state for state in states
        )

    def _missing_of(self, config: str) -> list[str]:
        if config.lower() not in self.configs:
            return [_missing("endpoint-config", config)]
        used = {variant.model_name for variant in self.configs[config.lower()].variants}
        return [_missing("model", name) for name in used if name.lower() not in self.models]

    def _launched(self, config: str) -> Spec | None:
        """Return the config with the models as they are now; None if any is missing."""
        if self._missing_of(config):
            return None
        spec = self.configs[config.lower()]
        return replace(spec, variants=tuple(replace(v, model=self.models[v.model_name.lower()]) for v in spec.variants))


def _retained(spec: Spec, old: Spec, exclude: tuple[str, ...]) -> Spec:
    """RetainAllVariantProperties: keep the present values of variants, except those that are excluded (§2.7)."""

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


def _shows(state: State, document: dict[str, Any], whole: bool) -> bool:
    """Whether an endpoint in this state may be described so."""
    spec = state.now or state.then
    assert spec
    if document["EndpointStatus"] != state.status or document["EndpointConfigName"] != spec.config:
        return False
    if bool(document.get("FailureReason")) != state.failed or document["LastModifiedTime"] < document["CreationTime"]:
        return False
    pending = document.get("PendingDeploymentSummary")
    if pending and not (state.then and state.status in ("Creating", "Updating") and not state.scaling):
        return False
    if pending and state.then and pending["EndpointConfigName"] != state.then.config:
        return False
    shown = document.get("ProductionVariants", [])
    phases = [phase for variant in shown for phase in variant.get("VariantStatus", [])]
    if state.then and state.now and not state.scaling and state.status == "Updating" and phases:
        return False  # the old fleet is at rest until all traffic has moved
    if any(" 0 instance" in phase["StatusMessage"] for phase in phases):
        return False
    if not shown and state.status in ("Creating", "Failed", "Deleting"):
        return True  # absent until instances exist
    if [variant["VariantName"] for variant in shown] != [variant.name for variant in spec.variants]:
        return False
    return all(_shows_variant(state, *pair, whole) for pair in zip(spec.variants, shown, strict=True))


def _shows_variant(state: State, variant: Variant, shown: dict[str, Any], whole: bool) -> bool:
    current = (shown["CurrentWeight"], shown["CurrentInstanceCount"])
    desired = (shown["DesiredWeight"], shown["DesiredInstanceCount"])
    if state.status == "Deleting":
        return True
    if state.status == "InService":
        most = (variant.weight, variant.count)
        return desired == most and (current == most or (not whole and current[0] == most[0] and current[1] < most[1]))
    scaled = state.then.named(variant.name) if state.then and state.scaling else None
    coming = scaled or variant
    return desired == (coming.weight, coming.count) and current[1] <= max(variant.count, coming.count)


def _missing(kind: str, name: str) -> str:
    word = {"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}[kind]
    return f'Could not find {word} "{ARN}:{kind}/{name.lower()}".'


def _in_progress(name: str, status: str) -> str:
    reasons = {"Failed": " It has failed; only DeleteEndpoint is possible.", "Deleting": " It is being deleted."}
    return f'Cannot update in-progress endpoint "{ARN}:endpoint/{name}".{reasons.get(status, "")}'
