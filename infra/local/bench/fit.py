"""Straight lines through measured points."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """y = fixed + each * x."""

    fixed: float
    each: float
    # Coefficient of determination, 1.0 for a perfect fit.
    r2: float

    def at(self, x: float) -> float:
        return self.fixed + self.each * x


def straight_line(points: list[tuple[float, float]]) -> Line:
    """The least-squares line through points with at least two different x."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        raise ValueError("a line needs points with different x")
    each = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    fixed = mean_y - each * mean_x
    total = sum((y - mean_y) ** 2 for _, y in points)
    missed = sum((y - fixed - each * x) ** 2 for x, y in points)
    return Line(fixed, each, 1 - missed / total if total else 1.0)


def percentile(ascending: list[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed (nearest rank)."""
    rank = -(-len(ascending) * percent // 100)
    return ascending[max(0, int(rank) - 1)]
