"""What `hostler ls` prints for people: lines made of control's JSON. It asks nobody and prints nothing."""

from __future__ import annotations

from typing import Any

from hostler.settings import size_text

_HEADINGS = ("ENDPOINT", "VARIANT", "INSTANCE", "TARGET", "STATE", "MEMORY", "IDLE", "CALLS", "LOADS")
_TARGETS_SHOWN = 8  # by name, of an instance's resident targets; --json has them all
_REASON_SHOWN = 60  # letters of why a target could not be loaded; --json has it whole


def endpoints(listed: list[dict[str, Any]]) -> list[str]:
    """The lines of `hostler ls`: an endpoint; below it why it failed, and its instances with what is resident there."""
    lines = []
    width = max((len(endpoint["name"]) for endpoint in listed), default=0)
    for endpoint in listed:
        lines.append(f"{endpoint['name']:{width}}  {endpoint['status']:8}  {endpoint['region']}")
        if reason := endpoint["failure_reason"]:
            lines.append(f"  {plain(reason)}")
        for variant in endpoint["variants"]:
            for instance in variant["instances"]:
                targets = instance["targets"]
                shown = " ".join(targets[:_TARGETS_SHOWN]) + (" ..." if len(targets) > _TARGETS_SHOWN else "")
                resident = f"  {len(targets)} resident: {shown}" if targets else ""
                lines.append(f"  {variant['name']}  {instance['id']}  {instance['state']}{resident}")
    return lines or ["no endpoints"]


def idle_ttls(listed: list[dict[str, Any]]) -> list[str]:
    """A line for each multi-model endpoint whose idle targets leave; above its targets."""
    return [
        f"{one['endpoint']}: a target leaves when not called for {one['idle_ttl']:g} s (idle-ttl)"
        for one in listed
        if one["idle_ttl"]
    ]


def targets(listed: list[dict[str, Any]], total: int) -> list[str]:
    """The lines of `hostler ls --targets`: one for each target of each instance, with what is special about it last."""
    rows = [
        (
            *(one[name] or "-" for name in ("endpoint", "variant", "instance", "target", "state")),
            _bytes(one["memory"]),
            _time(one["idle"]),
            str(one["calls"]),
            str(one["loads"]),
        )
        for one in listed
    ]
    if not rows:
        return ["no targets"]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    lines = []
    for row, note in zip((_HEADINGS, *rows), ("", *map(_note, listed)), strict=True):
        left = [cell.ljust(width) for cell, width in zip(row[:5], widths[:5], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[5:], widths[5:], strict=True)]
        lines.append(plain("  ".join([*left, *right, note]).rstrip()))
    if total > len(rows):
        lines.append(f"... and {total - len(rows)} more: --limit 0 shows all, --match, --endpoint and --sort choose")
    return lines


def _note(target: dict[str, Any]) -> str:
    words = [name for name in ("pinned", "preload") if target[name]]
    if target["leaves_in"] is not None:
        words.append(f"leaves in {_time(target['leaves_in'])}")
    if reason := target["reason"]:
        words.append(reason if len(reason) <= _REASON_SHOWN else f"{reason[:_REASON_SHOWN]}... (--json: all of it)")
    return ", ".join(words)


def _bytes(size: int | None) -> str:
    return "-" if size is None else size_text(size)


def _time(seconds: float | None) -> str:
    """In its largest whole unit."""
    if seconds is None:
        return "-"
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{name}"
    return f"{seconds:.0f}s"


def plain(line: str) -> str:
    """Without what would do more to a terminal than write on it."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "?" for letter in line)
