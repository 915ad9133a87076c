"""Which room may import what; `CONTRIBUTING.md` has the map."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# library -> the files that may import it
ALLOWED = {
    "numba": ("hyppo/_kernels/",),
    "h5py": ("hyppo/log/",),
    "mpi4py": ("hyppo/launch/mpi/",),
    "typer": ("hyppo/cli/",),
    "rich": ("hyppo/cli/", "hyppo/run/"),
    "matplotlib": (),
    "altair": ("hyppo/plots/",),
    "vl_convert": ("hyppo/report/",),
    "torch": ("integrations/lightning/", "integrations/keras/"),
    "lightning": ("integrations/lightning/",),
    "pytorch_lightning": ("integrations/lightning/",),
    "keras": ("integrations/keras/",),
    "tensorflow": ("integrations/keras/",),
    "jax": ("integrations/keras/",),
}

# Lower rooms first: a file imports `hyppo` modules of its own or a lower room at module level.
FLOORS = [
    ("hyppo/_kernels/", "hyppo/_version.py", "hyppo/forks.py"),
    ("hyppo/errors.py", "hyppo/text.py"),
    ("hyppo/arguments.py",),
    ("hyppo/config.py",),
    ("hyppo/curve.py", "hyppo/seeds.py", "hyppo/stats.py", "hyppo/space/"),
    ("hyppo/training/",),
    ("hyppo/trial.py",),
    ("hyppo/log/", "hyppo/surrogates/"),
    ("hyppo/acquisition/",),
    ("hyppo/stopping.py",),
    ("hyppo/search/",),
    (
        "hyppo/provenance.py",
        "hyppo/results.py",
    ),
    ("hyppo/study.py",),
    ("hyppo/loop/", "hyppo/analysis/"),
    ("hyppo/plots/",),
    ("hyppo/report/",),
    ("hyppo/launch/",),
    ("hyppo/run/",),
    ("hyppo/cli/", "hyppo/__main__.py"),
]

HEAVY = ("torch", "keras", "tensorflow", "lightning", "mpi4py", "numba", "h5py", "scipy", "rich", "typer")


def sources():
    for folder in ("hyppo", "integrations"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def imports(node):
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and child.level == 0:
            yield child.module


def floor_of(path):
    for i, prefixes in enumerate(FLOORS):
        if path.startswith(prefixes):
            return i
    return None


def test_libraries_stay_in_their_rooms():
    wrong = [
        f"{path} imports {name}"
        for path, tree in sources()
        for name in imports(tree)
        if name.split(".")[0] in ALLOWED and not path.startswith(ALLOWED[name.split(".")[0]])
    ]
    assert not wrong


def test_imports_point_downwards():
    wrong = []
    for path, tree in sources():
        floor = floor_of(path)
        if path == "hyppo/__init__.py" or path.startswith("integrations/"):
            continue
        assert floor is not None, f"{path} has no floor: add it to FLOORS"
        module_level = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        for statement in module_level:
            for name in imports(statement):
                if name.startswith("hyppo."):
                    target = name.replace(".", "/")
                    target_floor = (
                        floor_of(target + ".py") if floor_of(target + ".py") is not None else floor_of(target + "/")
                    )
                    if target_floor is not None and target_floor > floor:
                        wrong.append(f"{path} imports {name}")
    assert not wrong


def test_every_room_is_on_the_map():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = [p for p in (ROOT / "hyppo").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
    names = [f"hyppo/{p.name}" + ("/" if p.is_dir() else "") for p in rooms if not p.name.startswith("__")]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_integrations_know_the_core_by_its_doors_only():
    modules = ("criterion", "metric", "predictions", "replica", "resume", "seeding")
    doors = {"hyppo", "hyppo.errors", *(f"hyppo.training.{name}" for name in modules)}
    wrong = [
        f"{path} imports {name}"
        for path, tree in sources()
        if path.startswith("integrations/")
        for name in imports(tree)
        if name.split(".")[0] == "hyppo" and name not in doors
    ]
    assert not wrong


def loaded_after(statement):
    code = f"import sys; {statement}; print(*sorted(m for m in sys.modules if m.partition('.')[0] in {HEAVY!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return {name.split(".")[0] for name in run.stdout.split()}


def test_import_hyppo_is_light():
    assert loaded_after("import hyppo") == set()
    assert loaded_after("import hyppo; hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), log='never-made.h5')") == set()


def test_a_process_that_only_trains_is_light():
    assert not loaded_after("import hyppo.launch.child, hyppo.training.call") & {"numba", "h5py", "mpi4py", "scipy"}


def test_import_hyppo_is_quick():
    def seconds(code):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        return time.perf_counter() - start

    # The interpreter's own start is taken off; the best of three keeps a busy machine from deciding.
    assert min(seconds("import hyppo") for _ in range(3)) - min(seconds("pass") for _ in range(3)) < 0.3


def test_no_package_shadows_a_framework():
    for name in ("lightning", "keras"):
        assert not (ROOT / "integrations" / name / "__init__.py").exists()
        assert not (ROOT / "tests" / name).exists()
    assert not (ROOT / "integrations" / "__init__.py").exists()


@pytest.mark.slow
def test_the_wheel_holds_the_three_packages(tmp_path):
    import zipfile

    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=110, capture_output=True)
    (wheel,) = tmp_path.glob("hyppo_uq-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"hyppo", "hyppo_lightning", "hyppo_keras"}
