"""Run a cluster for kubectl and helm: `PYTHONPATH=tests:tests/kubernetes python -m fake_cluster --folder FOLDER`.

Its pods run on the Docker at DOCKER_HOST, on three nodes in two zones; --no-nodes: the API server alone. The kubeconfig
is FOLDER/kubeconfig. It ends at SIGINT or SIGTERM, and removes its containers.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

from fake_cluster import cluster as clusters


def main() -> None:
    options = argparse.ArgumentParser(prog="fake_cluster", description=__doc__.partition("\n")[0])
    options.add_argument("--folder", type=Path, required=True, help="for its files; Docker mounts it into containers")
    options.add_argument("--no-nodes", action="store_true", help="the API server alone")
    options.add_argument("--port", type=int, default=0, help="of the API server")
    given = options.parse_args()
    ends = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ends.set())
    given.folder.mkdir(parents=True, exist_ok=True)
    nodes = None if given.no_nodes else clusters.ZONES
    with clusters.running(given.folder.resolve(), nodes=nodes, port=given.port) as cluster:
        file = given.folder / "kubeconfig"
        file.write_text(json.dumps(cluster.kubeconfig()))
        print(f"the cluster is ready at {cluster.url}: export KUBECONFIG={file.resolve()}", flush=True)
        ends.wait()


main()
