"""HyppoCallback on the real Trainer of both Lightning packages: toy networks, two epochs, one thread."""

import copy
import os
import re
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import hyppo
from hyppo.errors import StudyError
from hyppo.training.call import train
from hyppo.training.criterion import pack
from hyppo.training.predictions import combine
from hyppo.training.replica import Outcome, Replica, Task

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch = pytest.importorskip("torch")
L = pytest.importorskip("lightning.pytorch")
torchmetrics = pytest.importorskip("torchmetrics")

import hyppo_lightning  # noqa: E402
from hyppo_lightning import HyppoCallback  # noqa: E402
from hyppo_lightning.callback import whole_networks  # noqa: E402
from hyppo_lightning.predict import batches, dropout_layers  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset, TensorDataset  # noqa: E402

pytestmark = [pytest.mark.timeout(100), pytest.mark.filterwarnings("ignore")]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def data(n=24, seed=1, batch=8, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=batch, **kwargs)


class Net(L.LightningModule):
    def __init__(self, dropout=0.0, body=None):
        super().__init__()
        self.body = body or nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1))

    def forward(self, x):
        return self.body(x)

    def loss(self, batch):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def training_step(self, batch, index):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, index, dataloader_idx=0):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def replica(tmp_path, params=None, **kwargs):
    return Replica(Task(trial=3, index=1, seed=11, params=params or {}, directory=str(tmp_path / "replica")), **kwargs)


def fit(one, net=None, *, epochs=2, loaders=None, before=(), after=(), callback=None, trainer=None, **options):
    """A whole training through `hyppo.training.call.train`; Trainer options beside."""
    package = options.pop("package", L)
    kept = {}

    def objective(replica):
        ours = HyppoCallback(replica, **(callback or {}))
        run = package.Trainer(
            max_epochs=epochs, callbacks=[*before, ours, *after], accelerator="cpu", **QUIET | options
        )
        kept.update(trainer=run, net=net() if net else Net(), callback=ours)
        train_loader, val_loader = (loaders or (lambda: (data(), data(seed=2))))()
        run.fit(kept["net"], train_loader, val_loader)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="(lightning|pytorch_lightning)")
        outcome = train(objective, one)
    return outcome, kept


def validated(kept, loader=None):
    """The loss of the weights that fit left, computed by hand, averaged as Lightning does: by batch size."""
    net = kept["net"].eval()
    with torch.no_grad():
        pairs = [(net.loss(batch).item(), len(batch[0])) for batch in (loader or data(seed=2))]
    return sum(loss * n for loss, n in pairs) / sum(n for _, n in pairs)


def error_of(outcome: Outcome) -> str:
    assert outcome.loss is None
    assert outcome.failure is not None
    return str(outcome.failure)


def test_reports_each_epoch_and_hands_over_the_last(tmp_path):
    outcome, kept = fit(replica(tmp_path))
    assert [step for step, _ in outcome.curve] == [0, 1]
    assert outcome.loss == outcome.curve[-1][1] == pytest.approx(validated(kept), rel=1e-6)


def mse(prediction, targets):
    return float(np.mean((prediction - targets) ** 2))


def test_criterion_of_network_and_passes(tmp_path):
    """Over the batches it is that of the whole: the loss that was validated, and one a pass."""
    task = Task(0, 0, 11, {}, str(tmp_path / "r"), 1, "ensemble_loss", pack(mse))
    outcome, _ = fit(Replica(task), lambda: Net(0.5), callback={"mc_dropout": 4})
    assert outcome.losses.n == 5
    with np.load(tmp_path / "r" / "predictions.npz") as arrays:
        single, y = mse(arrays["prediction"], arrays["targets"]), arrays["targets"]
        # E_n (f_n - y)^2 = v + (m - y)^2
        passes = float(np.mean(arrays["variance"] + (arrays["mean"] - y) ** 2))
    assert single == pytest.approx(outcome.loss, rel=1e-5)
    assert outcome.losses.mean == pytest.approx((single + 4 * passes) / 5, rel=1e-5)
    assert outcome.losses.std > 0


def test_ensemble_loss_without_criterion_trains_nothing(tmp_path):
    outcome, _ = fit(Replica(Task(0, 0, 11, {}, str(tmp_path), 1, "ensemble_loss")))
    assert "needs Study(..., criterion=f)" in error_of(outcome)
    assert outcome.curve == ()
    outcome, _ = fit(
        Replica(Task(0, 0, 11, {}, str(tmp_path), 1, "ensemble_loss", pack(mse))), callback={"predict": False}
    )
    assert "leave out predict=False" in error_of(outcome)


class Wide(Net):
    """Made from its parameters."""

    def __init__(self, width):
        super().__init__(body=nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 1)))


def trained(path, **callback):
    """A study of one trial of two replicas."""

    def objective(replica):
        ours = HyppoCallback(replica, **callback)
        run = L.Trainer(max_epochs=1, callbacks=[ours], accelerator="cpu", **QUIET)
        run.fit(Wide(**replica.params), data(), data(seed=2))

    space = hyppo.Space(width=hyppo.Integer(2, 8))
    with hyppo.Study(space, objective, log=path / "study.h5", replicas=2, isolate=False) as study:
        study.run(trials=1, progress=False)
    return hyppo.load(path / "study.h5")


