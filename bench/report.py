"""A run's results: tables, figures as JSON, and for the documents a processor's section and chart."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import chart
import environments
import measurement
import published
import verdicts
from cell import Cell
from contenders.contender import Contender
from workloads.workload import Column, Workload


class Results:
    def __init__(self, contenders: Sequence[type[Contender]], workloads: Sequence[type[Workload]]) -> None:
        self.cells: list[Cell] = []
        self._workloads = workloads
        self._settings = {
            contender.name: {"settings": contender.settings, "packages": _packages(contender)}
            for contender in contenders
        }
        self._about = {**measurement.about(), "load": _version("wrk")}

    @classmethod
    def read(cls, path: Path, workloads: Sequence[type[Workload]]) -> Results:
        """Read an earlier run's results. Raises OSError, ValueError, KeyError, TypeError, AttributeError."""
        document = json.loads(path.read_text())
        if not isinstance(document, dict) or not document.get("cells") or "contenders" not in document:
            raise ValueError("it holds no figures of a run")
        names = {cell["workload"] for cell in document["cells"]}
        results = cls([], [workload for workload in workloads if workload.name in names])
        results._about = {name: document[name] for name in results._about if name in document}
        results._settings = {
            name: {"settings": of_run["settings"], "packages": of_run["packages"]}
            for name, of_run in document["contenders"].items()
        }
        fields = ("workload", "contender", "connections", "rounds", "failed")
        results.cells = [Cell(*(cell[field] for field in fields)) for cell in document["cells"]]
        return results

    def tables(self) -> str:
        return "\n".join(map(self.table, self._workloads))

    def table(self, workload: type[Workload]) -> str:
        """Return text for a terminal."""
        parts = []
        for title, rows in self._tables(workload):
            parts.append(aligned(title, rows))
        return "\n".join(parts)

    def foot(self) -> str:
        """Return the goals, the legend of the tables, and each contender's settings."""
        lines = [f"  {name}: {settings['settings']}" for name, settings in self._settings.items()]
        goals = aligned("goals, as far as this run tells of them", verdicts.overview(self.cells))
        return "\n".join(
            [goals, "", *published.LEGEND, self._disturbance(), "", ", ".join(self._about.values()), *lines]
        )

    def write(self, folder: Path) -> Path:
        """Write the results so far as JSON, a file for each run."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{re.sub('[^0-9]+', '-', self._about['date']).strip('-')}.json"
        cells = [
            {**asdict(cell), "median": {name: cell.median(name) for name in _figures(cell)}} for cell in self.cells
        ]
        path.write_text(json.dumps({**self._about, "contenders": self._settings, "cells": cells}, indent=1))
        return path

    def publish(self, results: Path, documents: Path = published.DOCUMENTS, readme: Path = published.README) -> Path:
        """Write the section and the chart of this processor into the documents; return the path of results.md.

        Includes the last measurements of other commands on the same processor, from the cache's folder `results`.
        """
        processor = measurement.processor(self._about)
        others = [other for other in measurement.newest(results) if measurement.processor(other.about) == processor]
        panels = [panel for workload in self._workloads if (panel := self._panel(workload))]
        picture = chart.svg(panels, ", ".join(self._about.values()))
        return published.publish(processor, self._section(processor, others), picture, documents, readme)

    def _section(self, processor: str, others: Sequence[measurement.Measurement]) -> str:
        lines = [
            *published.markdown(self._summary()),
            "",
            f"{', '.join(self._about.values())}. {self._disturbance()}",
            "",
        ]
        lines += [f"![The first column of each table]({published.chart_of(processor)})", ""]
        lines += [published.GOALS, "", *published.markdown(verdicts.overview(self.cells)), ""]
        lines += [f"Those of other commands stand below: {', '.join(other.title for other in others)}.", ""] * bool(
            others
        )
        for workload in self._workloads:
            for title, rows in self._tables(workload):
                lines += [f"### {title}", "", *published.markdown(rows), ""]
        for other in others:
            lines += _section(other)
        lines += ["### Contenders", "", "| contender | settings | installed |", "|---|---|---|"]
        lines += [
            f"| {name} | {settings['settings']} | {', '.join(settings['packages'])} |"
            for name, settings in self._settings.items()
        ]
        return "\n".join(lines)

    def _disturbance(self) -> str:
        others = [figures["others"] for cell in self.cells for figures in cell.rounds if "others" in figures]
        cores = statistics.median(others) if others else 0.0
        return f"Meanwhile all other programs of the machine used {cores:.2f} of its cores (median)."

    def _tables(self, workload: type[Workload]) -> list[tuple[str, list[list[str]]]]:
        """Return (title, rows of text, the head first) for each number of connections."""
        tables = []
        mine = [cell for cell in self.cells if cell.workload == workload.name]
        for connections in dict.fromkeys(cell.connections for cell in mine):
            cells = [cell for cell in mine if cell.connections == connections]
            reference = next((cell for cell in cells if cell.contender == workload.reference), None)
            head = ["contender"]
            for column in workload.columns:
                head += [column.title, "×"] if column.ratio else [column.title]
            rows = [[*head, ""]]
            for cell in cells:
                rows.append([cell.contender])
                for column in workload.columns:
                    rows[-1] += _texts(column, cell, reference)
                rows[-1].append(cell.remark())
            tables.append((f"{_title(workload, connections)} (× to {workload.reference})", rows))
        return tables

    def _chief(self, workload: type[Workload]) -> list[Cell]:
        """Return the cells at 16 connections, or at the number nearest to it."""
        mine = [cell for cell in self.cells if cell.workload == workload.name]
        connections = min((cell.connections for cell in mine), key=lambda count: abs(count - 16), default=0)
        return [cell for cell in mine if cell.connections == connections]

    def _summary(self) -> list[list[str]]:
        """Return a row for each contender: the first column of each workload."""
        chief = {workload: {cell.contender: cell for cell in self._chief(workload)} for workload in self._workloads}
        head = [f"{workload.name}, {workload.columns[0].title}" for workload in chief]
        rows = [["", *head]]
        for name in self._settings:
            row = [f"**{name}**" if name == "hostler" else name]
            for workload, cells in chief.items():
                cell = cells.get(name)
                row.append(_texts(workload.columns[0], cell, None)[0] + " †" * bool(_faults(cell)) if cell else "")
            rows.append(row)
        return rows

    def _panel(self, workload: type[Workload]) -> chart.Panel | None:
        """Return the panel of a workload's first column, the best contender on top."""
        column, cells = workload.columns[0], self._chief(workload)
        if not cells:
            return None
        bars = [
            chart.Bar(cell.contender, value, f"{value:,.{column.digits}f}", cell.remark())
            for cell in cells
            if (value := cell.median(column.figure)) is not None
        ]
        bars.sort(key=lambda bar: bar.value, reverse=not column.lower)
        without = [(cell.contender, cell.remark()) for cell in cells if cell.median(column.figure) is None]
        title, _, about = _title(workload, cells[0].connections).partition(": ")
        title += f": {column.title}, {'less' if column.lower else 'more'} is better"
        return chart.Panel(title, about, bars, without, column.lower)


