"""Lightning's DDP on two ranks: one training of the configuration below.

torchrun --nproc-per-node 2 lightning_ddp.py
"""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PARAMS = {"width": 64, "depth": 2, "batch": 64, "lr": 3e-3}


class Surface(lightning.LightningModule):
    def __init__(self, width, depth, lr):
        super().__init__()
        self.lr = lr
        layers = [layer for i in range(depth) for layer in (nn.Linear(width if i else 2, width), nn.SiLU())]
        self.network = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, x):
        return self.network(x)

    def training_step(self, batch, index):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch, index):
        # over all ranks: each sees a part of the validation data
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]), sync_dist=True)

    def predict_step(self, batch, index):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def data(n, seed):
    """Heights of an egg box with noise of standard deviation 0.05."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(n, 2, generator=generator) - 1
    y = (4 * x[:, :1]).sin() * (4 * x[:, 1:]).cos()
    return TensorDataset(x, y + 0.05 * torch.randn(n, 1, generator=generator))


def train():
    params = dict(PARAMS)
    train_loader = DataLoader(data(4096, seed=0), batch_size=params.pop("batch"), shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=8,
        accelerator="cpu",
        devices=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Surface(**params), train_loader, DataLoader(data(1024, seed=1), batch_size=256))
    return trainer.callback_metrics["val_loss"].item()


if __name__ == "__main__":
    print(train())
    torch.distributed.destroy_process_group()
