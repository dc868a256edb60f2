"""Programs that measure the project; run from its folder, as python -m benchmarks.speed.step.

    common    what they share: the machine, a table with its json, why a command failed
    speed     steps, inference, extraction, pictures, beside PyTorch and the matrix products
    stress    damaged files, kills, random commands, millions of points
    results   every shape, case and method: the tables of the README and of results/
    studies   variants of the training: what chose its defaults

Each json, jsonl or png lies beside the program that wrote it; README.md has the tables.
"""
