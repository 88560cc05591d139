"""The command `hostler doctor`."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from hostler.cli.options import Failure, WrongUsage, json_option, resolve
from hostler.failures import extra
from hostler.settings import Settings

if TYPE_CHECKING:
    from hostler.cli.doctor.finding import Finding


@click.command()
@click.option("--data", metavar="FOLDER", help="Data folder of the hostler that runs, or is to run, here.")
@click.option("--cluster", is_flag=True, help="Look at the cluster of KUBECONFIG, or of the pod that this runs in.")
@click.option("--namespace", metavar="NAME", help="Where hostler is, or is to be, in the cluster. Default: hostler.")
@click.option(
    "--probe", is_flag=True, help="Run a pod for some seconds, to see if the cluster enforces NetworkPolicies."
)
@json_option
def doctor(data: str | None, cluster: bool, namespace: str | None, probe: bool, as_json: bool) -> None:
    """Find what this machine, or a cluster, lacks for hostler, and say what helps.

    \b
      hostler doctor                      this machine
      hostler doctor --cluster            before `helm install`, or afterwards
      kubectl -n hostler exec hostler-control-0 -- hostler doctor

    Prints a line for each finding; exit code 1 if one of them is an error. It changes nothing.
    """
    resolved = resolve(data=data)
    if (namespace or probe) and not cluster:
        raise WrongUsage("--namespace and --probe are for a cluster: add --cluster")
    logging.getLogger("hostler").addHandler(logging.NullHandler())  # the findings say what matters
    in_cluster = cluster or resolved.engine == "kubernetes"
    findings = _of_cluster(resolved, namespace or "", probe) if in_cluster else _of_machine(resolved)
    if as_json:
        names = ("level", "subject", "finding", "helps")
        click.echo(json.dumps([dict(zip(names, finding, strict=True)) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(finding)
    sys.exit(int(any(finding.level == "error" for finding in findings)))


def _of_machine(settings: Settings) -> list[Finding]:
    from hostler.cli.doctor.machine import look
    from hostler.cli.doctor.machine_findings import find

    return list(find(look(settings, os.environ), settings))


def _of_cluster(settings: Settings, namespace: str, probe: bool) -> list[Finding]:
    import importlib.util

    if not importlib.util.find_spec("lightkube"):
        raise Failure(f"Kubernetes' client is not installed: {extra('kubernetes')}")
    from hostler.cli.doctor.cluster import look
    from hostler.cli.doctor.cluster_findings import find

    return list(find(look(settings, namespace, probe)))
