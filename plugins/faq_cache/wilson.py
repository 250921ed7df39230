"""What a count of right and wrong answers says of all answers: https://doi.org/10.2307/2276774."""

from __future__ import annotations

Z = 1.96
"""For 95 %."""


def interval(right: int, total: int, z: float = Z) -> tuple[float, float]:
    """The bounds of a share, after Wilson; of nothing, anything is possible."""
    if not total:
        return 0.0, 1.0
    share = right / total
    middle = share + z * z / (2 * total)
    spread = z * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    whole = 1 + z * z / total
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)
