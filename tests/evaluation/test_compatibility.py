"""torch-fidelity imports beside any torch, in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys


def test_torch_fidelity_imports_and_operators_are_declared_once() -> None:
    program = (
        "from langevin.evaluation import compatibility as c, suite; import sys; "
        "print('torch_fidelity' in sys.modules, end=' '); "
        "c.declare_missing_operators(); c.declare_missing_operators(); "
        "print(c.fidelity().__version__, len(c._declared) <= 1, 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["False", "0.4.0", "True", "True"], done.stderr
