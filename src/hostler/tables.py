"""What `hostler ls` prints for people: lines made of control's JSON. It asks nobody and prints nothing."""

from __future__ import annotations

from typing import Any

_HEADINGS = ("ENDPOINT", "VARIANT", "INSTANCE", "TARGET", "STATE", "MEMORY", "IDLE", "HITS", "LOADS")
_TARGETS_SHOWN = 8  # by name, of an instance's resident targets; --json has them all


def endpoints(listed: list[dict[str, Any]]) -> list[str]:
    """The lines of `hostler ls`: an endpoint; below it each variant's instances with what is resident on them."""
    lines = []
    width = max((len(endpoint["name"]) for endpoint in listed), default=0)
    for endpoint in listed:
        line = f"{endpoint['name']:{width}}  {endpoint['status']:8}  {endpoint['region']}"
        lines.append(f"{line}  {endpoint['failure_reason']}".rstrip())
        for variant in endpoint["variants"]:
            for instance in variant["instances"]:
                targets = instance["targets"]
                shown = " ".join(targets[:_TARGETS_SHOWN]) + (" ..." if len(targets) > _TARGETS_SHOWN else "")
                resident = f"  {len(targets)} resident: {shown}" if targets else ""
                lines.append(f"  {variant['name']}  {instance['id']}  {instance['state']}{resident}")
    return lines or ["no endpoints"]


def targets(listed: list[dict[str, Any]], total: int) -> list[str]:
    """The lines of `hostler ls --targets`: one for each target of each instance, with what is special about it last."""
    rows = [
        (
            *(one[name] or "-" for name in ("endpoint", "variant", "instance", "target", "state")),
            _bytes(one["memory"]),
            _time(one["idle"]),
            str(one["hits"]),
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
    return ", ".join([*words, *filter(None, [target["reason"]])])


def _bytes(size: int | None) -> str:
    if size is None:
        return "-"
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit:
            return f"{size / unit:.1f}{name}"
    return f"{size / 2**10:.0f}KiB"


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
