"""How the ranks of a job are divided: trial groups x replica groups x data-parallel ranks. Pure functions.

Rank 0 asks. It also trains if a GPU would idle otherwise, or if asked to. Ranks are taken node by node: a group
spans nodes only if no node holds as many ranks as it needs, or if more groups are requested than fit on single nodes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyppo.errors import LaunchError

Unit = tuple[int, ...]  # the ranks of a replica group
Group = tuple[Unit, ...]  # a trial group


@dataclass(frozen=True, slots=True)
class Plan:
    """The division of the ranks.

    Attributes
    ----------
    groups : tuple
        Ranks as trial groups > replica groups > data-parallel ranks; the first of these leads its replica group.
    idle : tuple of int
        Ranks that fit into no group.
    shared : bool
        Whether rank 0 trains as well.
    sentence : str
        All this in words.
    """

    groups: tuple[Group, ...]
    idle: tuple[int, ...]
    shared: bool
    sentence: str


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _evenly(units: Sequence[Unit], parts: int) -> list[Group]:
    """`units` in order, in `parts` pieces whose sizes differ by one at most, longer ones first."""
    short, longer = divmod(len(units), parts)
    pieces, start = [], 0
    for part in range(parts):
        stop = start + short + (part < longer)
        pieces.append(tuple(units[start:stop]))
        start = stop
    return pieces


def _pieces(units: Sequence[Unit], size: int) -> tuple[list[Group], list[Unit]]:
    """`units` in order, in pieces of `size`, and the rest."""
    whole = len(units) - len(units) % size
    return [tuple(units[start : start + size]) for start in range(0, whole, size)], list(units[whole:])


def partition(
    world: int,
    nodes: Sequence[str],
    gpus: Mapping[str, int] | None = None,
    trial_groups: int | None = None,
    replica_groups: int | None = None,
    data_parallel: int | None = None,
    replicas: int = 3,
    manager: str | None = None,
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
        many replica groups as a trial has replicas, or fewer if a node has fewer; with one of them, the other
        follows, and trial groups may differ in size; with both, ranks left over are idle.
    replicas : int
        Replicas that a trial has at first.
    manager : {"dedicated", "shared"}, optional
        Whether rank 0 only asks, or trains as well. By default it only asks, unless its node has more GPUs than other
        ranks.

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
    >>> partition(4, ["n1"] * 4, {"n1": 4}, data_parallel=2).sentence
    '4 ranks on 1 node: rank 0 asks and trains, 4 train as 1 trial group of 2 replica groups, 2 ranks each; 4 GPUs'
    """
    if len(nodes) != world or world < 2:
        raise LaunchError(f"partition: expected the node of each of {world} ranks and at least 2, got {len(nodes)}")
    gpus = gpus or {}
    shared = gpus.get(nodes[0], 0) >= Counter(nodes)[nodes[0]] if manager is None else manager == "shared"
    size = data_parallel or 1
    by_node: dict[str, list[int]] = {node: [] for node in nodes}
    for rank in range(0 if shared else 1, world):
        by_node[nodes[rank]].append(rank)
    workers = [rank for ranks in by_node.values() for rank in ranks]
    asked = _asked(trial_groups, replica_groups, data_parallel)
    needed = (trial_groups or 1) * (replica_groups or 1)
    if needed * size > len(workers):
        raise LaunchError(
            f"{asked} needs {needed * size} ranks that train{'' if shared else ' beside the first, which asks'}: "
            f"start {needed * size + (not shared)} ranks or more, or ask for less"
            f"{'' if shared else ', or have the first train as well (manager=shared)'}; got {_count(world, 'rank')}"
        )
    units = _units(by_node, size, needed)
    groups = sorted(_trial_groups(units, trial_groups, replica_groups, replicas))
    used = {rank for group in groups for unit in group for rank in unit}
    idle = tuple(rank for rank in sorted(workers) if rank not in used)
    return Plan(tuple(groups), idle, shared, _sentence(nodes, gpus, groups, size, idle, shared))


def _asked(trial_groups: int | None, replica_groups: int | None, data_parallel: int | None) -> str:
    named = {"trial_groups": trial_groups, "replica_groups": replica_groups, "data_parallel": data_parallel}
    return " x ".join(f"{name}={value}" for name, value in named.items() if value is not None)


def _units(by_node: Mapping[str, Sequence[int]], size: int, needed: int) -> list[list[Unit]]:
    """Replica groups of `size` ranks, by node; last those across nodes, made if fewer than `needed` fit on nodes.

    Ranks of the largest remainders meet, so that a group spans as few nodes as it can.
    """
    within, rests = [], []
    for ranks in by_node.values():
        whole = len(ranks) - len(ranks) % size
        within.append([tuple(ranks[start : start + size]) for start in range(0, whole, size)])
        rests.append(ranks[whole:])
    found = sum(map(len, within))
    if found < needed:
        loose = [rank for rest in sorted(rests, key=len, reverse=True) for rank in rest]
        across = [tuple(loose[start : start + size]) for start in range(0, len(loose) - size + 1, size)]
        # If no node holds a whole one, all of them span nodes: then there is no reason to leave ranks idle.
        within.append(across if found == 0 else across[: needed - found])
    return [units for units in within if units]


