"""`hostler up` whose instances have agents in a network namespace of their own: artifacts come over their links.

The containers are processes of this machine as ever. Their loads go over a link to the agent, and the artifacts come
from control over HTTP. Needs root, for the namespace.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hostler.cli.options import resolve
from hostler.host.main import Programs, run

NAMESPACE, SUBNET = "HOSTLER_BENCH_NAMESPACE", "HOSTLER_BENCH_SUBNET"


def main() -> int:
    """Arguments: port and data folder."""
    port, data = sys.argv[1:]
    name, subnet = f"hostler-bench-{os.getpid()}", f"10.231.{os.getpid() % 250}"
    host, inside = f"hb{os.getpid() % 100_000}h", f"hb{os.getpid() % 100_000}i"
    commands = (
        f"ip netns add {name}",
        f"ip link add {host} type veth peer name {inside} netns {name}",
        f"ip addr add {subnet}.1/24 dev {host}",
        f"ip link set {host} up",
        f"ip -n {name} addr add {subnet}.2/24 dev {inside}",
        f"ip -n {name} link set {inside} up",
        f"ip -n {name} link set lo up",
    )
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        os.environ |= {NAMESPACE: name, SUBNET: subnet}
        control = (sys.executable, str(Path(__file__).with_name("agent_control.py")))
        return run(resolve(port=port, data=data), Programs(control=control))
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


if __name__ == "__main__":
    sys.exit(main())
