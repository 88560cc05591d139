"""A hostler and a Docker in a network whose every host is this program's own, and images in it that try to get out.

Run as `python small_internet_of_docker.py FOLDER IMAGE` as root, within new namespaces of the network and of mounts;
prints JSON. IMAGE is of the machine's Docker. Nothing of the machine's own network or firewall is touched.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from running import ROLE, Hostler, eventually, hostler_up
from small_internet import INTERNET, MACHINE, METADATA, NAME, invoke, make_network

import docker_rig

BRIDGE_PORT, NEIGHBOURS_PORT = 8098, 8099
PAIR = ("first", "second")


@contextlib.contextmanager
def dockerd(folder: Path, image: str) -> Iterator[str]:
    """Run a Docker that has the image, and yield its address."""
    address = f"unix://{folder}/docker.sock"
    words = ["--data-root", "data", "--exec-root", "exec", "--pidfile", "pid"]
    paths = [word if word.startswith("--") else str(folder / word) for word in words]
    with (folder / "dockerd.txt").open("wb") as output:
        daemon = subprocess.Popen(["dockerd", *paths, "--host", address], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(["docker", "--host", address, "version"], capture_output=True, check=False).returncode:
            said = (folder / "dockerd.txt").read_text()[-4000:]
            assert daemon.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            subprocess.run(["docker", "--host", address, "load"], stdin=saving.stdout, check=True, capture_output=True)
        yield address
    finally:
        daemon.terminate()
        daemon.wait(60)


def docker(address: str, *words: str) -> list[str]:
    return docker_rig.docker(*words, host=address).splitlines()


def host(hostler: Hostler, name: str, image: str, hostnames: tuple[str, ...] = (), **model: Any) -> None:
    """Host the image, or a container of it for each hostname, to be invoked one at a time."""
    if hostnames:
        containers = [{"Image": image, "ContainerHostname": hostname} for hostname in hostnames]
        model |= {"Containers": containers, "InferenceExecutionConfig": {"Mode": "Direct"}}
    else:
        model |= {"PrimaryContainer": {"Image": image}}
    hostler.sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, **model)
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    hostler.wait_in_service(name)


def serve_everywhere(port: int) -> None:
    """Listen on every address of the machine, the bridges' included."""
    server = socket.create_server(("", port))

    def accept() -> None:
        while True:
            server.accept()[0].close()

    threading.Thread(target=accept, daemon=True).start()


def main(folder: Path, image: str) -> dict[str, Any]:
    """Return what each container reached, by its name, and what Docker had at the end.

    1. Make the network; start a Docker in it, with a neighbour of which a port is published, and a hostler.
    2. Host the image with a network, without, and twice in one instance without.
    3. Have each try every way.
    4. Delete the isolated endpoints.
    """
    make_network()  # 1.
    serve_everywhere(BRIDGE_PORT)
    own = folder / "docker"
    own.mkdir()
    found: dict[str, Any] = {}
    with dockerd(own, image) as address:
        docker(address, "run", "--detach", "--init", "--publish", f"{NEIGHBOURS_PORT}:8080", image, "serve")
        with hostler_up(folder / "up", engine="auto", docker_host=address) as hostler:
            host(hostler, "open", image)  # 2.
            host(hostler, "other", image)
            host(hostler, "isolated", image, EnableNetworkIsolation=True)
            host(hostler, "pair", image, PAIR, EnableNetworkIsolation=True)
            [gateway] = docker(
                address, "network", "inspect", "hostler", "--format", "{{(index .IPAM.Config 0).Gateway}}"
            )
            ids = docker(address, "ps", "--quiet", "--filter", "network=hostler")
            shown = '{{(index .NetworkSettings.Networks "hostler").IPAddress}}'
            bridge = [*zip(ids, docker(address, "inspect", "--format", shown, *ids), strict=True)]
            ways: dict[str, list[Any]] = {
                "host": ["tcp", MACHINE, 80],
                "bridge": ["tcp", gateway, BRIDGE_PORT],
                "DNS": ["name", NAME],
                "internet": ["tcp", INTERNET, 80],
                "neighbour": ["tcp", MACHINE, NEIGHBOURS_PORT],
                "metadata": ["tcp", METADATA, 80],
            }
            instances = {f"instance {n}": ["tcp", ip, 8080] for n, (_, ip) in enumerate(bridge)}
            found["open"] = invoke(hostler, "open", ways)  # 3.
            found["instances"] = invoke(hostler, "open", instances)
            found["isolated"] = invoke(hostler, "isolated", ways | instances)
            within = {name: ["tcp", name, 8080 + n] for n, name in enumerate(PAIR)}
            for name in PAIR:
                found[name] = invoke(hostler, "pair", ways | instances, TargetContainerHostname=name)
                found[f"{name}, within"] = invoke(hostler, "pair", within, TargetContainerHostname=name)
            found["again"] = [invoke(hostler, "isolated", {}) for _ in range(20)]
            found["names"] = docker(address, "ps", "--format", "{{.Names}} {{.Image}}")
            for name in ("isolated", "pair"):  # 4.
                hostler.sm.delete_endpoint(EndpointName=name)
            names = ("ps", "--all", "--format", "{{.Names}}")
            eventually(lambda: len(docker(address, *names)) == 3, 60, "the isolated instances are gone")
            found["left"] = docker(address, *names)
            found["sockets"] = [path.name for path in (hostler.data / "sockets").glob("*")]
        found["at the end"] = docker(address, "ps", "--all", "--format", "{{.Names}}")
        if neighbours := docker(address, "ps", "--all", "--quiet"):
            docker(address, "rm", "--force", *neighbours)
    shutil.rmtree(own, ignore_errors=True)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
