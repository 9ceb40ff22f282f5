"""What must hold of the code itself: nothing is forgotten, and dependencies run one way."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from functools import cache
from pathlib import Path

import pytest
import torch

import manual_bp
from manual_bp import layers, ops
from manual_bp.layers import SPECS
from manual_bp.spec import Draw, Spec

ROOT = Path(manual_bp.__file__).parents[1]

# What each package may import of the four.
BELOW = {
    "manual_bp": {"manual_bp"},
    "lightning_modules": {"manual_bp", "lightning_modules"},
    "experiments": {"manual_bp", "lightning_modules", "experiments"},
}
OURS = set(BELOW) | {"tests", "benchmarks"}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@cache
def _imported_in(package: str) -> dict[Path, set[str]]:
    return {path: _imports(path) for path in (ROOT / package).rglob("*.py")}


@pytest.mark.parametrize("package", BELOW)
def test_imports_run_one_way(package: str) -> None:
    for path, names in _imported_in(package).items():
        assert names & OURS <= BELOW[package], path


def test_the_library_needs_torch_and_rich_alone() -> None:
    import sys

    allowed = {"manual_bp", "torch", "rich", "pytest"} | sys.stdlib_module_names
    for path, names in _imported_in("manual_bp").items():
        assert names <= allowed, path


@pytest.mark.parametrize("package", [layers, ops], ids=["layers", "ops"])
def test_every_file_is_listed_and_has_a_spec(package: object) -> None:
    """Fails when a new file's line, or its spec, is forgotten."""
    files = {m.name for m in pkgutil.iter_modules(package.__path__)}  # type: ignore[attr-defined]
    listed = package.FILES  # type: ignore[attr-defined]
    assert files == set(listed)
    assert list(listed) == sorted(listed)
    specified = {Path(spec.file).stem for spec in SPECS if f"/{_folder(package)}/" in spec.file}
    assert specified == files


def _folder(package: object) -> str:
    return package.__name__.rsplit(".", 1)[-1]  # type: ignore[attr-defined]


def test_names_are_unique() -> None:
    names = [spec.name for spec in SPECS]
    assert len(names) == len(set(names))
    functions = [spec.manual.__name__ for spec in SPECS]
    assert len(functions) == len(set(functions))
    replaced = [native for spec in SPECS for native in spec.replaced]
    assert len(replaced) == len(set(replaced)), "two specs claim the same torch callable"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_spec_is_whole(spec: Spec) -> None:
    source = inspect.getmodule(spec.manual)
    assert source is not None
    assert (ROOT / spec.file).is_file()
    assert source.__doc__, "a layer's file starts with its mathematics"
    assert spec.manual.__doc__, "a functional face says what it takes and gives"
    assert list(spec.samples(Draw())), "a spec has samples"
    for module in spec.modules:
        assert module.__doc__
        assert getattr(manual_bp.nn, module.__name__) is module
    assert getattr(manual_bp.functional, spec.manual.__name__) is spec.manual


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_signature_is_torchs(spec: Spec) -> None:
    if getattr(spec.native, "__module__", None) != "torch.nn.functional" or not inspect.isfunction(
        spec.native
    ):
        pytest.skip("a builtin keeps its signature to itself")
    native = inspect.signature(spec.native).parameters
    if list(native) == ["args", "kwargs"]:
        pytest.skip("torch dispatches on one of its arguments, and shows none")
    manual = inspect.signature(spec.manual).parameters
    assert list(manual) == list(native)
    assert [p.default for p in manual.values()] == [p.default for p in native.values()]


def test_the_docstring_of_a_missing_name_helps() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Linaer'"):
        _ = manual_bp.nn.Linaer
    assert manual_bp.nn.Sequential is torch.nn.Sequential
