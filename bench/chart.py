"""Bars as SVG, by hand: a panel for each workload, a bar for each contender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LABELS, BARS = 760, 150, 480  # pixels
ROW, HEAD, GAP = 20, 40, 16
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #444 } .title { font-weight: 600; fill: #111 }
  .bar { fill: #9aa7b5 } .ours { fill: #2f6fbb }
  @media (prefers-color-scheme: dark) {
    text { fill: #bbb } .title { fill: #eee } .bar { fill: #66727f } .ours { fill: #5b9be0 }
  }
"""


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    bars: Sequence[tuple[str, float, str]]  # name, value, value as text

    @property
    def height(self) -> int:
        return HEAD + ROW * len(self.bars) + GAP


def svg(panels: Sequence[Panel], foot: str) -> str:
    parts, top = [], 0
    for panel in panels:
        parts += _panel(panel, top)
        top += panel.height
    parts.append(_text(0, top + 14, foot))
    height = top + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, top: int) -> list[str]:
    most = max(value for _, value, _ in panel.bars) or 1
    parts = [_text(0, top + 16, panel.title, "title"), _text(0, top + 32, panel.unit)]
    for number, (name, value, text) in enumerate(panel.bars):
        y, width = top + HEAD + ROW * number, max(1, round(BARS * value / most))
        kind = "ours" if name == "hostler" else "bar"
        parts += [
            _text(0, y + 13, name),
            f'<rect class="{kind}" x="{LABELS}" y="{y + 2}" width="{width}" height="{ROW - 6}" rx="2"/>',
            _text(LABELS + width + 6, y + 13, text),
        ]
    return parts


def _text(x: int, y: int, text: str, kind: str = "plain") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>'
