"""Everything about one search on one page: what it found, at what cost, and which of its knobs matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from langevin.reporting.page import render
from langevin.stages.fronts import pareto, sampling
from langevin.stages.pages import left
from langevin.stages.searched import Found, opening
from langevin.stages.trials import best, knobs_that_matter, trials

# In the page's order; each is None of a search that does not have it.
PARTS = (best, trials, knobs_that_matter, pareto, sampling)


def report_search(path: Path) -> dict[str, Any]:
    """Leaves out/SEARCH/report/: index.html, complete in itself, and a PNG of every picture.

    DataError where the search has not come to its end.
    """
    found = Found.of(path)
    parts = [part for make in PARTS if (part := make(found)) is not None]
    page = render(replace(opening(found), sections=tuple(part.section for part in parts)))
    return {"page": str(left(page, parts, found.folder / "report")), "search": found.loaded.search.name}
