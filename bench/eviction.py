"""The hit ratio of each eviction rule, on generated orders of requests.

    python bench/eviction.py [--targets 1000] [--room 100] [--exponent 1.1] [--requests 40000]

Runs the rules alone, without a server or a model; every target is idle and of the same size. `best` is the ratio if the
most popular targets of every moment were known and kept.
"""

from __future__ import annotations

import argparse
import random
import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

import arguments
from hostler.core.targets.victims_lrfu import AdaptiveLrfu
from hostler.core.targets.victims_lru import Lru

WARM = 2000  # requests that do not count
# Name -> (requests after which all targets change ranks, requests after which two swap ranks); 0: never.
ORDERS = {
    "stable": (0, 0),
    "one swaps every 100": (0, 100),
    "one swaps every 20": (0, 20),
    "one swaps every 5": (0, 5),
    "one swaps every 1": (0, 1),
    "all change every 20,000": (20_000, 0),
    "all change every 5,000": (5000, 0),
    "all change every 2,000": (2000, 0),
    "all change every 1,000": (1000, 0),
    "all change every 200": (200, 0),
}


def requests(options: argparse.Namespace, shuffled: int, swapped: int) -> Iterator[tuple[str, int]]:
    """Yield each requested target and its rank at that moment, by Zipf's law."""
    dice = random.Random(1)
    weights = list(accumulate(1 / rank**options.exponent for rank in range(1, options.targets + 1)))
    names = [f"t{number}" for number in range(options.targets)]
    for number in range(options.requests):
        if shuffled and number % shuffled == 0:
            dice.shuffle(names)
        if swapped and number % swapped == 0:
            first, second = dice.randrange(options.targets), dice.randrange(options.targets)
            names[first], names[second] = names[second], names[first]
        rank = bisect_left(weights, dice.random() * weights[-1])
        yield names[rank], rank


def replay(options: argparse.Namespace, rule: type[Lru], shuffled: int, swapped: int) -> tuple[float, float, float]:
    """Return the hit ratio, the best possible one, and the CPU time of a request in microseconds."""
    resident = rule()
    hits = best = 0
    began = time.process_time()
    for number, (target, rank) in enumerate(requests(options, shuffled, swapped)):
        hit = target in resident
        if not hit:
            if len(resident) == options.room:
                for victim in resident.victims(1) or []:
                    resident.remove(victim)
            resident.add(target, 1)
        resident.touch(target)
        if number >= WARM:
            hits += hit
            best += rank < options.room
    counted = options.requests - WARM
    return hits / counted, best / counted, (time.process_time() - began) / options.requests * 1e6


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--targets", type=arguments.positive, default=1000, help="number of targets")
    parser.add_argument("--room", type=arguments.positive, default=100, help="number of targets that fit into memory")
    parser.add_argument("--exponent", type=arguments.positive_float, default=1.1, help="of Zipf's law")
    parser.add_argument("--requests", type=arguments.between(WARM + 1), default=40_000, help="of each order")
    options = parser.parse_args()
    print(f"{'':26}{'lru':>8}{'frequency':>11}{'best':>8}{'lru us':>9}{'frequency us':>14}")
    for name, (shuffled, swapped) in ORDERS.items():
        recent, best, cheap = replay(options, Lru, shuffled, swapped)
        frequent, _, dear = replay(options, AdaptiveLrfu, shuffled, swapped)
        print(f"{name:26}{recent:8.3f}{frequent:11.3f}{best:8.3f}{cheap:9.1f}{dear:14.1f}", flush=True)


if __name__ == "__main__":
    main()
