"""A generative adversarial network with manual optimisation: two optimisers, and a loss that is neither of theirs.

The losses of a GAN say little of its samples, so the search minimises the energy distance between samples and data.
GANs differ much from one training to the next: `risk=1` prefers configurations that train reliably.

    python lightning_gan.py
"""

import lightning
import torch
from hyppo_lightning import HyppoCallback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hyppo

LATENT = 4

space = hyppo.Space(
    width=hyppo.Integer(16, 128, log=True),
    lr_generator=hyppo.Real(1e-4, 1e-2, log=True),
    lr_critic=hyppo.Real(1e-4, 1e-2, log=True),
    critic_steps=hyppo.Integer(1, 3),
)


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


def train(replica):
    params = replica.params
    trainer = lightning.Trainer(
        max_epochs=10,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        # what a generator makes of a row of real data is no prediction of it: nothing to keep
        callbacks=[HyppoCallback(replica, monitor="energy_distance", predict=False)],
    )
    train_loader = DataLoader(ring(2048, seed=0), batch_size=64, shuffle=True, drop_last=True)
    trainer.fit(Gan(**params), train_loader, DataLoader(ring(1024, seed=1), batch_size=1024))
    return trainer.callback_metrics["energy_distance"].item()


study = hyppo.Study(space, train, log="lightning_gan.h5", replicas=3, risk=1.0, seed=0)

if __name__ == "__main__":
    study.run(trials=30)
    print(study.best)
