"""Horizontal bars as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, ROW = 760, 210, 70, 62, 24
OURS, THEIRS = "#2a78d6", "#9aa4b2"
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:14px}"
    ".small{fill:#57606a;font-size:11px}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9da7b3}}"
)


@dataclass(frozen=True)
class Bar:
    """A labelled value with its spread."""

    label: str
    value: float
    low: float
    high: float
    ours: bool = True


def bars(title: str, caption: str, rows: list[Bar], marks: dict[str, float]) -> str:
    """Return the picture; ``marks`` are values with a name, drawn as lines over all bars."""
    most = max([each.high for each in rows] + [*marks.values(), 1e-9])
    bottom = TOP + ROW * len(rows)

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / most, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 16}" width="{WIDTH}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<text class="title" x="8" y="18">{escape(title)}</text>',
        f'<text class="small" x="8" y="35">{escape(caption)}</text>',
    ]
    for number, each in enumerate(rows):
        y = TOP + ROW * number
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(each.label)}</text>',
            f'<rect x="{LEFT}" y="{y + 3}" width="{x(each.value) - LEFT:.1f}" height="{ROW - 8}" '
            f'fill="{OURS if each.ours else THEIRS}"/>',
            f'<line x1="{x(each.low)}" x2="{x(each.high)}" y1="{y + 11}" y2="{y + 11}" stroke="#57606a"/>',
            f'<text x="{x(max(each.high, each.value)) + 5}" y="{y + 14}">{each.value:.1f}</text>',
        ]
    for name, value in marks.items():
        parts += [
            f'<line x1="{x(value)}" x2="{x(value)}" y1="{TOP - 4}" y2="{bottom}" stroke="#cf222e" '
            'stroke-dasharray="3 3"/>',
            f'<text class="small" x="{x(value)}" y="{TOP - 8}" text-anchor="middle">{escape(name)} {value:g}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])
