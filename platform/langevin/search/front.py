"""Several objectives at once, of which less is always better: which points no other one beats."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, ...]


def dominates(a: Point, b: Point) -> bool:
    """a is nowhere worse than b, and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def front(points: Sequence[Point]) -> list[int]:
    """The places of the Pareto front: of the points that no other point dominates."""
    return [place for place, one in enumerate(points) if not any(dominates(other, one) for other in points)]


def order(points: Sequence[Point]) -> list[int]:
    """All places, the best first: front by front (the front, then the front of the rest, ...; Deb et al. 2002), within one
    by the first objective. With one objective: by that.
    """
    left, ordered = list(range(len(points))), []
    while left:
        best = {left[place] for place in front([points[at] for at in left])}
        ordered += sorted(best, key=lambda at: (points[at], at))
        left = [at for at in left if at not in best]
    return ordered
