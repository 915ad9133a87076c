"""Studies to be shown: a plain one of any size, and one whose every text tries to be more than text."""

import numpy as np

import hyppo
from hyppo.curve import Curve
from hyppo.seeds import seed_for
from hyppo.training.replica import Failure
from hyppo.trial import Asked, Note, ReplicaRecord, Settled, State

SPACE = hyppo.Space(
    lr=hyppo.Real(1e-5, 1e-1, log=True),
    width=hyppo.Integer(8, 512, log=True),
    act=hyppo.Choice(["relu", "tanh", "gelu"]),
    batch=hyppo.Ordinal([16, 32, 64, 128]),
)
START = 1.7e9  # unix seconds
SLOTS = 4


def small_study(path, trials=24, replicas=3):
    """A study file as a run leaves it, with curves, hosts, failures and trials that were stopped early."""
    rng = np.random.default_rng(0)
    free = [START] * SLOTS
    events = []
    for number in range(trials):
        params = SPACE.decode(rng.random(SPACE.dimension))
        unit = SPACE.encode(params)
        level = 0.1 + (unit[0] - 0.6) ** 2 + 0.5 * (unit[1] - 0.7) ** 2 + 0.1 * (params["act"] == "relu")
        asked = tuple((index, seed_for(0, number, index)) for index in range(replicas))
        events.append(Asked(number, params, asked, {"by": "design"}, START))
        records = []
        for index, seed in asked:
            slot = int(np.argmin(free))
            start, end = free[slot], free[slot] + float(rng.gamma(4.0, 15.0))
            free[slot] = end
            told = {"start": start, "end": end, "host": f"node{slot // 2}"}
            if number % 8 == 5:
                failure = Failure("OutOfMemory", "no memory left", "Traceback\nOutOfMemory")
                records.append(ReplicaRecord(index, seed, State.FAILED, failure=failure, **told))
                continue
            loss = float(level + abs(rng.normal(0.0, 0.02 + 0.1 * unit[0])))
            curve = Curve.of([(step, loss + 1.0 / (step + 1)) for step in range(8)])
            if number % 8 == 7:
                records.append(ReplicaRecord(index, seed, State.PRUNED, curve=Curve.of(list(curve)[:3]), **told))
                break
            records.append(ReplicaRecord(index, seed, State.DONE, loss=loss, curve=curve, **told))
        events.append(Settled(number, tuple(records), closed=True, time=max(free)))
    events.insert(0, Note("a plan", START))
    with hyppo.Study(SPACE, log=path, replicas=replicas, seed=0) as study:
        for at in range(0, len(events), 500):
            study._record(*events[at : at + 500])
    return path


MARKUP = '<img src=x onerror="document.title=1">'


def hostile_study(path):
    """A study whose names, values and failures are markup, scripts, escapes of a terminal, and half a character."""
    space = hyppo.Space(
        {
            "</script><script>document.title=2</script>": hyppo.Real(0, 1),
            MARKUP: hyppo.Choice([MARKUP, "</style>", "\x1b[2J", "a\ud800b", "[bold]"]),
            "image": hyppo.Choice(["http://example.org/x.png", "data:,"]),
            "datum['x'].y\\[0]": hyppo.Integer(1, 9),
        }
    )
    with hyppo.Study(space, log=path, replicas=2, seed=3) as study:
        for k in range(12):
            trial = study.ask()
            if k % 4 == 3:
                study.fail(trial.number, f"{MARKUP} </script> \x1b[31m \ud800")
            else:
                study.tell(trial.number, [0.1 * k, 0.1 * k + 0.05])
    return hyppo.load(path)
