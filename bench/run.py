"""Compare hostler with other model servers, on the same work.

    python bench/run.py [--contenders core|all|NAME,...] [--workloads NAME,...] [--rounds 5] [--seconds 2]

Figures are medians over the rounds; ratios are taken within a round. Machines are noisy: read the ratios. Only
--publish writes into the repository, and nothing is installed into the project's environment: models, the contenders'
environments and the results lie in the cache folder.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import arguments
import contenders
import environments
import replay
import report
import workloads
from contenders.contender import Contender
from models import Models
from rounds import Bench, counts


def main() -> None:
    options = options_of()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("stopped"))
    if options.figures:
        results = options.figures
        print(results.tables())
    else:
        results = _measured(options)
    print(results.foot())
    if options.publish:
        print(f"\npublished: {results.publish(options.cache / 'results')}")


def _measured(options: argparse.Namespace) -> report.Results:
    if not replay.installed():
        sys.exit(replay.NEEDED)
    begun = time.monotonic()
    cache = options.cache
    _install(options.contenders, cache)
    results = report.Results(options.contenders, options.workloads)
    with Bench(cache, Models(cache), options) as bench:
        for workload in options.workloads:
            results.cells += bench.measure(workload)
            written = results.write(cache / "results")
            print(f"{results.table(workload)}\n  (after {time.monotonic() - begun:.0f} s)", flush=True)
    print(f"\nevery figure: {written}")
    return results


def _install(chosen: list[type[Contender]], cache: Path) -> None:
    """Install the contenders before anything is timed. The tables name those that cannot be installed."""
    for contender in chosen:
        if contender.environment:
            with contextlib.suppress(environments.CannotInstall):
                environments.python(contender.environment, cache)


def options_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """`words`: the command's arguments; None: this process's own."""
    by_name = {contender.name: contender for contender in contenders.ALL}
    named = {workload.name: workload for workload in workloads.ALL}
    by_names = arguments.subset(by_name)

    def chosen(text: str) -> list[type[Contender]]:
        groups = {"core": contenders.CORE, "all": contenders.ALL}
        return groups.get(text.lower()) or by_names(text)

    def earlier(text: str) -> report.Results:
        try:
            return report.Results.read(Path(text), workloads.ALL)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise argparse.ArgumentTypeError(f"{text} is no earlier run's JSON: {error}") from error

    parser = arguments.parser(__doc__)
    names = ", ".join(by_name)
    parser.add_argument("--contenders", type=chosen, default="core", help=f"core, all, or names of: {names}")
    parser.add_argument("--workloads", type=arguments.subset(named), default=",".join(named), help="names")
    parser.add_argument(
        "--connections",
        type=arguments.positive_list,
        help="only these of a workload's numbers",
    )
    parser.add_argument("--rounds", type=arguments.positive, default=5, help="of each workload")
    parser.add_argument("--seconds", type=arguments.positive, default=2, help="under load, each time")
    parser.add_argument(
        "--cache", type=Path, default=arguments.CACHE, help="folder for models, environments, results and logs"
    )
    parser.add_argument("--figures", type=earlier, metavar="FILE", help="show an earlier run's, instead of measuring")
    parser.add_argument(
        "--publish", action="store_true", help="write the tables and chart of this processor into docs/bench/"
    )
    options = parser.parse_args(words)
    options.cache = options.cache.expanduser().absolute()
    if not options.figures:
        chosen = options.workloads
        options.workloads = [
            workload
            for workload in chosen
            if any(counts(kind, workload, options.connections) for kind in options.contenders)
        ]
        for workload in chosen:
            if workload not in options.workloads:
                numbers = ", ".join(map(str, workload.connections))
                print(f"left out: {workload.name}; no contender is measured on it (connections that it has: {numbers})")
        if not options.workloads:
            parser.error("nothing is left to measure")
    return options


if __name__ == "__main__":
    main()
