"""A training loop of one's own, without Lightning or Keras: one training of the configuration below."""

import torch
from torch import nn

PARAMS = {"width": 64, "depth": 2, "lr": 1e-2, "dropout": 0.05}


def data():
    """A noisy wave with a gap: x in [-3, 3], standard deviation of the noise 0.1."""
    generator = torch.Generator().manual_seed(0)
    x = 6 * torch.rand(600, 1, generator=generator) - 3
    x = x[(x < 0.5) | (x > 1.5)].unsqueeze(1)
    y = torch.sin(2 * x) + 0.1 * torch.randn(x.shape, generator=generator)
    return x[:300], y[:300], x[300:], y[300:]


def train():
    x, y, x_val, y_val = data()
    params = PARAMS
    width, depth, dropout = (params[name] for name in ("width", "depth", "dropout"))
    layers: list[nn.Module] = []
    for layer in range(depth):
        layers += [nn.Linear(width if layer else 1, width), nn.Tanh(), nn.Dropout(dropout)]
    network = nn.Sequential(*layers, nn.Linear(width, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=params["lr"])

    loss = float("inf")
    for epoch in range(60):
        optimizer.param_groups[0]["lr"] = params["lr"] * (1 - epoch / 60)
        network.train()
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(x[rows]), y[rows]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            prediction = network(x_val)
            loss = nn.functional.mse_loss(prediction, y_val).item()

    network.train()  # dropout is all that training mode changes in this network
    with torch.no_grad():
        passes = [network(x_val) for _ in range(20)]
    return loss, torch.stack(passes).std(0).mean().item()


if __name__ == "__main__":
    print(train())
