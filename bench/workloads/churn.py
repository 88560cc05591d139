"""A thousand targets and room for a hundred: the value of a cache. A few targets get most of the calls."""

import itertools
import random

from contenders.contender import Service
from replay import CheckedCall
from workloads.workload import Column, Replayed

SKEW = 1.1  # of Zipf
LENGTH = 50_000  # of the order, the same for all contenders


class Churn(Replayed):
    name = "churn"
    title = f"churn: 1,000 targets, room for 100, Zipf {SKEW}, archives extracted"
    service = Service("targets", targets=1000, room=100)
    connections = (16,)
    warm_up = 6.0  # until a cache has the most popular targets
    columns = (*Replayed.columns, Column("hits", "hits", 3, lower=False, ratio=False))
    reference = "FastAPI"

    def calls(self) -> list[CheckedCall]:
        return [self.prediction(target, target % 4) for target in range(self.service.targets)]

    def order(self) -> list[int]:
        chance = random.Random(1)
        weights = list(itertools.accumulate(1 / rank**SKEW for rank in range(1, self.service.targets + 1)))
        targets = list(range(self.service.targets))
        chance.shuffle(targets)
        return chance.choices(targets, cum_weights=weights, k=LENGTH)