def _trial_groups(
    by_node: Sequence[Sequence[Unit]], trial_groups: int | None, replica_groups: int | None, replicas: int
) -> list[Group]:
    """Replica groups in trial groups, each on one node if the requested numbers allow."""
    units = [unit for its in by_node for unit in its]
    if replica_groups is not None:
        within, loose = [], []
        for its in by_node:
            whole, rest = _pieces(its, replica_groups)
            within += whole
            loose += rest
        across, rest = _pieces(loose, replica_groups)
        if trial_groups is not None:
            return (within + across)[:trial_groups]
        return within + across + ([tuple(rest)] if rest else [])
    if trial_groups is not None:
        if trial_groups < len(by_node):
            return _evenly(units, trial_groups)
        parts = [1] * len(by_node)
        for _ in range(trial_groups - len(by_node)):
            fullest = max(range(len(parts)), key=lambda node: len(by_node[node]) / parts[node])
            parts[fullest] += 1
        return [group for its, count in zip(by_node, parts, strict=True) for group in _evenly(its, count)]
    if max(map(len, by_node)) < replicas:
        return _evenly(units, -(-len(units) // replicas))
    return [group for its in by_node for group in _evenly(its, -(-len(its) // replicas))]


def _sentence(
    nodes: Sequence[str],
    gpus: Mapping[str, int],
    groups: Sequence[Group],
    size: int,
    idle: Sequence[int],
    shared: bool,
) -> str:
    lengths = [len(group) for group in groups]
    if len(set(lengths)) == 1:
        each = _count(lengths[0], "replica group")
    else:
        each = f"{', '.join(map(str, lengths[:-1]))} and {lengths[-1]} replica groups"
    text = (
        f"{len(nodes)} ranks on {_count(len(set(nodes)), 'node')}: rank 0 asks{' and trains' if shared else ''}, "
        f"{sum(lengths) * size} train as {_count(len(groups), 'trial group')} of {each}, {_count(size, 'rank')} each"
    )
    across = sum(len({nodes[rank] for unit in group for rank in unit}) > 1 for group in groups)
    if across:
        text += f"; {_count(across, 'trial group')} across nodes"
    if idle:
        text += f"; {len(idle)} idle ({'rank' if len(idle) == 1 else 'ranks'} {', '.join(map(str, idle))})"
    if gpus:
        training = Counter(nodes[rank] for group in groups for unit in group for rank in unit)
        unused = sum(max(0, count - training[node]) for node, count in gpus.items())
        several = sum(max(0, training[node] - count) for node, count in gpus.items())
        text += f"; {_count(sum(gpus.values()), 'GPU')}"
        if unused:
            text += f", {unused} without a rank"
        if several:
            text += f", {_count(several, 'rank')} more than GPUs"
    return text


def notice_of_workers(plan: Plan, workers: int | None) -> str:
    """The notice that a run with `workers=` needs if the ranks make another number of trainings at a time; else empty.

    >>> notice_of_workers(partition(3, ["n1"] * 3), 4)
    'workers=4 has no effect under MPI: the ranks make 2 trainings at a time; for 4, start 5 ranks (mpiexec -n 5)'
    >>> notice_of_workers(partition(3, ["n1"] * 3), 2)
    ''
    """
    units = [unit for group in plan.groups for unit in group]
    if workers is None or workers == len(units):
        return ""
    ranks = workers * len(units[0]) + (0 if plan.shared else 1)
    return (
        f"workers={workers} has no effect under MPI: the ranks make {_count(len(units), 'training')} at a time; "
        f"for {workers}, start {_count(ranks, 'rank')} (mpiexec -n {ranks})"
    )


def notice_of_folders(plan: Plan, nodes: Sequence[str]) -> str:
    """The notice that a study without a file needs if it trains on other nodes than rank 0's; empty if it does not.

    >>> notice_of_folders(partition(3, ["n1"] * 3), ["n1"] * 3)
    ''
    """
    elsewhere = {nodes[rank] for group in plan.groups for unit in group for rank in unit} - {nodes[0]}
    if not elsewhere:
        return ""
    return (
        "this study has no log=, so the folders of its replicas are in the temporary folder of each node: rank 0 does "
        "not see the networks, predictions and states to resume from that are left on "
        f"{_count(len(elsewhere), 'other node')}, and does not delete them. Give the study a log= in a folder that all "
        "nodes share"
    )


def devices(order: Sequence[int], nodes: Sequence[str], visible: Sequence[Sequence[str]]) -> dict[int, str]:
    """The GPU of each rank in `order`: of the GPUs it sees, the one with the fewest ranks of its node so far.

    If all ranks of a node see the same GPUs, they take them in turn; if a batch system gave each its own, they keep
    those.

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
