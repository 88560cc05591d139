"""A bar chart as SVG text: a panel for each workload, a bar for each contender."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from xml.sax.saxutils import escape

COLUMNS, WIDTH, EDGE = 2, 560, 24  # panels in a row; pixels of a panel, and around it
LABELS, BARS = 96, 330  # pixels
ROW, HEAD, GAP = 21, 46, 30
OUTLIER = 5  # times the median: the longest bar where less is better, so that most bars can be told apart
LINE = 150  # letters in a line of the foot
STYLE = """
  text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #333 } .title { font-weight: 600; font-size: 13px }
  .quiet { fill: #777 } .name { text-anchor: end } .ours { font-weight: 600 } .fault { fill: #b3261e }
  .bar { fill: #b4bdc8 } .our.bar { fill: #2563a8 }
"""


@dataclass(frozen=True)
class Bar:
    """`remark`: the contender's faults; empty without faults."""

    name: str
    value: float
    text: str
    remark: str = ""


@dataclass(frozen=True)
class Panel:
    """`without`: contenders without a figure, and the reason."""

    title: str
    about: str
    bars: Sequence[Bar]  # from top to bottom
    without: Sequence[tuple[str, str]]
    lower: bool  # less is better

    @property
    def longest(self) -> float:
        """The value whose bar has the full length."""
        values = [bar.value for bar in self.bars]
        most = max(values, default=0) or 1
        return min(most, OUTLIER * statistics.median(values)) if self.lower else most

    @property
    def height(self) -> int:
        return HEAD + ROW * (len(self.bars) + len(self.without)) + GAP


def svg(panels: Sequence[Panel], foot: str) -> str:
    parts: list[str] = []
    top = EDGE
    for first in range(0, len(panels), COLUMNS):
        row = panels[first : first + COLUMNS]
        for number, panel in enumerate(row):
            parts += _panel(panel, EDGE + number * (WIDTH + EDGE), top)
        top += max(panel.height for panel in row)
    for line in wrap(foot, LINE):
        top += 16
        parts.append(_text(EDGE, top, line, "quiet"))
    width, height = EDGE + COLUMNS * (WIDTH + EDGE), top + EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<style>{STYLE}</style>\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, left: int, top: int) -> list[str]:
    parts = [_text(left, top + 14, panel.title, "title"), _text(left, top + 32, panel.about, "quiet")]
    names = left + LABELS - 8
    y = top + HEAD
    for bar in panel.bars:
        width = max(1, round(BARS * min(1, bar.value / panel.longest)))
        ours = bar.name == "hostler"
        parts += [
            _text(names, y + 12, bar.name, "name ours" if ours else "name"),
            f'<rect class="{"our bar" if ours else "bar"}" x="{left + LABELS}" y="{y}" width="{width}"'
            f' height="{ROW - 5}" rx="2"/>',
            _text(left + LABELS + width + 6, y + 12, bar.text, "ours" if ours else "plain"),
        ]
        if bar.value > panel.longest:  # a bar that is cut off
            x = left + LABELS + width - 30
            parts.append(f'<path d="M{x} {y + ROW} l8 -{ROW + 4} h5 l-8 {ROW + 4} z" fill="#fff"/>')
        if bar.remark:
            parts.append(_text(left + LABELS + width + 14 + 7 * len(bar.text), y + 12, bar.remark, "fault"))
        y += ROW
    for name, reason in panel.without:
        parts += [_text(names, y + 12, name, "name quiet"), _text(left + LABELS, y + 12, reason, "quiet")]
        y += ROW
    return parts


def _text(x: int, y: int, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'
