"""A flame graph as SVG: a frame is as wide as often it was seen, and lies on the one that called it."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

WIDTH, TOP, ROW, LETTER, LEAST = 1200, 48, 17, 6.6, 1.2
COLOURS = {"gateway/": "#f0883e", "schemas/": "#e3b341", "enrichers/": "#d29922"}
OTHER = "#c9d1d9"
STYLE = "text{font:11px ui-monospace,monospace;fill:#1f2328}.title{font:600 14px system-ui,sans-serif}"


@dataclass
class Frame:
    """How often a frame was seen at its place, and what it called."""

    seen: int = 0
    calls: dict[str, Frame] = field(default_factory=dict)


def flame(stacks: dict[str, int], title: str) -> str:
    """Return the picture of stacks, outermost frame first, parts joined by ``;``; hovering tells names and shares."""
    root = Frame()
    for stack, times in stacks.items():
        frame = root
        frame.seen += times
        for name in stack.split(";"):
            frame = frame.calls.setdefault(name, Frame())
            frame.seen += times
    total = max(1, root.seen)
    parts: list[str] = []
    depth = _draw(root, 0.0, 0, total, parts)
    height = TOP + ROW * (depth + 1)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">',
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<text class="title" x="8" y="20">{escape(title)}</text>',
            f'<text x="8" y="38">{total:,} samples; ours coloured, libraries grey; frames below '
            f"{LEAST / WIDTH:.1%} are left out</text>",
            *parts,
            "</svg>\n",
        ]
    )


def _draw(frame: Frame, left: float, depth: int, total: int, parts: list[str]) -> int:
    """Draw what a frame called, widest first; return how deep it goes."""
    deepest = depth
    for name, call in sorted(frame.calls.items(), key=lambda each: -each[1].seen):
        width = WIDTH * call.seen / total
        if width >= LEAST:
            y = TOP + ROW * depth
            colour = next((each for start, each in COLOURS.items() if f"({start}" in name), OTHER)
            room = int((width - 4) / LETTER)
            text = name if len(name) <= room else f"{name[: room - 1]}…"
            parts.append(
                f'<g><title>{escape(name)}: {call.seen / total:.1%}</title><rect x="{left:.1f}" y="{y}" '
                f'width="{width - 0.4:.1f}" height="{ROW - 1}" fill="{colour}"/>'
                + (f'<text x="{left + 2:.1f}" y="{y + 12}">{escape(text)}</text>' if room > 3 else "")
                + "</g>"
            )
            deepest = max(deepest, _draw(call, left, depth + 1, total, parts))
        left += width
    return deepest
