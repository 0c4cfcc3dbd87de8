"""The import rules hold, and they bite: forbidden imports, written into a copy of the package, are all reported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = [  # (importer, imported): one a rule of CONTRIBUTING.md
    ("langevin.randomness", "langevin.diffusion"),
    ("langevin.diffusion", "ray"),
    ("langevin.networks", "langevin.diffusion"),
    ("langevin.data", "langevin.tracking"),
    ("langevin.training", "langevin.methods"),
    ("langevin.evaluation", "langevin.generation"),
    ("langevin.generation", "mlflow"),
    ("langevin.reporting", "torch_fidelity"),
    ("langevin.tracking", "webdataset"),
    ("langevin.config", "langevin.cluster"),
    ("langevin.methods", "langevin.interop"),
    ("langevin.interop", "langevin.training"),
    ("langevin", "diffusers"),
]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of root/platform/langevin under the contracts of root/pyproject.toml."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "platform")},  # the copy goes before the installed package
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def source_of(module: str, root: Path) -> Path:
    path = root.joinpath("platform", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.fixture(scope="module")
def report_on_forbidden_imports(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    root = tmp_path_factory.mktemp("package")
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copytree(ROOT / "platform", root / "platform", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for importer, imported in FORBIDDEN:
        with source_of(importer, root).open("a") as source:
            source.write(f"\nimport {imported}\n")
    return lint_imports(root)


def test_the_source_root_is_no_package() -> None:
    """platform/__init__.py would shadow the standard library's platform, which pytest and Ray's workers import."""
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_rules_hold() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(("importer", "imported"), FORBIDDEN)
def test_the_rules_bite(
    report_on_forbidden_imports: subprocess.CompletedProcess[str], importer: str, imported: str
) -> None:
    report = report_on_forbidden_imports
    assert report.returncode == 1, report.stdout + report.stderr
    assert f"{importer} is not allowed to import {imported}:" in report.stdout
