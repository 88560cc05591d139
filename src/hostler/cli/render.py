"""Render control's JSON as the lines that `hostler ls` prints for people. Sends no request and prints nothing."""

from __future__ import annotations

from typing import Any

from hostler.text import printable, shorten, size

_HEADINGS = ("ENDPOINT", "VARIANT", "INSTANCE", "TARGET", "STATE", "MEMORY", "IDLE", "CALLS", "LOADS")
_DIGITS = 12  # of a digest
_TARGETS_PRINTED = 8  # by name, of an instance's resident targets; --json has them all
_REASON_LENGTH = 60  # letters of the reason why a target could not be loaded; --json has all of it


def endpoints(listed: list[dict[str, Any]]) -> list[str]:
    """Return the lines of `hostler ls`: an endpoint; below it its failure reason, its instances and their residents."""
    lines = []
    width = max((len(endpoint["name"]) for endpoint in listed), default=0)
    for endpoint in listed:
        lines.append(f"{endpoint['name']:{width}}  {endpoint['status']:8}  {endpoint['region']}")
        if reason := endpoint["failure_reason"]:
            lines.append("  " + printable(reason, "\t"))
        for variant in endpoint["variants"]:
            for instance in variant["instances"]:
                targets = instance["targets"]
                first = " ".join(targets[:_TARGETS_PRINTED]) + (" ..." if len(targets) > _TARGETS_PRINTED else "")
                resident = f"  {len(targets)} resident: {first}" if targets else ""
                where = _engines(instance["containers"])
                if machine := instance["machine"]:
                    where += f"  on {printable(machine)}"
                lines.append(f"  {variant['name']}  {instance['id']}  {instance['state']}{where}{resident}")
                if trouble := instance["trouble"]:
                    lines.append(f"    {printable(trouble)}")
    return lines or ["no endpoints"]


def _engines(containers: list[dict[str, Any]]) -> str:
    """Return what runs an instance's containers, after blanks: `process`, or `docker` and the image."""
    shown = [f"{container['engine']} {_image(container)}".rstrip() for container in containers if container["engine"]]
    return f"  {', '.join(dict.fromkeys(shown))}" if shown else ""


def _image(container: dict[str, Any]) -> str:
    """Return the image that runs, with its digest or id as short as in Docker's listings; empty for none."""
    name, mark, digest = container["image"].rpartition("sha256:")
    short = f"{mark}{digest[:_DIGITS]}"
    return printable(f"{container['specified']} ({short})" if mark and not name else f"{name}{short}")


def idle_ttls(listed: list[dict[str, Any]]) -> list[str]:
    """Return a line for each multi-model endpoint that unloads idle targets; printed above its targets."""
    return [
        f"{endpoint['endpoint']}: a target leaves when not called for {endpoint['idle_ttl']:g} s (idle-ttl)"
        for endpoint in listed
        if endpoint["idle_ttl"]
    ]


def targets(listed: list[dict[str, Any]], total: int) -> list[str]:
    """Return the lines of `hostler ls --targets`: one for each target of each instance, its notes last."""
    rows = [
        (
            *(target[name] or "-" for name in ("endpoint", "variant", "instance", "target", "state")),
            _bytes(target["memory"]),
            _time(target["idle"]),
            str(target["calls"]),
            str(target["loads"]),
        )
        for target in listed
    ]
    if not rows:
        return ["no targets"]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    lines = []
    for row, note in zip((_HEADINGS, *rows), ("", *map(_note, listed)), strict=True):
        left = [cell.ljust(width) for cell, width in zip(row[:5], widths[:5], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[5:], widths[5:], strict=True)]
        lines.append(printable("  ".join([*left, *right, note]).rstrip(), "\t"))
    if total > len(rows):
        lines.append(f"... and {total - len(rows)} more: --limit 0 shows all, --match, --endpoint and --sort choose")
    return lines


def _note(target: dict[str, Any]) -> str:
    words = [name for name in ("pinned", "preload") if target[name]]
    if target["leaves_in"] is not None:
        words.append(f"leaves in {_time(target['leaves_in'])}")
    if reason := target["reason"]:
        words.append(shorten(reason, _REASON_LENGTH, "... (--json: all of it)", kept=_REASON_LENGTH))
    return ", ".join(words)


def _bytes(count: int | None) -> str:
    return "-" if count is None else size(count)


def _time(seconds: float | None) -> str:
    """Return a duration in its largest whole unit."""
    if seconds is None:
        return "-"
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{name}"
    return f"{seconds:.0f}s"
