"""The queue: replicas that wait for a slot, by the trial group that works on their trial."""

from collections import OrderedDict, deque
from collections.abc import Sequence

from hyppo.training.replica import Task


class Queue:
    """Replicas that wait for a slot, by the trial group that works on their trial: its home."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[int, deque[Task]] = OrderedDict()  # by trial
        self._home: dict[int, int] = {}  # trial -> group
        self._trials: dict[int | None, OrderedDict[int, None]] = {}  # home -> its trials in the queue

    def __len__(self) -> int:
        return sum(len(tasks) for tasks in self._tasks.values())

    @property
    def trials(self) -> Sequence[int]:
        return tuple(self._tasks)

    def add(self, task: Task, first: bool = False) -> None:
        trials = self._trials.setdefault(self._home.get(task.trial), OrderedDict())
        tasks = self._tasks.setdefault(task.trial, deque())
        trials[task.trial] = None
        if first:
            tasks.appendleft(task)
            trials.move_to_end(task.trial, last=False)
            self._tasks.move_to_end(task.trial, last=False)
        else:
            tasks.append(task)

    def of(self, home: int | None) -> int:
        """Replicas of the trials of a group, or of none."""
        return sum(len(self._tasks[trial]) for trial in self._trials.get(home, ()))

    def holds(self, trial: int, index: int) -> bool:
        return any(task.index == index for task in self._tasks.get(trial, ()))

    def take(self, group: int) -> Task | None:
        """The next replica of the group's own trials, or else of a trial of none, which becomes its own."""
        for home in (group, None):
            for trial in self._trials.get(home, ()):
                return self._pop(trial, group)
        return None

    def take_any(self, group: int) -> Task | None:
        """The next replica of any trial."""
        return next((self._pop(trial, group) for trial in self._tasks), None)

    def _pop(self, trial: int, group: int) -> Task:
        home = self._home.get(trial)
        task = self._tasks[trial].popleft()
        if home is None:
            self._home[trial] = group
        if not self._tasks[trial]:
            del self._tasks[trial], self._trials[home][trial]
        elif home is None:
            del self._trials[None][trial]
            self._trials.setdefault(group, OrderedDict())[trial] = None
        return task
