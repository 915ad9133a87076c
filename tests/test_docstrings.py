"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib.util
import pkgutil

import pytest

import hyppo

MODULES = [m.name for m in pkgutil.walk_packages(hyppo.__path__, "hyppo.") if not m.name.endswith("__main__")]
NEEDS = {"hyppo_lightning": "lightning", "hyppo_keras": "keras"}
for package in NEEDS:  # their paths are known without importing a framework
    spec = importlib.util.find_spec(package)
    assert spec is not None
    MODULES += [m.name for m in pkgutil.iter_modules(spec.submodule_search_locations, f"{package}.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    library = NEEDS.get(name.partition(".")[0])
    if library is not None:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