def test_ensemble_predicts_what_the_replicas_did(tmp_path):
    study = trained(tmp_path, predict=True)
    assert [path.name for path in study.best.checkpoints] == ["weights.ckpt"] * 2
    ensemble = hyppo_lightning.load_ensemble(study, Wide)
    x, y = data(seed=2).dataset.tensors
    kept = study.predictions(0)
    for inputs in (x, x.numpy().astype(np.float64), data(seed=2)):
        found = ensemble.predict(inputs)
        np.testing.assert_allclose(found.mean, kept.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.std, kept.std, rtol=1e-3, atol=1e-6)
        assert (found.replicas, found.passes) == (2, 0)
    np.testing.assert_array_equal(found.targets, y)
    dropped = ensemble.predict(x, mc_dropout=4)
    assert dropped.passes == 8
    assert float(np.median(dropped.std)) > float(np.median(kept.std))
    assert not any(network.training for network in ensemble.networks)
    again = Wide.load_from_checkpoint(study.best.checkpoints[0], **study.best.params).eval()
    assert torch.equal(again(x), ensemble.networks[0](x))


def test_checkpoints_that_are_not_there_or_do_not_load(tmp_path):
    study = trained(tmp_path)
    one, two = study.checkpoints(0)
    with pytest.raises(StudyError, match="trial 9 was never asked"):
        hyppo_lightning.load_ensemble(study, Wide, 9)
    with pytest.raises(StudyError, match=r"(?s)does not load into build\(.*build must make the network"):
        hyppo_lightning.load_ensemble(study, lambda width: Wide(width + 1))
    with pytest.raises(StudyError) as caught:
        hyppo_lightning.load_ensemble(study, lambda width: Wide(width + 1))
    assert re.fullmatch(
        r"\S+/weights.ckpt does not load into build\(width=\d\): build must make the network as the training did; "
        r"a damaged file has to be deleted, and the ensemble goes without it \(RuntimeError: Error\(s\) in .*\)",
        str(caught.value),
    ), "one line"
    assert "\n\tsize mismatch for" in str(caught.value.__cause__), "the whole text is that of the cause"
    one.write_bytes(one.read_bytes()[:100])
    with pytest.raises(StudyError, match="a damaged file has to be deleted"):
        hyppo_lightning.load_ensemble(study, Wide)
    one.unlink()
    assert hyppo_lightning.load_ensemble(study, Wide).predict(np.zeros((3, 4))).replicas == 1
    two.unlink()
    with pytest.raises(StudyError, match="weights=True"):
        hyppo_lightning.load_ensemble(study, Wide)
    folder = tmp_path / "none"
    folder.mkdir()
    assert trained(folder, weights=False).best.checkpoints == ()


def test_pytorch_lightning_code_too(tmp_path):
    P = pytest.importorskip("pytorch_lightning")

    class Old(P.LightningModule):
        __init__, forward, loss = Net.__init__, Net.forward, Net.loss

    for name in ("training_step", "validation_step", "configure_optimizers"):
        setattr(Old, name, getattr(Net, name))
    Old.__init__ = lambda self: (P.LightningModule.__init__(self), setattr(self, "body", nn.Linear(4, 1)))[0]
    outcome, kept = fit(replica(tmp_path), Old, package=P)
    assert isinstance(kept["callback"], HyppoCallback | P.Callback)
    assert isinstance(kept["callback"], P.Callback)
    assert len(outcome.curve) == 2
    assert outcome.loss == pytest.approx(validated(kept), rel=1e-6)


