"""Private names of frameworks that the integrations and the launcher use: each is listed here, and each exists.

A framework may drop such a name in any release. The list says which test to look at then.
"""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# name -> the object that has it
USED = {
    "_should_eval": "keras.Model",
    "_initial_epoch": "keras.Model.fit",  # made by fit: looked for in its code
    "_eval_epoch_iterator": "keras.Model.fit",
    "_flatten_layers": "keras.Model",
    "_trainable_variables": "keras.optimizers.SGD()",
    "_seed_generators": "keras.layers.Dropout(0.5)",
    "_call_has_training_arg": "keras.layers.Dropout(0.5)",
    "_DropoutNd": "torch.nn.modules.dropout",
    "_version": "torch.zeros(1)",
    "_checkpoint_connector": "lightning.pytorch.Trainer(logger=False)",
    "_restore_modules_and_callbacks": "lightning.pytorch.Trainer(logger=False)._checkpoint_connector",
    "_SubprocessScriptLauncher": "lightning.pytorch.strategies.launchers",
    "_MultiProcessingLauncher": "lightning.pytorch.strategies.launchers",
    "_initializing": "os.__spec__",  # the import system sets it on every loaded module
    "_max_workers": "concurrent.futures.ThreadPoolExecutor(1)",
    "_args_from_interpreter_flags": "subprocess",
    "_inheriting": "multiprocessing.spawn._main",  # set by it: looked for in its code
    "_current_frames": "sys",
    "_getframe": "sys",
    "_DataConnector": "lightning.pytorch.trainer.connectors.data_connector",
    "_exit": "os",
    "_run_exitfuncs": "atexit",
    "_threading_atexits": "threading",
}


def sources():
    for folder in ("hyppo", "integrations"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def is_private(name):
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__") and name.isidentifier()


def read(tree):
    """Private attributes that a module reads, also by `getattr`, `hasattr` and `__dict__`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr"):
            yield from (a.value for a in node.args[1:2] if isinstance(a, ast.Constant) and is_private(a.value))
        elif isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "__dict__":
            yield from (key.value for key in [node.slice] if isinstance(key, ast.Constant) and is_private(key.value))


def defined(tree):
    """Private names that a module defines: functions, classes, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_every_private_name_that_is_used_is_listed():
    own = {name for _, tree in sources() for name in defined(tree)}
    unlisted = {(str(path), name) for path, tree in sources() for name in read(tree) if name not in own | set(USED)}
    assert unlisted == set()


def test_every_listed_name_is_used():
    text = "".join((ROOT / path).read_text() for path, _ in sources())
    assert [name for name in USED if name not in text] == []


@pytest.mark.parametrize("name", USED)
def test_listed_names_exist(name):
    expression = USED[name]
    library = expression.split(".")[0]
    scope = {library: pytest.importorskip(library)}
    for depth in range(1, 4):  # import the modules on the way
        module = ".".join(expression.split("(")[0].split(".")[:depth])
        try:
            importlib.import_module(module)
        except ImportError:
            break
    owner = eval(expression, scope)
    if callable(owner) and hasattr(owner, "__code__") and not hasattr(owner, name):
        wrapped = getattr(owner, "__wrapped__", owner)
        assert name in wrapped.__code__.co_names
    else:
        assert hasattr(owner, name)
