"""Measure test suites that use the pytest plugin: `python bench/suites.py [--rounds N]`.

Prints the wall-clock and the processor seconds of `pytest`, from its start to its end, and of what it starts; asserts
nothing. The first suite is README's module; the second has four tests of a client, whose models are answers.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import arguments

README = Path(__file__).resolve().parents[1] / "README.md"
MODULE = re.search(r"## In a test suite\n.*?```python\n(.*?)```", README.read_text(), re.DOTALL)
CLIENT = """
import boto3, pytest
@pytest.mark.parametrize("number", range(4))
def test_client(hostler, number):
    hostler.endpoint("prices", answer=str(number))
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName="prices", Body=b"1")
    assert int(answer["Body"].read()) == number
"""
IMPORTS = "import boto3, numpy, xgboost\ndef test_nothing():\n    pass\n"


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--rounds", type=arguments.positive, default=3, help="of all measurements")
    rounds = parser.parse_args().rounds
    assert MODULE
    suites = {
        "README's imports alone": (IMPORTS, []),
        "README's module": (MODULE[1], []),
        "four tests of a client": (CLIENT, []),
        "four tests of a client, -n 2": (CLIENT, ["-n", "2"]),
        "four tests of a client, -n 4": (CLIENT, ["-n", "4"]),
    }
    figures: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for name, (text, options) in suites.items():
            figures[name].append(_run(text, options))
    width = max(map(len, suites))
    print(f"{'seconds, medians':{width}}  {'wall':>6}  {'least':>6}  {'processor':>9}")
    for name, times in figures.items():
        walls, processors = zip(*times, strict=True)
        print(
            f"{name:{width}}  {statistics.median(walls):6.2f}  {min(walls):6.2f}  {statistics.median(processors):9.2f}"
        )


def _run(text: str, options: list[str]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_suite.py").write_text(text)
        plugins = ["-p", "hostler.testing.pytest_plugin", *(["-p", "xdist.plugin"] if options else [])]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins, *options]
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # none that only this environment has
        before, begun = os.times(), time.monotonic()
        subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
        wall, after = time.monotonic() - begun, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


if __name__ == "__main__":
    main()