@pytest.mark.parametrize(
    ("mine", "other"), [("lightning.pytorch", "pytorch_lightning"), ("pytorch_lightning", "lightning")]
)
def test_loads_no_second_lightning(mine, other):
    pytest.importorskip(mine)
    code = f"""
import sys, hyppo_lightning
assert not any(name in sys.modules for name in ("lightning", "pytorch_lightning"))
import {mine} as P
from hyppo.training.replica import Replica, Task
callback = hyppo_lightning.HyppoCallback(Replica(Task(0, 0, 1, {{}}, ".")))
assert isinstance(callback, P.Callback) and isinstance(callback, hyppo_lightning.HyppoCallback)
assert {other!r} not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=90)


def test_sanity_check_is_no_result(tmp_path):
    outcome, _ = fit(replica(tmp_path), epochs=1, num_sanity_val_steps=2)
    assert [step for step, _ in outcome.curve] == [0]


def test_metric_never_logged(tmp_path):
    message = error_of(fit(replica(tmp_path), callback={"monitor": "val_los"})[0])
    assert "'val_los'" in message
    assert "train_loss" in message
    assert "val_loss" in message


def test_no_validation_data(tmp_path):
    message = error_of(fit(replica(tmp_path), loaders=lambda: (data(), None))[0])
    assert "needs validation data" in message


def test_nan_is_a_failure_of_the_training(tmp_path):
    class Diverging(Net):
        def validation_step(self, batch, index):
            self.log("val_loss", self.loss(batch) * float("nan"))

    outcome, _ = fit(replica(tmp_path), Diverging)
    assert outcome.failure.type == "NonFiniteLoss"
    assert [np.isnan(loss) for _, loss in outcome.curve] == [True, True]


def test_maximised_metric(tmp_path):
    class Scoring(Net):
        def validation_step(self, batch, index):
            self.log("val_score", 10.0 - self.loss(batch))

    outcome, kept = fit(replica(tmp_path), Scoring, callback={"monitor": "val_score", "mode": "max"})
    assert outcome.loss == pytest.approx(validated(kept) - 10.0, rel=1e-6)
    assert outcome.curve[-1][1] == outcome.loss


def test_mode_and_notice(tmp_path):
    with pytest.raises(StudyError, match='"min" or "max"'):
        HyppoCallback(replica(tmp_path), mode="auto")
    with pytest.warns(UserWarning, match='mode="max"'):
        HyppoCallback(replica(tmp_path), monitor="val_acc")
    with pytest.raises(StudyError, match="mc_dropout: expected an integer of at least 0"):
        HyppoCallback(replica(tmp_path), mc_dropout=-1)
    with pytest.raises(StudyError, match="predict=False"):
        HyppoCallback(replica(tmp_path), mc_dropout=2, predict=False)


def test_metric_of_the_epoch_hook_of_the_module(tmp_path):
    class Late(Net):
        def on_train_epoch_end(self):
            self.log("late", float(self.current_epoch + 5))

    outcome, _ = fit(replica(tmp_path), Late, callback={"monitor": "late"}, epochs=3)
    assert outcome.curve == ((0, 5.0), (1, 6.0), (2, 7.0))
    assert outcome.loss == 7.0


def test_training_metric(tmp_path):
    outcome, _ = fit(replica(tmp_path), callback={"monitor": "train_loss"}, loaders=lambda: (data(), None))
    assert [step for step, _ in outcome.curve] == [0, 1]
    assert outcome.loss == outcome.curve[-1][1]


def test_torchmetrics(tmp_path):
    class Measured(Net):
        def __init__(self):
            super().__init__()
            self.error = torchmetrics.MeanAbsoluteError()

        def validation_step(self, batch, index):
            self.error(self(batch[0]), batch[1])
            self.log("val_mae", self.error, on_epoch=True)

    outcome, kept = fit(replica(tmp_path), Measured, callback={"monitor": "val_mae"}, epochs=3)
    assert [step for step, _ in outcome.curve] == [0, 1, 2]
    net, (x, y) = kept["net"].eval(), data(seed=2).dataset.tensors
    assert outcome.loss == pytest.approx(float((net(x) - y).abs().mean()), rel=1e-6)


def test_several_loaders(tmp_path):
    outcome, kept = fit(
        replica(tmp_path),
        loaders=lambda: (data(), [data(seed=2), data(seed=3)]),
        callback={"monitor": "val_loss/dataloader_idx_1"},
    )
    assert outcome.loss == pytest.approx(validated(kept, data(seed=3)), rel=1e-6)
    assert combine([tmp_path / "replica"]).mean.shape == (48, 1)
    assert "val_loss/dataloader_idx_0" in error_of(
        fit(replica(tmp_path), loaders=lambda: (data(), [data(seed=2), data(seed=3)]))[0]
    )


@pytest.mark.parametrize(
    "options",
    [
        {"check_val_every_n_epoch": 2, "epochs": 3},  # the last epoch is not validated
        {"val_check_interval": 4, "check_val_every_n_epoch": None, "epochs": 3},  # validated within an epoch
        {"max_steps": 5, "epochs": -1},  # stopped within an epoch
        {"val_check_interval": 0.34},
    ],
)
def test_the_loss_is_of_the_weights_that_fit_leaves(tmp_path, options):
    outcome, kept = fit(replica(tmp_path), **options)
    assert outcome.loss == pytest.approx(validated(kept), rel=1e-6)
    steps = [step for step, _ in outcome.curve]
    assert steps == sorted(steps)


def test_validated_every_second_epoch_reports_every_second(tmp_path):
    outcome, _ = fit(replica(tmp_path), check_val_every_n_epoch=2, epochs=4)
    assert [step for step, _ in outcome.curve] == [1, 3]


def test_averaged_weights(tmp_path):
    """StochasticWeightAveraging exchanges the weights as training ends, after whatever validation there was."""
    averaging = L.callbacks.StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1)
    outcome, kept = fit(replica(tmp_path), epochs=3, after=[averaging])
    assert outcome.loss == pytest.approx(validated(kept), rel=1e-6)


@pytest.mark.skipif(not hasattr(L.callbacks, "WeightAveraging"), reason="Lightning has it from 2.6 on")
@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("each", ["step", "epoch"])
def test_weights_averaged_from_the_start(tmp_path, each, best):
    """WeightAveraging validates averages and trains on with other weights; those of an epoch follow its validation."""

    class Averaging(L.callbacks.WeightAveraging):
        def should_update(self, step_idx=None, epoch_idx=None):
            return (step_idx if each == "step" else epoch_idx) is not None

    outcome, kept = fit(replica(tmp_path), epochs=3, after=[Averaging()], callback={"monitor_best": best})
    assert outcome.loss == pytest.approx(validated(kept), rel=1e-6)
    assert not best or outcome.loss == min(loss for _, loss in outcome.curve)
    network = kept["net"].state_dict()
    kept_network = torch.load(tmp_path / "replica" / "weights.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(network[name], kept_network[name]) for name in network)


def test_fast_dev_run(tmp_path):
    outcome, _ = fit(replica(tmp_path), fast_dev_run=True)
    assert outcome.loss is not None
    assert combine([tmp_path / "replica"]).mean.shape == (8, 1)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"limit_train_batches": 0}])
def test_no_training_is_an_error(tmp_path, options):
    assert "trained nothing" in error_of(fit(replica(tmp_path), **options)[0])


def test_given_twice(tmp_path):
    one = replica(tmp_path)
    assert "more than one HyppoCallback" in error_of(fit(one, before=[HyppoCallback(one)])[0])


def test_the_last_of_several_fits_counts(tmp_path):
    one = replica(tmp_path)
    trainer = L.Trainer(max_epochs=2, callbacks=[HyppoCallback(one)], accelerator="cpu", **QUIET)

    def objective(replica):
        module = Net()
        trainer.fit(module, data(), data(seed=2))
        trainer.fit_loop.max_epochs = 3  # the same trainer and callback go on
        trainer.fit(module, data(), data(seed=2))

    outcome = train(objective, one)
    assert outcome.failure is None, outcome.failure.traceback
    assert outcome.loss == outcome.curve[-1][1]
    assert len(outcome.curve) == 3
    assert outcome.whole


def test_stops_when_asked(tmp_path):
    one = replica(tmp_path, stop_asked=lambda: len(one.curve) >= 2)
    outcome, kept = fit(one, epochs=50)
    assert len(outcome.curve) == 2
    assert kept["trainer"].current_epoch == 2


def test_test_and_validate_after_fit_are_left_alone(tmp_path):
    one = replica(tmp_path)

    def objective(replica):
        trainer = L.Trainer(max_epochs=1, callbacks=[HyppoCallback(replica)], accelerator="cpu", **QUIET)
        net = Net()
        trainer.fit(net, data(), data(seed=2))
        trainer.validate(net, data(seed=3), verbose=False)

    outcome = train(objective, one)
    assert outcome.loss == outcome.curve[-1][1]


def test_a_network_may_hold_the_replica(tmp_path):
    """Checkpoints pickle it with the hyperparameters, and averaging of weights copies it with the network."""
    reported = []
    lock = threading.Lock()  # as the connection of a training process has: neither copied nor pickled

    def report(step, loss):
        with lock:
            reported.append((step, loss))

    class Holder(Net):
        def __init__(self, replica):
            super().__init__()
            self.save_hyperparameters()
            self.replica = replica

    one = replica(tmp_path, on_report=report)
    saved = L.callbacks.ModelCheckpoint(dirpath=tmp_path / "mine")
    averaged = L.callbacks.StochasticWeightAveraging(0.05, swa_epoch_start=1)
    outcome, kept = fit(one, lambda: Holder(one), before=[saved, averaged], enable_checkpointing=True)
    assert outcome.failure is None
    assert reported == list(outcome.curve)
    loaded = Holder.load_from_checkpoint(saved.best_model_path, weights_only=False)
    assert (loaded.replica.trial, loaded.replica.should_stop) == (3, False)
    assert copy.deepcopy(kept["net"]).replica is one
    other = copy.copy(one)
    other.params = {"lr": 1}
    other.report(5, 0.5)
    assert (one.params, reported[-1]) == ({}, (5, 0.5))


@pytest.mark.parametrize("workers", [0, 2])
def test_same_replica_same_loss(tmp_path, workers):
    class Noisy(Dataset):
        def __len__(self):
            return 16

        def __getitem__(self, index):
            x = torch.randn(4) + float(np.random.rand())  # noqa: NPY002 - what users' augmentation draws from
            return x, x.sum(0, keepdim=True)

    def loaders():
        return DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=workers), data(seed=2)

    first, second = (fit(replica(tmp_path), lambda: Net(0.3), loaders=loaders, epochs=1)[0] for _ in range(2))
    assert first.loss == second.loss
    assert first.curve == second.curve


# Predictions


def test_predictions_and_passes(tmp_path):
    outcome, kept = fit(replica(tmp_path), lambda: Net(0.5), callback={"mc_dropout": 30})
    with np.load(tmp_path / "replica" / "predictions.npz") as arrays:
        assert int(arrays["passes"]) == 30
        assert arrays["mean"].shape == arrays["variance"].shape == (24, 1)
        assert arrays["variance"].min() > 0
        x, y = data(seed=2).dataset.tensors
        np.testing.assert_allclose(arrays["prediction"], kept["net"].eval()(x).detach(), rtol=1e-6)
        np.testing.assert_array_equal(arrays["targets"], y)
        assert np.mean((arrays["prediction"] - arrays["targets"]) ** 2) == pytest.approx(outcome.loss, rel=1e-5)


def test_no_dropout_no_passes_and_a_notice(tmp_path):
    with pytest.warns(UserWarning, match="no active dropout layer"):
        fit(replica(tmp_path), callback={"mc_dropout": 5})
    assert combine([tmp_path / "replica"]).passes == 0


def test_default_predict_step_notice_and_own_predict_step(tmp_path):
    with pytest.warns(UserWarning, match="first element"):
        fit(replica(tmp_path), callback={"predict": True})

    class Own(Net):
        def predict_step(self, batch, index):
            return {"twice": 2 * self(batch[0]), "pair": (self(batch[0]), batch[1].long())}

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", hyppo.HyppoWarning)
        warnings.filterwarnings("ignore", module="lightning")
        outcome, _ = fit(replica(tmp_path), Own, callback={"predict": True})
    assert outcome.loss is not None
    mean = combine([tmp_path / "replica"]).mean
    np.testing.assert_allclose(mean["twice"], 2 * mean["pair"][0], rtol=1e-6)


def test_predictions_that_cannot_be(tmp_path):
    class Blind(Net):
        def predict_step(self, batch, index):
            raise RuntimeError("no predictions here")

    with pytest.warns(UserWarning, match="no predictions here"):
        outcome, _ = fit(replica(tmp_path), Blind)
    assert outcome.loss is not None
    with pytest.warns(UserWarning, match="no predictions here"):
        outcome, _ = fit(replica(tmp_path), lambda: Blind(0.5), callback={"mc_dropout": 2})
    assert outcome.loss is not None, "a finished training keeps its loss"
    with pytest.warns(UserWarning, match="no validation data"):
        outcome, _ = fit(
            replica(tmp_path),
            loaders=lambda: (data(), None),
            callback={"monitor": "train_loss", "predict": True},
        )
    assert outcome.loss is not None
    task = Task(0, 0, 11, {}, str(tmp_path / "r"), 1, "ensemble_loss", pack(mse))
    assert "no predictions here" in error_of(fit(Replica(task), Blind)[0]), "without predictions no ensemble's loss"


@pytest.mark.parametrize("options", [{"val_check_interval": 0.5}, {"max_steps": 6, "val_check_interval": 1}])
def test_each_validation_within_an_epoch_is_a_report(tmp_path, options):
    outcome, kept = fit(replica(tmp_path), loaders=lambda: (data(batch=6), data(seed=2)), **options)
    assert [step for step, _ in outcome.curve] == list(range(4 if "max_steps" not in options else 6))
    assert outcome.loss == outcome.curve[-1][1] == pytest.approx(validated(kept), rel=1e-6)


def test_stops_and_saves_within_an_endless_epoch_and_goes_on(tmp_path):
    """Validation by steps, no end of the epoch in sight: the state is saved when the stop is asked."""
    options = {"max_steps": 12, "val_check_interval": 4, "check_val_every_n_epoch": None, "epochs": -1}
    endless = lambda: (data(n=4000), data(seed=2))  # noqa: E731
    one = replica(tmp_path)
    one._stop_asked = lambda: len(one.curve) >= 1
    outcome, kept = fit(one, Slow, loaders=endless, **options)
    assert kept["trainer"].global_step == 5, "one batch after the first validation"
    assert not outcome.whole
    assert len(list((tmp_path / "replica").glob("resume.*.ckpt"))) == 1
    again, kept = fit(replica(tmp_path), Slow, loaders=endless, **options)
    assert [step for step, _ in again.curve] == [0, 1, 2]
    assert again.curve[0] == outcome.curve[0]
    assert again.whole
    assert kept["trainer"].global_step == 12


class Slow(Net):
    def training_step(self, batch, index):
        time.sleep(0.05)
        return super().training_step(batch, index)


def test_validation_rarer_than_there_are_epochs(tmp_path):
    outcome, kept = fit(replica(tmp_path), epochs=2, check_val_every_n_epoch=5)
    assert outcome.loss == pytest.approx(validated(kept), rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 1, "check_val_every_n_epoch": None}])
def test_the_metrics_name_is_checked_at_the_first_validation(tmp_path, options):
    for callback in ({"monitor": "val_los"}, {"metrics": ["val_acc"]}):
        outcome, kept = fit(replica(tmp_path), epochs=50, callback=callback, **options)
        assert "was never logged (logged were:" in error_of(outcome)
        assert kept["trainer"].current_epoch <= 1


class Scored(Net):
    """Its validation loss is lowest after its second epoch."""

    def validation_step(self, batch, index):
        self.log("val_loss", abs(self.current_epoch - 1.0) + 0.0 * self.loss(batch))
        self.log("val_mse", self.loss(batch))


def test_best_epoch_counts(tmp_path):
    """Its loss, its predictions and its network; resumed in between or not."""
    saved = L.callbacks.ModelCheckpoint(tmp_path / "own", monitor="val_loss")
    options = {"epochs": 4, "before": [saved], "enable_checkpointing": True}
    callback = {"monitor_best": True, "metrics": ["val_mse"]}
    outcome, kept = fit(replica(tmp_path), Scored, callback=callback, **options)
    assert [loss for _, loss in outcome.curve] == [1.0, 0.0, 1.0, 2.0]
    assert outcome.loss == float(saved.best_model_score) == 0.0
    best = torch.load(saved.best_model_path)["state_dict"]
    left = kept["net"].state_dict()
    assert all(torch.equal(best[name], left[name]) for name in best)
    assert outcome.metrics["val_mse"] == pytest.approx(validated(kept), rel=1e-5)
    kept_network = torch.load(tmp_path / "replica" / "weights.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(best[name], kept_network[name]) for name in best)
    found = combine([tmp_path / "replica"])
    assert mse(found.mean, found.targets) == pytest.approx(validated(kept), rel=1e-5)

    one = replica(tmp_path / "resumed")
    one._stop_asked = lambda: len(one.curve) >= 3
    fit(one, Scored, callback=callback, epochs=4)
    again, kept = fit(replica(tmp_path / "resumed"), Scored, callback=callback, epochs=4)
    assert (again.loss, again.metrics["val_mse"]) == (0.0, outcome.metrics["val_mse"])
    assert all(torch.equal(best[name], kept["net"].state_dict()[name]) for name in best)


def test_a_returned_score_counts(tmp_path):
    """Also as a tensor, as the metric or as the loss; a notice says which weights are kept."""

    def objective(score, mode):
        def train_once(replica):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="lightning")
                ours = HyppoCallback(replica, mode=mode, predict=False)
                run = L.Trainer(max_epochs=2, callbacks=[ours], accelerator="cpu", **QUIET)
                run.fit(Net(), data(), data(seed=2))
            return score(replica) if callable(score) else score

        return train_once

    with pytest.warns(UserWarning, match="The returned loss counts"):
        assert train(objective(torch.tensor(0.25), "min"), replica(tmp_path)).loss == 0.25
    with pytest.warns(UserWarning, match="The returned loss counts"):
        outcome = train(objective(torch.tensor(0.75), "max"), replica(tmp_path))
    assert (outcome.loss, outcome.goal.shown(outcome.loss)) == (-0.75, 0.75)
    assert outcome.metrics["val_loss"] == -outcome.curve[-1][1], "as it was measured"
    with pytest.warns(UserWarning, match="The returned loss counts"):
        assert train(objective(torch.tensor(-0.75), "max"), replica(tmp_path)).loss == -0.75
    with pytest.warns(UserWarning, match="The returned loss counts"):
        first = train(objective(lambda one: one.curve[0][1], "max"), replica(tmp_path))
    assert first.loss == first.curve[0][1] != first.curve[-1][1]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", hyppo.HyppoWarning)
        for sign, mode in ((1, "min"), (-1, "max"), (1, "max")):
            outcome = train(objective(lambda one, sign=sign: sign * one.result.loss, mode), replica(tmp_path))
            assert outcome.loss == outcome.curve[-1][1]


def test_metrics_beside_the_loss(tmp_path):
    outcome, kept = fit(replica(tmp_path), callback={"metrics": ["train_loss"]})
    assert outcome.metrics["train_loss"] == float(kept["trainer"].callback_metrics["train_loss"])
    assert outcome.metrics["parameters"] == 4 * 8 + 8 + 8 + 1
    assert outcome.metrics["seconds"] == outcome.end - outcome.start
    assert 1e7 < outcome.metrics["memory"] < 1e11
    for metrics in ("val_loss", [3]):
        with pytest.raises(StudyError, match="expected a list of names"):
            HyppoCallback(replica(tmp_path), metrics=metrics)


def test_default_folders_are_the_replicas(tmp_path, monkeypatch):
    """Loggers, checkpoints and whatever else a Trainer writes: not into the working directory, unless told so."""
    monkeypatch.chdir(tmp_path)
    options = {"logger": True, "enable_checkpointing": True}
    for package in (L, pytest.importorskip("pytorch_lightning")):
        root = tmp_path / package.__name__
        one = Replica(Task(0, 0, 1, {}, str(root)))
        net = Net if package is L else None
        if net:
            fit(one, net, **options)
            assert list(root.glob("lightning_logs/version_0/checkpoints/*.ckpt"))
        else:
            trainer = package.Trainer(callbacks=[HyppoCallback(one)], accelerator="cpu", **QUIET)
            assert trainer.default_root_dir == str(root)
    assert not (tmp_path / "lightning_logs").exists()
    _, kept = fit(replica(tmp_path), default_root_dir=str(tmp_path / "mine"), **options)
    assert kept["trainer"].default_root_dir == str(tmp_path / "mine")
    (tmp_path / "replica" / "config.yaml").touch()
    _, kept = fit(replica(tmp_path))
    assert kept["trainer"].default_root_dir == str(tmp_path / "replica" / "attempt-2")


class Compiled(Net):
    def setup(self, stage):
        self.body = torch.compile(self.body, backend="eager")


class Configured(Net):
    def __init__(self):
        super().__init__()
        self.made, self.body = self.body, None
        del self.made

    def configure_model(self):
        if self.body is None:
            self.body = nn.Linear(4, 1)


class InSetup(Configured):
    def configure_model(self):
        pass

    def setup(self, stage):
        self.body = nn.Linear(4, 1)


class Unpacking(Net):
    def predict_step(self, batch, index):
        x, _ = batch
        return self(x)


class Given(Net):
    """README's way: the first element of a batch."""

    def __init__(self, width):
        super().__init__(body=nn.Linear(4, width))

    def predict_step(self, batch, index):
        return self(batch[0])


