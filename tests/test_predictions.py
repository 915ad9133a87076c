"""What replicas keep and how it is combined: against the formulas written out over all passes."""

import itertools
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyppo
from hyppo.errors import ObjectiveError, StudyError
from hyppo.loop import unasked
from hyppo.training.call import train
from hyppo.training.predictions import (
    FILE,
    UNASKED_BYTES,
    Collection,
    combine,
    flatten,
    keep,
    keep_weights,
    moments,
    networks_of,
    unflatten,
    weights_in,
)
from hyppo.training.replica import Replica, Task


def replica(folder):
    return Replica(Task(trial=0, index=0, seed=1, params={}, directory=str(folder)))


def kept(folder, prediction, passes=(), targets=None, batch=None):
    """One replica's file, filled batch by batch."""
    folder.mkdir(parents=True, exist_ok=True)
    collection = Collection()
    for start in range(0, len(prediction), batch or len(prediction)):
        rows = slice(start, start + (batch or len(prediction)))
        collection.add(prediction[rows], [one[rows] for one in passes], None if targets is None else targets[rows])
    collection.save(folder)
    return folder


def formulas(f, passes, w1, w2):
    """mu and sqrt(V) from f[j] and passes[j][n], summed as they are written."""
    count = sum(len(of_one) for of_one in passes)
    mu = w1 * np.mean(f, axis=0) + (w2 / count * sum(sum(of_one) for of_one in passes) if count else 0.0)
    v = w1 * np.mean([(one - mu) ** 2 for one in f], axis=0)
    if count:
        v = v + w2 / count * sum((one - mu) ** 2 for of_one in passes for one in of_one)
    return mu, np.sqrt(v)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.25, 0.75)])
@pytest.mark.parametrize(("replicas", "passes"), [(1, 0), (1, 5), (3, 0), (4, 7)])
def test_combine_is_exact(tmp_path, replicas, passes, weights, dtype):
    generator = np.random.default_rng(0)
    f = [generator.normal(100, 1, size=(11, 2)).astype(dtype) for _ in range(replicas)]
    all_passes = [[one + generator.normal(size=one.shape).astype(dtype) for _ in range(passes)] for one in f]
    folders = [kept(tmp_path / str(j), f[j], all_passes[j], batch=4) for j in range(replicas)]
    found = combine(folders, weights)
    mu, std = formulas(np.float64(f), [list(np.float64(p)) for p in all_passes], *(weights if passes else (1.0, 0.0)))
    np.testing.assert_allclose(found.mean, mu, rtol=1e-12 if dtype is np.float64 else 1e-7)
    np.testing.assert_allclose(found.std, std, rtol=1e-9 if dtype is np.float64 else 1e-4, atol=1e-12)
    assert (found.replicas, found.passes) == (replicas, replicas * passes)


def test_default_weights_are_halves_and_one_without_passes(tmp_path):
    with_passes = kept(tmp_path / "a", np.array([0.0]), [np.array([4.0])])
    assert combine([with_passes]).mean[0] == 2.0
    assert combine([with_passes]).std[0] == 2.0
    assert combine([kept(tmp_path / "b", np.array([3.0]))]).std[0] == 0.0


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=20))
def test_running_moments_equal_those_of_the_whole(rows):
    mean, variance, count = moments(iter(rows), flatten(rows[0]))
    scale = max(1.0, float(np.abs(rows).max()))
    np.testing.assert_allclose(mean[""], np.mean(rows, axis=0), atol=1e-12 * scale)
    np.testing.assert_allclose(variance[""], np.var(rows, axis=0), atol=1e-12 * scale**2)
    assert count == len(rows)


TREES = [
    np.arange(3.0),
    (np.arange(3.0), np.ones((3, 2))),
    [np.arange(3.0), np.ones((3, 2))],
    {"a": np.arange(3.0), "b": {"c": np.ones(3)}},
]


@pytest.mark.parametrize("tree", TREES)
def test_outputs_of_any_form_come_back(tmp_path, tree):
    collection = Collection()
    collection.add(tree, [tree, tree])
    collection.save(tmp_path)
    expected, found = flatten(tree), flatten(combine([tmp_path]).mean)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[path], found[path]) for path in expected)
    assert type(unflatten(flatten(tree))) is (tuple if isinstance(tree, list) else type(tree))


def test_more_than_ten_outputs_keep_their_order(tmp_path):
    collection = Collection()
    collection.add(tuple(np.full(2, float(i)) for i in range(12)))
    collection.save(tmp_path)
    assert [float(one[0]) for one in combine([tmp_path]).mean] == list(range(12))


