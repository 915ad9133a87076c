"""The files that a training writes into its replica's folder: predictions and weights, requested or by default."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hyppo.arguments import whole
from hyppo.config import ENSEMBLE_LOSS
from hyppo.errors import ObjectiveError, StudyError, notify
from hyppo.stats import LossStats
from hyppo.text import error_line
from hyppo.training.criterion import loss_of
from hyppo.training.predictions.collection import FILE, Batch, Collection
from hyppo.training.predictions.output import unflatten
from hyppo.training.predictions.spool import Spool
from hyppo.training.replica import Replica

NETWORKS = ("weights.ckpt", "weights.keras", "weights.weights.h5")  # other files are the user's
UNASKED = "unasked"  # folder beside the trials' with a mark for each file kept by default
NO_PREDICTIONS = "no predictions are kept"
UNASKED_BYTES = 1 << 24  # limit for files kept by default, per replica: 16 MiB, some 4 million outputs


def asked_for(replica: Replica, mc_dropout: int, predict: bool | None) -> bool | None:
    """Whether the user wants predictions: True, False, or None if not specified.

    A study with the target "ensemble_loss" always needs them.

    Raises
    ------
    StudyError
        The number of passes is invalid, or passes are requested without predictions.
    """
    whole("mc_dropout", mc_dropout, least=0)
    if mc_dropout and predict is False:
        raise StudyError(f"mc_dropout={mc_dropout} needs predictions, but predict=False turns them off")
    if replica.target == ENSEMBLE_LOSS and predict is False:
        raise StudyError("the study's target is the ensemble_loss, which needs predictions: leave out predict=False")
    return True if mc_dropout or replica.target == ENSEMBLE_LOSS else predict


def keep(replica: Replica, batches: Iterable[Batch], *, asked: bool) -> None:
    """Predict batch by batch and keep the predictions in the replica's directory; with a criterion, their losses too.

    After an error here the training still keeps its loss: a notice says that predictions are missing, and why. If the
    study optimises the ensemble loss, the training fails with the error at its end, unless a later fit counts instead.
    """
    collection = Collection()
    spool = None if replica.criterion is None else Spool(replica.directory)
    try:
        for prediction, passes, targets in batches:
            collection.add(prediction, passes if spool is None else spool.through(passes), targets)
            if not asked and collection.nbytes > UNASKED_BYTES:
                notify(
                    f"no predictions are kept: they are over {UNASKED_BYTES >> 20} MiB per replica; "
                    "to keep them, set predict=True or mc_dropout=",
                    stacklevel=2,
                )
                return
        if collection.parts:
            collection.save(replica.directory)
            if not asked:
                mark_unasked(replica.directory / FILE)
            replica.rows = collection.digest("targets")
        elif asked:
            raise StudyError("predictions were requested, but there are no validation data to predict")
        if spool is not None and collection.parts:
            replica.losses = _single_losses(replica, collection, spool)
    except Exception as error:
        if replica.target == ENSEMBLE_LOSS:
            replica.losses, replica.no_losses = None, error
            return
        notify(
            f"{'no losses of the predictions are known' if (replica.directory / FILE).is_file() else NO_PREDICTIONS}: "
            f"{error_line(error)}; the loss of the training counts (predict=False silences this notice)",
            stacklevel=2,
        )
    finally:
        if spool is not None:
            spool.close()


def _single_losses(replica: Replica, collection: Collection, spool: Spool) -> LossStats | None:
    """Statistics of the criterion of the trained network's prediction and of each of its passes."""
    assert replica.criterion is not None
    targets = collection.whole("targets")
    if targets is None:
        message = "the criterion needs the validation targets: a batch that is (inputs, targets), or Result(targets=)"
        if replica.target == ENSEMBLE_LOSS:
            raise ObjectiveError(message)
        notify(f"no losses of the predictions are known: {message}", stacklevel=3)
        return None
    losses = [loss_of(replica.criterion, collection.whole("prediction"), targets)]
    losses += [loss_of(replica.criterion, unflatten(one), targets) for one in spool]
    return LossStats.of(losses)


def keep_weights(replica: Replica, saves: Mapping[str, Callable[[Path], Any]], nbytes: int, asked: bool | None) -> None:
    """Write the trained network into the replica's directory, by the first of `saves` that works; whole or not at all.

    By default networks are kept up to `UNASKED_BYTES`. An error becomes a notice; the training keeps its loss.

    Parameters
    ----------
    replica : Replica
    saves : mapping of str to callable
        Name of the file, and the function that writes it: save(path).
    nbytes : int
        Size of the network.
    asked : bool or None
        The user's `weights=`.
    """
    if asked is False:
        return
    if asked is None and nbytes > UNASKED_BYTES:
        notify(
            f"the trained networks are not kept: each has over {UNASKED_BYTES >> 20} MiB; weights=True keeps them, "
            "weights=False silences this notice",
            stacklevel=2,
        )
        return
    errors: list[str] = []
    for name, save in saves.items():
        part = replica.directory / f"part-{os.getpid()}-{name}"
        try:
            save(part)
            os.replace(part, replica.directory / name)
            if asked is None:
                mark_unasked(replica.directory / name)
            return
        except Exception as error:  # a framework raises nearly anything here
            errors.append(error_line(error))
        finally:
            part.unlink(missing_ok=True)
    notify(
        f"the trained network is not kept: {'; '.join(errors)}; the loss of the training counts "
        "(weights=False silences this notice)",
        stacklevel=2,
    )


def weights_in(directory: Path) -> Path | None:
    """The file of a replica's trained network, if there is one."""
    return next((directory / name for name in NETWORKS if (directory / name).is_file()), None)


def discard(directory: Path) -> None:
    """Remove the files of an earlier attempt, so that predictions, weights and loss always come from one training."""
    for name in (FILE, *NETWORKS):
        remove(directory / name)


def remove(path: Path) -> None:
    """Remove a file of a replica, and the mark that it was kept by default."""
    path.unlink(missing_ok=True)
    _mark(path).unlink(missing_ok=True)


def _mark(path: Path) -> Path:
    path = path.absolute()
    above = path.parents
    return above[min(2, len(above) - 1)] / UNASKED / "~".join(path.parts[-3:])


def mark_unasked(path: Path) -> None:
    """Mark this file of a replica as kept by default."""
    mark = _mark(path)
    mark.parent.mkdir(exist_ok=True)
    mark.touch()


def all_unasked(root: Path) -> Iterator[Path]:
    """The files below the study's folder `root` that are kept by default."""
    for mark in (root / UNASKED).glob("trial-*~*~*"):
        yield root.joinpath(*mark.name.split("~"))


def unasked_in(directory: Path) -> Iterator[Path]:
    """The files of one replica that are kept by default."""
    for path in (directory / name for name in (FILE, *NETWORKS)):
        if path.is_file() and _mark(path).exists():
            yield path