def studied(path, made, space):
    """A study of one trial of two replicas of the network that `made` makes."""

    def objective(replica):
        fit(replica, made)

    with hyppo.Study(space, objective, log=path, replicas=2, isolate=False) as study:
        study.run(trials=1, progress=False)
    return hyppo.load(path)


@pytest.mark.parametrize("kind", [Compiled, Configured, InSetup, Unpacking, Given])
def test_networks_of_any_make_predict_arrays(tmp_path, kind):
    """An array has as many predictions as rows, those of the replica's own pass; unknown parameters are left out."""
    made = kind if kind is not Given else lambda: Given(1)
    space = hyppo.Space(width=hyppo.Integer(1, 1), batch=hyppo.Integer(1, 9))
    study = studied(tmp_path / "s.h5", made, space)
    ensemble = hyppo_lightning.load_ensemble(study, kind, 0)
    x = data(seed=2).dataset.tensors[0]
    for inputs in (x, x.numpy(), DataLoader(TensorDataset(x, x), 5)):
        np.testing.assert_allclose(ensemble.predict(inputs).mean, study.predictions(0).mean, atol=1e-5)


def test_a_predict_step_that_needs_more_than_inputs_says_so(tmp_path):
    class Weighing(Net):
        def predict_step(self, batch, index):
            return self(batch[0]) * batch[1].mean()

    class First(Net):
        def predict_step(self, batch, index):
            return self(batch[0][0])

    for kind, words in ((Weighing, "give a loader whose batches"), (First, r"returned \[1\] predictions for 24 rows")):
        study = studied(tmp_path / f"{kind.__name__}.h5", kind, hyppo.Space(x=hyppo.Real(0, 1)))
        with pytest.raises(StudyError, match=words):
            hyppo_lightning.load_ensemble(study, kind, 0).predict(data(seed=2).dataset.tensors[0])

    class Needy(Net):
        def __init__(self, depth):
            super().__init__()

    with pytest.raises(StudyError, match=r"expected a hyppo.Study, for example hyppo.load"):
        hyppo_lightning.load_ensemble("study.h5", Needy)
    with pytest.raises(StudyError, match=r"Needy\(\) makes no network .* give a function that does"):
        hyppo_lightning.load_ensemble(study, Needy, 0)


