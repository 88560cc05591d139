"""`hostler up` whose instances have agents: python agents_host.py [--namespace] up --port PORT --data FOLDER.

The containers are processes of this machine as ever. Their loads go over a link to the agent, and the artifacts come
from control over HTTP. An agent that ends is started again, as in a pod. --namespace: agents are in a network namespace
of their own, and link over TLS, which needs root.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hostler.cli.options import resolve
from hostler.host.main import Programs, run

NAMESPACE, ADDRESS = "HOSTLER_TEST_NAMESPACE", "HOSTLER_TEST_ADDRESS"  # of the agents, and control's for them


def main() -> int:
    *flags, _, _, port, _, data = sys.argv[1:]
    programs = Programs(control=(sys.executable, str(Path(__file__).with_name("agents_control.py"))))
    os.environ |= {NAMESPACE: "", ADDRESS: "127.0.0.1"}
    if not flags:
        return run(resolve(port=port, data=data), programs)
    name, subnet = f"hostler-agents-{os.getpid()}", f"10.231.{os.getpid() % 250}"
    outer, inner = (f"ha{os.getpid() % 10**7}{end}" for end in "oi")
    commands = (
        f"ip netns add {name}",
        f"ip link add {outer} type veth peer name {inner} netns {name}",
        f"ip addr add {subnet}.1/24 dev {outer}",
        f"ip link set {outer} up",
        f"ip -n {name} addr add {subnet}.2/24 dev {inner}",
        f"ip -n {name} link set {inner} up",
        f"ip -n {name} link set lo up",
    )
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        os.environ |= {NAMESPACE: name, ADDRESS: f"{subnet}.1"}
        return run(resolve(port=port, data=data), programs)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


if __name__ == "__main__":
    sys.exit(main())