def test_lists_of_numbers_complex_and_integers():
    assert flatten([[1.0, 2.0], [3.0, 4.0]])[""].shape == (2, 2)
    z = np.array([1 + 1j, 2j])
    mean, variance, _ = moments([z, -z], flatten(z))
    np.testing.assert_allclose(mean[""], 0)
    np.testing.assert_allclose(variance[""], np.abs(z) ** 2)
    labels = np.array([1, 2])
    assert moments([labels, labels + 1], flatten(labels))[0][""].tolist() == [1.5, 2.5]


def test_what_does_not_fit_says_so(tmp_path):
    with pytest.raises(ObjectiveError, match="must be numbers"):
        flatten(["a", "b"])
    with pytest.raises(ObjectiveError, match=r"pass 0 has the shapes .*\(3,\).*\(2,\)"):
        Collection().add(np.zeros(2), [np.zeros(3)])
    with pytest.raises(ObjectiveError, match="prediction is None"):
        Collection().add(None)
    collection = Collection()
    collection.add(np.zeros((2, 3)))
    with pytest.raises(ObjectiveError, match="has 1 dropout passes, those before it 0"):
        collection.add(np.zeros((2, 3)), [np.zeros((2, 3))])
    collection = Collection()
    collection.add(np.zeros((2, 3)))
    collection.add(np.zeros((2, 4)))
    with pytest.raises(ObjectiveError, match="cannot be concatenated along axis 0"):
        collection.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StudyError, match="none of the 1 replicas kept predictions"):
        combine([tmp_path])
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)), replicas=1)
    study.fail(study.ask().number)
    with pytest.raises(StudyError, match="trial 0 has no loss and no predictions; it is failed"):
        study.predictions(0)
    with pytest.raises(StudyError, match="differ in shape"):
        combine([kept(tmp_path / "a", np.zeros(2)), kept(tmp_path / "b", np.zeros(3))])


def test_replicas_without_predictions_are_passed_over(tmp_path):
    (tmp_path / "none").mkdir()
    found = combine([tmp_path / "none", tmp_path / "never made", kept(tmp_path / "a", np.ones(2))])
    assert found.replicas == 1