def test_a_network_that_is_not_kept_is_said_once_and_costs_nothing(tmp_path, monkeypatch):
    from hyppo.training.predictions import kept as module

    monkeypatch.setattr(module, "UNASKED_BYTES", 100)
    with pytest.warns(UserWarning, match="trained networks are not kept: each has over") as caught:
        outcome, _ = fit(replica(tmp_path), callback={"predict": False})
    assert outcome.loss is not None
    assert len(caught) == 1


def test_sharded_strategies_keep_no_predictions():
    strategies = L.strategies
    whole = [strategies.SingleDeviceStrategy, strategies.DDPStrategy]
    sharded = [strategies.FSDPStrategy, strategies.DeepSpeedStrategy, strategies.ModelParallelStrategy]
    assert [whole_networks(object.__new__(kind)) for kind in whole + sharded] == [True] * 2 + [False] * 3


def test_predict_false_keeps_nothing_and_forgets_an_earlier_attempt(tmp_path):
    fit(replica(tmp_path))
    assert (tmp_path / "replica" / "predictions.npz").exists()
    fit(replica(tmp_path), callback={"predict": False})
    assert not (tmp_path / "replica" / "predictions.npz").exists()


def test_shuffled_validation_data_are_predicted_in_order(tmp_path):
    fit(replica(tmp_path), loaders=lambda: (data(), data(seed=2, shuffle=True)), callback={"predict": True})
    np.testing.assert_array_equal(combine([tmp_path / "replica"]).targets, data(seed=2).dataset.tensors[1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        return self.attention(x[:, None].repeat(1, 3, 1), x[:, None], x[:, None])[0].sum((1, 2))[:, None]


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body = kind(1, 4, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x):
        return self.body(x[:, :, None])[0][:, -1, :1]


class Images(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.drop = drop

    def forward(self, x):
        return self.drop(x.reshape(-1, 4, *[1] * DIMENSIONS[type(self.drop).__name__])).flatten(1).sum(1, keepdim=True)


DIMENSIONS = {"Dropout1d": 1, "Dropout2d": 2, "Dropout3d": 3}
BODIES = {
    "nested": lambda: nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Sequential(nn.Dropout(0.5))), nn.Linear(8, 1)),
    "alpha": lambda: nn.Sequential(nn.Linear(4, 8), nn.AlphaDropout(0.5), nn.Linear(8, 1)),
    "feature alpha": lambda: nn.Sequential(nn.Linear(4, 8), nn.FeatureAlphaDropout(0.5), nn.Linear(8, 1)),
    "spatial 1d": lambda: Images(nn.Dropout1d(0.5)),
    "spatial 2d": lambda: Images(nn.Dropout2d(0.5)),
    "spatial 3d": lambda: Images(nn.Dropout3d(0.5)),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "attention": Attention,
    "transformer": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5, batch_first=True), 2),
}


