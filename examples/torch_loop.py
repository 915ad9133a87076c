"""A training loop of one's own, without Lightning or Keras: report each epoch, stop when asked, return the result.

python torch_loop.py
"""

import torch
from torch import nn

import hyppo

space = hyppo.Space(
    width=hyppo.Integer(8, 128, log=True),
    depth=hyppo.Integer(1, 3),
    lr=hyppo.Real(1e-4, 1e-1, log=True),
    dropout=hyppo.Real(0.01, 0.3),
)


def data():
    """A noisy wave with a gap: x in [-3, 3], standard deviation of the noise 0.1."""
    generator = torch.Generator().manual_seed(0)
    x = 6 * torch.rand(600, 1, generator=generator) - 3
    x = x[(x < 0.5) | (x > 1.5)].unsqueeze(1)
    y = torch.sin(2 * x) + 0.1 * torch.randn(x.shape, generator=generator)
    return x[:300], y[:300], x[300:], y[300:]


def train(replica):
    x, y, x_val, y_val = data()
    params = replica.params
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
        replica.report(epoch, loss)
        if replica.should_stop:
            break

    network.train()  # dropout is all that training mode changes in this network
    with torch.no_grad():
        passes = [network(x_val) for _ in range(20)]
    return hyppo.Result(loss, prediction=prediction, passes=passes, targets=y_val)


study = hyppo.Study(space, train, log="torch_loop.h5", replicas=3, seed=0)

if __name__ == "__main__":
    study.run(trials=30)
    print(study.best, "standard deviation of a prediction:", study.predictions(study.best.number).std.mean(), sep="\n")
