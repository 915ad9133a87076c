"""Global switches of frameworks: restored after each training.

A default dtype, a precision policy or the counters of automatic names outlive the function that set them. The next
training in the same process would have another loss than in a separate process.
"""

from types import ModuleType
from typing import Any

from hyppo.training.frameworks import FRAMEWORKS, imported

Values = dict[str, dict[str, Any]]  # framework -> switch -> value


def current() -> Values:
    """The switches of the frameworks that are imported."""
    return {framework.name: framework.switches(module) for framework, module in imported()}


class Switches:
    """The switches that a training starts with, to be restored when it ends.

    A change that an import makes is kept, because a module is imported once: in a later training it has the same
    switches from its start.

    Examples
    --------
    >>> import numpy as np
    >>> switches = Switches()
    >>> _ = np.seterr(all="raise")
    >>> switches.restore()
    >>> np.geterr()["over"]
    'warn'
    """

    def __init__(self) -> None:
        self._values = current()

    def imported(self, module: ModuleType, before: Values) -> None:
        """Keep the changes since `before`: the import of `module`, which has just been executed, made them."""
        now = current()
        if (framework := FRAMEWORKS.get(module.__name__)) is not None:
            now[framework.name] = framework.switches(module)
        for name, values in now.items():
            known = self._values.setdefault(name, {})
            changed = {key: value for key, value in values.items() if before.get(name, {}).get(key) != value}
            known.update(changed if name in before else values)

    def restore(self) -> None:
        """Set every switch that has changed to its value at the start."""
        for framework, module in imported():
            now = framework.switches(module)
            for key, value in self._values.get(framework.name, {}).items():
                if now.get(key) != value:
                    framework.set_switch(module, key, value)
