"""The laws of training are exact on the CPU, so it is the CPU that they are tested on."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