@pytest.mark.parametrize("body", BODIES)
def test_kinds_of_dropout(body):
    """In a pass the network is stochastic, in between it is not, and its modes are as they were."""

    class Model(Net):
        def forward(self, x):
            return self.body(x[None])[0] if body == "transformer" else self.body(x)

    torch.manual_seed(0)
    body_ = BODIES[body]()
    net = Model(body=body_ if body == "transformer" else nn.Sequential(nn.BatchNorm1d(4, momentum=0.9), body_))
    net.train()
    frozen = next(iter(net.body.children()))
    frozen.eval()  # a part that the user froze stays so
    modes = {name: module.training for name, module in net.named_modules()}
    state = copy.deepcopy(net.state_dict())
    trainer = L.Trainer(accelerator="cpu", **QUIET)
    trainer.strategy.connect(net)
    loader = data(seed=2, batch=12)
    trainer.fit_loop.epoch_loop.val_loop._combined_loader = L.utilities.CombinedLoader([loader], "sequential")
    trainer.fit_loop.epoch_loop.val_loop._max_batches = [2]
    predictions = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for prediction, passes, _ in batches(trainer, net, 8):
            several = torch.stack(list(passes))
            assert float(several.std(0).max()) > 0
            predictions.append(prediction)
        for prediction, (again, _, _) in zip(predictions, batches(trainer, net, 0), strict=True):
            assert torch.equal(prediction, again)
    assert dropout_layers(net)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


