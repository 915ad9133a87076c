"""How the ranks of a job are divided: trial groups x replica groups x data-parallel ranks. Pure functions.

Rank 0 asks and trains nothing. The others are taken node by node, so that a group stays on as few nodes as it can.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from hyppo.errors import LaunchError


@dataclass(frozen=True, slots=True)
class Plan:
    """Who works on what.

    Attributes
    ----------
    groups : tuple
        Ranks as trial groups > replica groups > data-parallel ranks; the first of these leads its replica group.
    idle : tuple of int
        Ranks that fit into no group.
    sentence : str
        All this in words.
    """

    groups: tuple[tuple[tuple[int, ...], ...], ...]
    idle: tuple[int, ...]
    sentence: str


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _evenly(items: Sequence[tuple[int, ...]], parts: int) -> list[tuple[tuple[int, ...], ...]]:
    """`items` in order, in `parts` pieces whose sizes differ by one at most, longer ones first."""
    short, longer = divmod(len(items), parts)
    pieces, start = [], 0
    for part in range(parts):
        stop = start + short + (part < longer)
        pieces.append(tuple(items[start:stop]))
        start = stop
    return pieces


def partition(
    world: int,
    nodes: Sequence[str],
    gpus: Mapping[str, int] | None = None,
    trial_groups: int | None = None,
    replica_groups: int | None = None,
    data_parallel: int | None = None,
    replicas: int = 3,
) -> Plan:
    """Divide the ranks of a job.

    Parameters
    ----------
    world : int
        Ranks in all, at least 2.
    nodes : sequence of str
        Node of each rank.
    gpus : mapping, optional
        GPUs of each node that has any.
    trial_groups, replica_groups, data_parallel : int, optional
        As asked for. Data-parallel ranks are 1 unless asked for. With neither of the others, a trial group gets as
        many replica groups as a trial has replicas; with one of them, the other follows, and trial groups may differ in
        size by one; with both, ranks left over are idle.
    replicas : int
        Replicas that a trial has at first.

    Raises
    ------
    LaunchError
        More is asked for than there are ranks.

    Examples
    --------
    >>> plan = partition(9, ["n1"] * 9)
    >>> plan.groups
    (((1,), (2,), (3,)), ((4,), (5,), (6,)), ((7,), (8,)))
    >>> plan.sentence
    '9 ranks on 1 node: rank 0 asks, 8 train as 3 trial groups of 3, 3 and 2 replica groups, 1 rank each'
    >>> partition(8, ["n1"] * 8, trial_groups=2, data_parallel=2).sentence
    '8 ranks on 1 node: rank 0 asks, 6 train as 2 trial groups of 2 and 1 replica groups, 2 ranks each; 1 idle (rank 7)'
    """
    if len(nodes) != world or world < 2:
        raise LaunchError(f"partition: expected the node of each of {world} ranks and at least 2, got {len(nodes)}")
    size = data_parallel or 1
    order = {node: place for place, node in enumerate(dict.fromkeys(nodes))}
    workers = sorted(range(1, world), key=lambda rank: order[nodes[rank]])
    if size > len(workers):
        raise LaunchError(
            f"data_parallel={size} needs {size} ranks beside the first, which asks; there are {len(workers)}: start "
            f"{size + 1} ranks or more, or lower data_parallel"
        )
    units = _units(workers, nodes, size)
    sizes = _trial_groups(units, trial_groups, replica_groups, replicas, size, world)
    used = {rank for group in sizes for unit in group for rank in unit}
    idle = tuple(rank for rank in sorted(workers) if rank not in used)
    return Plan(tuple(sizes), idle, _sentence(world, nodes, gpus or {}, sizes, size, idle))


def _units(workers: Sequence[int], nodes: Sequence[str], size: int) -> list[tuple[int, ...]]:
    """Replica groups: `size` ranks of one node each, or across nodes where no node has as many."""
    by_node = [list(ranks) for _, ranks in groupby(workers, key=lambda rank: nodes[rank])]
    if max(len(ranks) for ranks in by_node) < size:
        by_node = [list(workers)]
    return [tuple(ranks[i : i + size]) for ranks in by_node for i in range(0, len(ranks) - size + 1, size)]


def _trial_groups(
    units: Sequence[tuple[int, ...]],
    trial_groups: int | None,
    replica_groups: int | None,
    replicas: int,
    size: int,
    world: int,
) -> list[tuple[tuple[int, ...], ...]]:
    needed = (trial_groups or 1) * (replica_groups or 1)
    if needed > len(units):
        asked = " x ".join(
            f"{name}={value}"
            for name, value in (("trial_groups", trial_groups), ("replica_groups", replica_groups))
            if value is not None
        )
        raise LaunchError(
            f"{asked} with {_count(size, 'data-parallel rank')} each needs {needed * size + 1} ranks (the first asks), "
            f"got {world}: start more, or ask for less"
        )
    if trial_groups is not None and replica_groups is not None:
        return _evenly(units[:needed], trial_groups)
    if trial_groups is not None:
        return _evenly(units, trial_groups)
    if replica_groups is not None:
        return [tuple(units[i : i + replica_groups]) for i in range(0, len(units), replica_groups)]
    return _evenly(units, -(-len(units) // min(replicas, len(units))))


def _sentence(
    world: int,
    nodes: Sequence[str],
    gpus: Mapping[str, int],
    groups: Sequence[tuple[tuple[int, ...], ...]],
    size: int,
    idle: Sequence[int],
) -> str:
    lengths = [len(group) for group in groups]
    if len(set(lengths)) == 1:
        each = _count(lengths[0], "replica group")
    else:
        each = f"{', '.join(map(str, lengths[:-1]))} and {lengths[-1]} replica groups"
    text = (
        f"{world} ranks on {_count(len(set(nodes)), 'node')}: rank 0 asks, {sum(lengths) * size} train as "
        f"{_count(len(groups), 'trial group')} of {each}, {_count(size, 'rank')} each"
    )
    if idle:
        text += f"; {len(idle)} idle ({'rank' if len(idle) == 1 else 'ranks'} {', '.join(map(str, idle))})"
    if gpus:
        training = Counter(nodes[rank] for group in groups for unit in group for rank in unit)
        unused = sum(max(0, count - training[node]) for node, count in gpus.items())
        shared = sum(max(0, training[node] - count) for node, count in gpus.items())
        text += f"; {_count(sum(gpus.values()), 'GPU')}"
        if unused:
            text += f", {unused} without a rank: start one rank more than there are GPUs"
        if shared:
            text += f", shared: {_count(shared, 'rank')} more than GPUs"
    return text


def devices(order: Sequence[int], nodes: Sequence[str], visible: Sequence[Sequence[str]]) -> dict[int, str]:
    """The GPU of each rank in `order`: of those that it sees, the one that the fewest on its node have so far.

    Where all ranks of a node see the same GPUs they take them in turn; where a batch system gave each its own, they
    keep those.

    >>> devices([1, 2, 3], ["n1"] * 4, [["0", "1"]] * 4)
    {1: '0', 2: '1', 3: '0'}
    >>> devices([1, 2], ["n1"] * 3, [["0"], ["1"], ["2"]])
    {1: '1', 2: '2'}
    """
    taken: Counter[tuple[str, str]] = Counter()
    chosen: dict[int, str] = {}
    for rank in order:
        if visible[rank]:
            gpu = min(visible[rank], key=lambda name: taken[nodes[rank], name])
            taken[nodes[rank], gpu] += 1
            chosen[rank] = gpu
    return chosen