def _section(measured: measurement.Measurement) -> list[str]:
    lines = [
        f"### {measured.title}",
        "",
        f"`python {measured.command}`: {', '.join(measured.about.values())}.",
        "",
        *published.markdown(measured.goals),
        "",
    ]
    for title, rows in measured.tables.items():
        lines += [f"#### {title}", "", *published.markdown(rows), ""]
    return lines


def aligned(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Return text for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(_padded, row, widths, _sides(rows[0]))) for row in rows]
    return "\n".join([f"\n{title}", *(f"  {line.rstrip()}" for line in lines)])


def _faults(cell: Cell) -> int:
    return cell.total("wrong") + cell.total("errors")


def _sides(head: Sequence[str]) -> list[str]:
    """Return each column's alignment: the first and those without a heading are text, all others numbers."""
    return ["<", *[">" if title else "<" for title in head[1:]]]


def _padded(text: str, width: int, side: str) -> str:
    return f"{text:{side}{width}}"


def _texts(column: Column, cell: Cell, reference: Cell | None) -> list[str]:
    value = cell.median(column.figure)
    texts = ["–" if value is None else f"{value:,.{column.digits}f}"]
    if column.ratio:
        ratio = cell.ratio(column.figure, reference) if reference else None
        texts.append("" if ratio is None else f"{ratio:.2f}")
    return texts


def _title(workload: type[Workload], connections: int) -> str:
    if "rate" not in [column.figure for column in workload.columns]:
        return workload.title
    return f"{workload.title}, {connections} connection{'s' * (connections > 1)}"


def _packages(contender: type[Contender]) -> list[str]:
    """Return a contender's packages and programs, with versions."""
    pinned = environments.pinned(contender.environment) if contender.environment else []
    return [*pinned, *filter(None, map(_version, contender.programs))]


def _version(program: str) -> str:
    """Return the version that a program prints; empty if it is not installed."""
    option = "-version" if program == "java" else "-v"
    try:
        process = subprocess.run([program, option], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (process.stdout + process.stderr).partition("\n")[0].partition(" Copyright")[0]


def _figures(cell: Cell) -> list[str]:
    return sorted({name for figures in cell.rounds for name in figures})