RANK = """
import sys, torch, lightning as L
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_callback_lightning as here
rank = int(sys.argv[2])

class Net(here.Net):
    def __init__(self):
        super().__init__(0.5)
        self.body.append(torch.nn.BatchNorm1d(1))

    def validation_step(self, batch, index):
        self.log("val_loss", self.loss(batch), sync_dist=True)

one = here.replica(Path(sys.argv[3]), rank=rank, world_size=2)
one._stop_asked = lambda: rank == 1 and len(one.curve) >= 2  # one rank is asked, both stop
loaders = lambda: (here.data(27), here.data(27, 2))
stopped, _ = here.fit(one, Net, epochs=30, loaders=loaders, callback={"mc_dropout": 5})
assert len(stopped.curve) == 2 and stopped.loss is not None, stopped
assert not (one.directory / "predictions.npz").exists()
one = here.replica(Path(sys.argv[3]) / "whole", rank=rank, world_size=2)
outcome, kept = here.fit(one, Net, epochs=2, loaders=loaders, callback={"mc_dropout": 5})
assert kept["trainer"].world_size == 2 and outcome.loss is not None, outcome
x, y = here.data(27, 2).dataset.tensors
if rank == 0:
    found = here.combine([one.directory])
    assert found.passes == 5 and (found.targets == y.numpy()).all()
    with here.np.load(one.directory / "predictions.npz") as arrays:
        here.np.testing.assert_allclose(arrays["prediction"], kept["net"].eval()(x).detach(), rtol=1e-5)
print(len(outcome.curve), outcome.loss)
"""


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_two_data_parallel_ranks(tmp_path):
    """As torchrun starts them: both stop together, the first predicts all rows once, also those of the other."""
    from .torchrun import free_ports, two_ranks  # here: the ranks import this module by itself

    (port,) = free_ports(1)
    ended = two_ranks(RANK, str(tmp_path), MASTER_PORT=port, TORCHELASTIC_RUN_ID="test")
    assert [code for code, _, _ in ended] == [0, 0], ended
    lines = [out.strip().splitlines()[-1] for _, out, _ in ended]
    assert lines[0] == lines[1]
    assert lines[0].startswith("2 ")


def test_zero_rates_do_not_count():
    idle = nn.Sequential(nn.Dropout(0.0), nn.LSTM(2, 2, dropout=0.0), nn.MultiheadAttention(2, 1))
    assert dropout_layers(idle) == []


def test_framework_first_imported_inside_the_function(tmp_path):
    """Seeded at its import: a fresh process gives the loss of a warm one."""
    code = f"""
import sys, warnings; warnings.simplefilter("ignore")
from hyppo.training.replica import Replica, Task
from hyppo.training.call import train
def objective(replica):
    import torch
    torch.set_num_threads(1)
    return float(torch.nn.Linear(3, 1)(torch.randn(5, 3)).mean())
assert "torch" not in sys.modules
losses = [train(objective, Replica(Task(0, 0, 11, {{}}, {str(tmp_path)!r}))).loss for _ in range(2)]
assert losses[0] == losses[1], losses
import torch, importlib.resources
assert torch.__spec__.loader is torch.__loader__ and type(torch.__loader__).__module__ == "_frozen_importlib_external"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=90)
