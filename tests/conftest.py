"""How the tests are shared out when several processes run them (`make test`)."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
# Ray clusters on one machine find each other, so their tests wait for one another; the rest go by file, which share fixtures
RAY = {"e2e", "cluster", "cli"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        room = item.path.relative_to(ROOT).parts[0]
        item.add_marker(pytest.mark.xdist_group("ray" if room in RAY else str(item.path)))
