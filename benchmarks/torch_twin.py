"""The same network and training step in PyTorch, as a process that is told what to time.

Reads one JSON object a line, {"task": "step" | "forward", "dims", "batch" or "points",
"repeat", "threads", "device", "compile"}, and answers with {"seconds": [...]}, one figure a run.
"""

import json
import math
import sys
import time

import torch


class MLP(torch.nn.Module):
    """8 x dims, softplus(100), skip [x, h] / sqrt(2) into layer 4, geometric initialisation."""

    def __init__(self, dims):
        super().__init__()
        sizes = [(3, dims), (dims, dims), (dims, dims), (dims, dims - 3), (dims, dims),
                 (dims, dims), (dims, dims), (dims, 1)]
        self.layers = torch.nn.ModuleList(torch.nn.Linear(i, o) for i, o in sizes)
        for layer, (_, o) in zip(self.layers, sizes):
            torch.nn.init.normal_(layer.weight, 0, math.sqrt(2 / o))
            torch.nn.init.zeros_(layer.bias)
        torch.nn.init.normal_(self.layers[7].weight, math.sqrt(math.pi / dims), 1e-5)
        torch.nn.init.constant_(self.layers[7].bias, -1)
        self.activation = torch.nn.Softplus(beta=100)

    def forward(self, x):
        h = x
        for i, layer in enumerate(self.layers):
            if i == 4:
                h = torch.cat([x, h], dim=1) / math.sqrt(2)
            h = layer(h)
            if i < 7:
                h = self.activation(h)
        return h


class Step:
    def __init__(self, dims, batch, device, compile):
        self.model = MLP(dims).to(device)
        self.forward = torch.compile(self.model) if compile else self.model
        self.solver = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.points = torch.rand(100_000, 3, device=device) * 2 - 1
        self.batch, self.device = batch, device

    def __call__(self):
        b = self.batch
        x = self.points[torch.randint(len(self.points), (b,), device=self.device)]
        y = torch.cat([torch.rand(b, 3, device=self.device) * 3 - 1.5,
                       x + 0.05 * torch.randn(b, 3, device=self.device)]).requires_grad_(True)
        self.solver.zero_grad()
        gradient, = torch.autograd.grad(self.forward(y).sum(), y, create_graph=True)
        eikonal = ((gradient.norm(dim=1) - 1) ** 2).mean()
        (self.forward(x).abs().mean() + 0.1 * eikonal).backward()
        self.solver.step()


def forward_of(dims, points, device, compile):
    model = MLP(dims).to(device)
    call = torch.compile(model) if compile else model
    x = torch.rand(points, 3, device=device) * 3 - 1.5

    def run():
        with torch.no_grad():
            for start in range(0, points, 16384):
                call(x[start : start + 16384])

    return run


def main():
    made = {}
    for line in sys.stdin:
        order = json.loads(line)
        torch.set_num_threads(order["threads"])
        size = order.get("batch") or order["points"]
        key = (order["task"], order["dims"], size, order["device"], order["compile"])
        if key not in made:
            make = Step if order["task"] == "step" else forward_of
            made[key] = make(*key[1:])
        seconds = []
        for _ in range(order["repeat"]):
            start = time.perf_counter()
            made[key]()
            if order["device"] != "cpu":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
