"""One BLAS thread for the search's own linear algebra.

Its matrices have at most some hundred rows, which a second thread speeds up little; where trainings keep all cores busy
it waits for a core at every call. Measured on two busy cores: an ask of 100 points took 80 ms with two threads, 5 ms
with one.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@lru_cache(maxsize=1)
def _libraries() -> Any:
    """The BLAS of numpy and scipy, found once: it takes some milliseconds."""
    import scipy.linalg  # noqa: F401 - loads the BLAS
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def on_one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """`function` with one BLAS thread; trainings in the same process keep theirs.

    >>> on_one_thread(lambda: {lib["num_threads"] for lib in _libraries().info() if lib["user_api"] == "blas"})()
    {1}
    """

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        with _libraries().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
