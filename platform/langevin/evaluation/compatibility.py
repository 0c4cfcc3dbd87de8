"""The way to import torch-fidelity, also where torchvision's wheel does not match torch's build.

torchvision's wheel is built for CUDA. Beside a CPU build of torch its extension cannot be loaded, and ``import
torchvision``, so also ``import torch_fidelity``, dies with ``operator torchvision::nms does not exist``: it registers
shape functions for two operators that the extension would have brought. Nothing here calls them, so they need no body.
"""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import torch

_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # a Library takes its operators with it when it is collected


def declare_missing_operators() -> None:
    """Declare torchvision's operators where its extension does not bring them. Call before importing torchvision."""
    _load_extension()
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(f"{name}{_SIGNATURE}")
        _declared.append(library)


def fidelity() -> ModuleType:
    """The module ``torch_fidelity``, imported at the first call: that takes seconds, and few commands need it."""
    declare_missing_operators()
    return importlib.import_module("torch_fidelity")


def fidelity_part(name: str) -> ModuleType:
    """The module ``torch_fidelity.NAME``."""
    fidelity()
    return importlib.import_module(f"torch_fidelity.{name}")


def _load_extension() -> None:
    """Load torchvision's own extension where that works, as torchvision's import would: then its operators exist."""
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("_C.*")):
            with suppress(OSError):  # built for another torch: the case that this module is for
                torch.ops.load_library(str(path))
