"""Precision and recall by threshold, as a picture and for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .calibration import Point

ROWS, COLUMNS = 8, 60
LOWEST = 0.5
"""Of the precision, at the foot of both."""
WIDTH, HEIGHT, MARGIN = 640, 360, 48
COLOURS = ("#2563eb", "#c2410c", "#15803d")


def as_text(curve: Sequence[Point], wanted: float) -> Iterator[str]:
    """Precision over recall; a line of dots where the wanted precision is."""
    if not curve:
        return
    most = max(point.recall for point in curve) or 1.0
    grid = [[" "] * COLUMNS for _ in range(ROWS + 1)]
    grid[_row(wanted)] = ["."] * COLUMNS
    for point in curve:
        column = min(COLUMNS - 1, int(point.recall / most * COLUMNS))
        grid[_row(point.precision)][column] = "*"
    for number, row in enumerate(grid):
        precision = 1 - number * (1 - LOWEST) / ROWS
        yield f"  {precision:5.3f} |{''.join(row)}".rstrip()
    yield f"        +{'-' * COLUMNS}"
    yield f"         recall 0 to {most:.2f}"


def _row(precision: float) -> int:
    share = (1 - max(LOWEST, precision)) / (1 - LOWEST)
    return round(share * ROWS)


def as_svg(curves: Mapping[str, Sequence[Point]], wanted: float) -> str:
    """Precision over recall for each language, with thresholds at some points."""
    most = max((point.recall for curve in curves.values() for point in curve), default=0) or 1.0

    def place(recall: float, precision: float) -> tuple[float, float]:
        x = MARGIN + recall / most * (WIDTH - 2 * MARGIN)
        share = (1 - max(LOWEST, precision)) / (1 - LOWEST)
        return x, MARGIN + share * (HEIGHT - 2 * MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        '<g font-family="sans-serif" font-size="11" fill="#555">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for precision in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        _, y = place(0, precision)
        parts.append(f'<path d="M{MARGIN} {y:.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{precision}</text>')
    for step in range(5):
        x, y = place(most * step / 4, LOWEST)
        parts.append(
            f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{most * step / 4:.2f}</text>'
        )
    _, y = place(0, wanted)
    parts.append(
        f'<path d="M{MARGIN} {y:.1f}H{WIDTH - MARGIN}" stroke="#888" stroke-dasharray="4 3"/>'
    )
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        placed = [(*place(point.recall, point.precision), point) for point in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in placed)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, point in placed[:: max(1, len(placed) // 6)]:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            parts.append(
                f'<text x="{x + 5:.1f}" y="{y - 6:.1f}" fill="{colour}">{point.threshold:.3f}</text>'
            )
        if placed:
            x, y, _ = placed[-1]
            parts.append(
                f'<text x="{x:.1f}" y="{y + 16:.1f}" fill="{colour}" text-anchor="end" '
                f'font-weight="bold">{name}</text>'
            )
    foot, side = HEIGHT - 8, HEIGHT / 2
    parts += [
        f'<text x="{WIDTH / 2}" y="{foot}" text-anchor="middle">recall; thresholds at the points</text>',
        f'<text x="12" y="{side}" text-anchor="middle" transform="rotate(-90 12 {side})">precision</text>',
        "</g></svg>\n",
    ]
    return "\n".join(parts)