def test_memory_beyond_the_arrays_is_a_batch(tmp_path):
    """40 passes over 8 MB of outputs: what is kept is three arrays, what is in flight a batch."""
    n, batch = 1_000_000, 50_000

    def batches():
        for _ in range(n // batch):
            yield np.zeros(batch), (np.ones(batch) for _ in range(40)), None

    tracemalloc.start()
    keep(replica(tmp_path), batches(), asked=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * n * 8 + 10 * batch * 8


def test_a_batch_written_into_the_same_memory(tmp_path):
    """Frameworks reuse buffers: what was kept does not change."""
    buffer = np.zeros(4)
    collection = Collection()
    for value in (1.0, 2.0):
        buffer[:] = value
        collection.add(buffer[:2])
        collection.add(buffer)
    collection.save(tmp_path)
    assert combine([tmp_path]).mean.tolist() == [1.0] * 6 + [2.0] * 6


def test_own_loop_hands_predictions_over(tmp_path):
    passes = iter([np.full(3, 2.0), np.full(3, 4.0)])
    outcome = train(
        lambda _: hyppo.Result(0.5, prediction=np.ones(3), passes=passes, targets=np.zeros(3)), replica(tmp_path / "r")
    )
    assert outcome.loss == 0.5
    found = combine([tmp_path / "r"])
    assert found.mean.tolist() == [2.0] * 3
    assert found.targets.tolist() == [0.0] * 3
    assert next(passes, None) is None


def test_masked_values_are_missing(tmp_path):
    mask = np.arange(12).reshape(6, 2) % 4 == 0

    def objective(replica):
        truth = np.ma.array(np.arange(12.0).reshape(6, 2), mask=mask, fill_value=1e20)
        guess = np.ma.array(np.where(mask, 1e20, truth.data + 0.5 + replica.index), mask=mask)
        return hyppo.Result(np.ma.mean((guess - truth) ** 2), prediction=guess, targets=truth)

    study = hyppo.Study(
        hyppo.Space(x=hyppo.Real(0, 1)),
        objective,
        log=tmp_path / "study.h5",
        replicas=2,
        isolate=False,
        criterion=lambda p, y: np.nanmean((p - y) ** 2),
    )
    study.run(trials=1, progress=False)
    assert [r.loss for r in study.trials[0].replicas] == [0.25, 2.25]
    assert study.best.ensemble_loss == 1.0
    kept = study.predictions(0)
    assert np.array_equal(np.isnan(kept.mean), mask)
    assert np.array_equal(np.isnan(kept.targets), mask)


def test_passes_of_another_shape_are_not_kept_and_the_loss_is(tmp_path):
    with pytest.warns(UserWarning, match="dropout pass 0"):
        outcome = train(lambda _: hyppo.Result(0.5, prediction=np.ones(3), passes=[np.ones(2)]), replica(tmp_path))
    assert outcome.loss == 0.5
    assert not (tmp_path / FILE).exists()


def test_nothing_is_left_of_an_earlier_attempt(tmp_path):
    train(lambda _: hyppo.Result(0.5, prediction=np.ones(3)), replica(tmp_path))
    train(lambda _: 0.25, replica(tmp_path))
    assert not (tmp_path / FILE).exists()
    assert not (tmp_path / "never").exists()
    train(lambda _: 0.25, replica(tmp_path / "never"))
    assert not (tmp_path / "never").exists()  # no folder for a training that leaves nothing


def test_predictions_never_fail_a_training_and_stay_small_if_nobody_asked(tmp_path):
    def broken():
        yield np.ones(3), (), None
        raise RuntimeError("no forward")

    for asked in (False, True):
        with pytest.warns(UserWarning, match="no forward"):
            keep(replica(tmp_path), broken(), asked=asked)
    batch = np.zeros(UNASKED_BYTES // 32)  # 4 batches fill it
    endless = ((batch, (), None) for _ in itertools.count())
    with pytest.warns(UserWarning, match="over 16 MiB"):
        keep(replica(tmp_path), endless, asked=False)
    with pytest.warns(UserWarning, match="no validation data"):
        keep(replica(tmp_path), [], asked=True)
    keep(replica(tmp_path), [], asked=False)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    kept(tmp_path, np.ones(2))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        kept(tmp_path, np.zeros(2))
    assert combine([tmp_path]).mean.tolist() == [1.0, 1.0]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_network_that_cannot_be_kept_is_told_in_one_line(tmp_path):
    def save(path):
        raise NotImplementedError("\nNo get_config.\n\nclass Example:\n" + "    pass\n" * 1000)

    with pytest.warns(
        hyppo.HyppoWarning, match="not kept: NotImplementedError: No get_config. class Example"
    ) as caught:
        keep_weights(Replica(Task(0, 0, 1, {}, str(tmp_path))), {"weights.keras": save}, 1000, None)
    (notice,) = map(str, (one.message for one in caught))
    assert "\n" not in notice
    assert len(notice) < 800


def test_networks_that_nobody_asked_for_are_bounded_for_the_study(tmp_path, monkeypatch):
    """Those of the worst trials go first; files that were asked for and the user's stay; a restart knows them."""
    monkeypatch.setattr(unasked, "STUDY_BYTES", 3500)
    losses, notices = {}, []

    def kept(trial, loss, asked=None):
        folder = tmp_path / f"trial-{trial:05d}" / "replica-00"
        replica = Replica(Task(trial, 0, 1, {}, str(folder)))
        keep_weights(replica, {"weights.ckpt": lambda path: path.write_bytes(bytes(1000))}, 1000, asked)
        (folder / "weights.mine.pt").write_text("the user's")
        losses[trial] = loss
        return folder

    study = unasked.Unasked(tmp_path, losses.get, notices.append)
    folders = [kept(trial, loss) for trial, loss in enumerate([5.0, 1.0, 4.0])]
    folders.append(kept(3, 9.0, asked=True))
    for trial, folder in enumerate(folders):
        study.settle(trial, folder)
    assert all(map(weights_in, folders))
    again = unasked.Unasked(tmp_path, losses.get, notices.append)  # after a restart
    folders.append(kept(4, 2.0))
    again.settle(4, folders[4])
    assert [weights_in(folder) is not None for folder in folders] == [False, True, True, True, True]
    assert all((folder / "weights.mine.pt").exists() for folder in folders)
    assert len(notices) == 1


def test_files_of_the_user_in_a_replicas_directory_stay_for_a_retry(tmp_path):
    def objective(replica):
        own = [replica.directory / name for name in ("weights.mine.pt", "resume.pt")]
        if replica.attempt == 1:
            for path in own:
                path.write_text("epoch 7")
            raise ValueError("no more")
        return float(all(path.exists() for path in own))

    for attempt in (1, 2):
        outcome = train(objective, Replica(Task(0, 0, 1, {}, str(tmp_path / "t" / "r"), attempt)))
    assert outcome.loss == 1.0
    assert weights_in(tmp_path / "t" / "r") is None


def test_an_ensemble_of_a_trial_without_networks_is_an_error_that_says_so():
    study = hyppo.Study(hyppo.Space(x=hyppo.Real(0, 1)))
    study.fail(study.ask().number)
    study.add({"x": 0.5}, [1.0])
    for number, message in (
        (0, "trial 0 has no loss and left no networks; it is failed"),
        (1, r"trial 1 has no checkpoints beside the study file: train with fit\(weights=True\)"),
        (None, "trial 1 has no checkpoints"),
        (2, "trial 2 was never asked"),
    ):
        with pytest.raises(StudyError, match=message):
            networks_of(study, number, "fit(weights=True)")
