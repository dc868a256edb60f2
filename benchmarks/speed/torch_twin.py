"""Time the same network and training step in PyTorch, in a process that reads orders from stdin.

Reads one JSON object a line: {"task", "repeat", "threads", "device", "precision"} and "dims",
"batch", "uniform" for the task "step"; "dims", "points", "rows", "compile" for "forward"; "side"
for "product", a matrix product. Answers {"seconds": [...]}, one figure a run on a CPU. On a GPU
runs follow each other without waiting, and the one figure is their mean. Answers {"error": why}
where it cannot run.
"""

from __future__ import annotations

import json
import math
import sys
import time

import torch


class MLP(torch.nn.Module):
    """8 x dims, softplus(100), skip [x, h] / sqrt(2) into layer 4, geometric initialisation."""

    def __init__(self, dims: int):
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
        """f(x), (N, 1), of x (N, 3)."""
        h = x
        for i, layer in enumerate(self.layers):
            if i == 4:
                h = torch.cat([x, h], dim=1) / math.sqrt(2)
            h = layer(h)
            if i < 7:
                h = self.activation(h)
        return h


class Step:
    """A training step without normals, with Adam; each call runs one."""

    def __init__(self, order: dict):
        device = order["device"]
        self.model = MLP(order["dims"]).to(device)
        self.solver = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.points = torch.rand(100_000, 3, device=device) * 2 - 1
        self.batch = order["batch"]
        self.uniform = order["uniform"]
        self.device = device

    def __call__(self):
        b = self.batch
        device = self.device
        x = self.points[torch.randint(len(self.points), (b,), device=device)]
        y = torch.cat([torch.rand(self.uniform, 3, device=device) * 3 - 1.5,
                       x + 0.05 * torch.randn(b, 3, device=device)]).requires_grad_(True)
        self.solver.zero_grad()
        gradient, = torch.autograd.grad(self.model(y).sum(), y, create_graph=True)
        eikonal = ((gradient.norm(dim=1) - 1) ** 2).mean()
        (self.model(x).abs().mean() + 0.1 * eikonal).backward()
        self.solver.step()


def forward_of(order: dict):
    """A function that computes f at "points" points, "rows" at a time."""
    device = order["device"]
    model = MLP(order["dims"]).to(device)
    call = torch.compile(model) if order["compile"] else model
    x = torch.rand(order["points"], 3) * 3 - 1.5

    def run():
        with torch.no_grad():
            for batch in x.split(order["rows"]):
                call(batch.to(device)).cpu()

    return run


def product_of(order: dict):
    """A function that multiplies two square matrices."""
    a, b = (torch.ones(order["side"], order["side"], device=order["device"]) for _ in range(2))
    return lambda: a @ b


MAKE = {"step": Step, "forward": forward_of, "product": product_of}


def seconds_of(run, repeat: int, on_gpu: bool) -> list:
    """Seconds of each of `repeat` calls of run(); on a GPU a list with their mean."""
    seconds = []
    for _ in range(1 if on_gpu else repeat):
        start = time.perf_counter()
        for _ in range(repeat if on_gpu else 1):
            run()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / (repeat if on_gpu else 1))
    return seconds


def main():
    made = {}
    for line in sys.stdin:
        order = json.loads(line)
        repeat = order.pop("repeat")
        torch.set_num_threads(order["threads"])
        torch.backends.cuda.matmul.allow_tf32 = order["precision"] == "tf32"
        key = json.dumps(order, sort_keys=True)
        try:
            if key not in made:
                made[key] = MAKE[order["task"]](order)
            answer = {"seconds": seconds_of(made[key], repeat, order["device"] != "cpu")}
        except Exception as error:  # a compiler may raise any type
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
