"""A generative adversarial network with manual optimisation: one training of the configuration below."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

LATENT = 4

PARAMS = {"width": 64, "lr_generator": 1e-3, "lr_critic": 1e-3, "critic_steps": 1}


def network(inputs, width, outputs):
    hidden = [nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


class Gan(lightning.LightningModule):
    def __init__(self, width, lr_generator, lr_critic, critic_steps):
        super().__init__()
        self.automatic_optimization = False
        self.rates = lr_generator, lr_critic
        self.critic_steps = critic_steps
        self.generator = network(LATENT, width, 2)
        self.critic = network(2, width, 1)

    def forward(self, latent):
        return self.generator(latent)

    def training_step(self, batch, index):
        (real,) = batch
        of_generator, of_critic = self.optimizers()
        for _ in range(self.critic_steps):
            fake = self(torch.randn(len(real), LATENT, device=self.device)).detach()
            loss = nn.functional.softplus(-self.critic(real)).mean() + nn.functional.softplus(self.critic(fake)).mean()
            of_critic.zero_grad()
            self.manual_backward(loss)
            of_critic.step()
        fake = self(torch.randn(len(real), LATENT, device=self.device))
        loss = nn.functional.softplus(-self.critic(fake)).mean()
        of_generator.zero_grad()
        self.manual_backward(loss)
        of_generator.step()

    def validation_step(self, batch, index):
        (real,) = batch
        fake = self(torch.randn(len(real), LATENT, device=self.device))
        distance = 2 * torch.cdist(real, fake).mean() - torch.cdist(real, real).mean() - torch.cdist(fake, fake).mean()
        self.log("energy_distance", distance)

    def configure_optimizers(self):
        of_generator, of_critic = self.rates
        return (
            torch.optim.Adam(self.generator.parameters(), lr=of_generator, betas=(0.5, 0.9)),
            torch.optim.Adam(self.critic.parameters(), lr=of_critic, betas=(0.5, 0.9)),
        )


def ring(n, seed):
    """Points on a ring of radius 1, standard deviation 0.05."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(n, generator=generator)
    points = torch.stack([angle.cos(), angle.sin()], 1)
    return TensorDataset(points + 0.05 * torch.randn(n, 2, generator=generator))


def train():
    params = PARAMS
    trainer = lightning.Trainer(
        max_epochs=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train_loader = DataLoader(ring(2048, seed=0), batch_size=64, shuffle=True, drop_last=True)
    trainer.fit(Gan(**params), train_loader, DataLoader(ring(1024, seed=1), batch_size=1024))
    return trainer.callback_metrics["energy_distance"].item()


if __name__ == "__main__":
    print(train())
