"""A network's output, which is an array or a tuple or dict of them, as arrays by their path, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hyppo.errors import ObjectiveError
from hyppo.training.frameworks import imported

Leaves = dict[str, np.ndarray[Any, Any]]


def array_of(leaf: Any) -> np.ndarray[Any, Any]:
    """A tensor of any framework as a numpy array; 16-bit floats become 32-bit ones.

    Raises
    ------
    ObjectiveError
        Not numbers.
    """
    for framework, module in imported():
        leaf = framework.array(module, leaf)
    array = np.asarray(leaf)
    if array.dtype == np.float16 or array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "biufc":
        raise ObjectiveError(
            f"a prediction must be numbers (an array, or a tuple or dict of arrays), not {type(leaf).__name__} "
            f"of dtype {array.dtype}"
        )
    return np.atleast_1d(array)


def flatten(tree: Any, path: str = "") -> Leaves:
    """Arrays of an output by their path: `[0]` in a tuple or list, `.name` in a dict; None is omitted.

    >>> sorted(flatten({"a": 1.0, "b": (2.0, 3.0)}))
    ['.a', '.b[0]', '.b[1]']
    """
    if tree is None:
        return {}
    if isinstance(tree, Mapping):
        pairs: Iterable[tuple[str, Any]] = ((f"{path}.{key}", value) for key, value in tree.items())
    elif isinstance(tree, tuple) or (isinstance(tree, list) and any(getattr(item, "ndim", 0) for item in tree)):
        pairs = ((f"{path}[{position}]", value) for position, value in enumerate(tree))
    else:
        return {path: array_of(tree)}
    return {name: leaf for path, value in pairs for name, leaf in flatten(value, path).items()}


def unflatten(leaves: Mapping[str, Any]) -> Any:
    """The inverse of `flatten`: an array, a tuple, or a dict with string keys.

    >>> unflatten({".a": 1.0, ".b[0]": 2.0, ".b[1]": 3.0})
    {'a': 1.0, 'b': (2.0, 3.0)}
    """
    if not leaves:
        return None
    if "" in leaves:
        return leaves[""]
    branches: dict[str, dict[str, Any]] = {}
    for path, leaf in leaves.items():
        end = min((at for at in (path.find(".", 1), path.find("[", 1)) if at > 0), default=len(path))
        branches.setdefault(path[:end], {})[path[end:]] = leaf
    if all(head.startswith("[") for head in branches):
        return tuple(unflatten(branch) for branch in branches.values())
    return {head[1:]: unflatten(branch) for head, branch in branches.items()}
