"""Forecasting a noisy oscillation with an LSTM in Lightning: one training of the configuration below."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

WINDOW, AHEAD = 32, 8  # samples seen, samples forecast

PARAMS = {"hidden": 32, "layers": 2, "batch": 32, "lr": 1e-2, "dropout": 0.2}


class Forecast(lightning.LightningModule):
    def __init__(self, hidden, layers, lr, dropout):
        super().__init__()
        self.lr = lr
        self.recurrent = nn.LSTM(1, hidden, num_layers=layers, dropout=dropout, batch_first=True)
        self.output = nn.Linear(hidden, AHEAD)

    def forward(self, past):
        return self.output(self.recurrent(past)[0][:, -1])

    def training_step(self, batch, index):
        past, future = batch
        return nn.functional.mse_loss(self(past), future)

    def validation_step(self, batch, index):
        past, future = batch
        self.log("val_rmse", nn.functional.mse_loss(self(past), future).sqrt())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)]


class Oscillation(lightning.LightningDataModule):
    """Two beating sines with noise of standard deviation 0.1; the future is validated, never trained on."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def setup(self, stage=None):
        t = torch.arange(1600.0)
        noise = 0.1 * torch.randn(len(t), generator=torch.Generator().manual_seed(0))
        series = torch.sin(0.21 * t) + 0.5 * torch.sin(0.33 * t) + noise
        windows = series.unfold(0, WINDOW + AHEAD, 4)
        pairs = TensorDataset(windows[:, :WINDOW, None], windows[:, WINDOW:])
        end = 280  # windows overlap: those that reach into the validation data are left out
        self.train = torch.utils.data.Subset(pairs, range(end))
        self.validation = torch.utils.data.Subset(pairs, range(end + (WINDOW + AHEAD) // 4, len(pairs)))

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.validation, batch_size=256)


def train():
    params = dict(PARAMS)
    data = Oscillation(params.pop("batch"))
    trainer = lightning.Trainer(
        max_epochs=8,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Forecast(**params), datamodule=data)
    return trainer.callback_metrics["val_rmse"].item()


if __name__ == "__main__":
    print(train())
