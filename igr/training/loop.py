"""Train a run: one step, the plan of all steps, the loop that logs and saves."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
import time
from typing import Any, Callable, NamedTuple

import helper
from helper import Interrupted, UserError
from igr.backend.devices import Device
from igr.backend.progress import Progress
from igr.geometry.frames import Geometry
from igr.training import solvers
from igr.training.monitoring import SurfaceMonitor
from igr.training.runs import Checkpoint, RunFolder
from igr.training.sampling import GraphSamples, HostSamples
from igr.training.settling import EVERY, LOOK, Evidence, RunningAverage, reason_to_end

import numpy as np

LOG_EVERY = 50  # steps between two lines of log.jsonl
AGAIN = 1 / 3  # of the rate, to which it rises again where a finished run is continued
DECAY = 0.3  # share of a run, its end, over which the rate falls
LOWEST = 0.01  # of the rate, at the end
HALVING = 2000  # steps between two halvings of the rate, in the paper's schedule
WARM_UP = 100  # steps; the first ones at the full rate throw wide networks off the sphere


class Trainer:
    """The static graph of one step and its solver."""

    def __init__(self, terms: dict, mlp: Any, solver: Any, samples: HostSamples | GraphSamples):
        """terms: the scalar nnabla variables "loss", which is minimised, and its parts; mlp: the
        networks.MLP that it trains; solver: one of solvers.make; samples: those that the loss sees.
        """
        self.terms = terms
        self.mlp = mlp
        self.solver = solver
        self.samples = samples
        for term in terms.values():
            term.persistent = True
        solver.set_parameters(mlp.parameters)

    @property
    def cheap_to_read(self) -> bool:
        """Do the terms not wait for a GPU?"""
        return self.mlp.kernel

    def step(self, rate: float) -> None:
        """Draw samples and update the parameters."""
        self.samples.draw()
        self.update(rate)

    def update(self, rate: float) -> None:
        """Forward, backward, update. On a GPU it returns before the GPU is done."""
        self.solver.set_learning_rate(rate)
        self.solver.zero_grad()
        self.terms["loss"].forward(clear_no_need_grad=True)
        self.terms["loss"].backward(clear_buffer=True)
        self.solver.update()

    def losses(self) -> dict[str, float]:
        """The terms of the last step."""
        return {name: float(term.d) for name, term in self.terms.items()}


class Due(NamedTuple):
    """What to do after a step."""

    log: bool
    save: bool
    preview: bool


class Plan(NamedTuple):
    """How many steps a run has, their rate, and when it saves."""

    steps: int  # where it may end earlier, at most
    per_epoch: int  # steps
    save_every: int  # steps
    preview_every: int  # steps; 0: never
    rate: float
    opening: int  # steps during which the frequencies open
    decay: str = "linear"  # or "halving"
    finished: int = 0  # steps of the run that this one continues, after which it was finished
    enough: float | None = None  # see settling.reason_to_end; None: it does not end earlier

    @property
    def settles(self) -> bool:
        """May it end earlier, by evidence?"""
        return self.enough is not None

    @property
    def falls(self) -> int:
        """The step from which on the rate falls."""
        return math.floor((1 - DECAY) * self.steps)

    def ending(self, falls: int) -> Plan:
        """The plan of a run whose rate falls from a step on."""
        return self._replace(steps=min(self.steps, math.ceil(falls / (1 - DECAY))), enough=None)

    def rate_at(self, step: int) -> float:
        if self.decay == "halving":
            return self.rate * 0.5 ** (step // HALVING)
        rate = self.rate * AGAIN if self.finished else self.rate
        return linear_rate(rate, step - self.finished, self.steps - self.finished)

    def epoch_at(self, done: int) -> int:
        """The epoch, counted from 1, that the last of `done` steps belongs to."""
        return -(-done // self.per_epoch)

    def opened_at(self, step: int, frequencies: int) -> float:
        """How many frequencies of the encoding are open at a step."""
        return frequencies if self.finished else min(1.0, step / self.opening) * frequencies

    def due(self, done: int, stopping: bool) -> Due:
        """What to do after `done` steps; stopping: no step follows in any case."""
        last = stopping or done == self.steps
        return Due(log=last or done % LOG_EVERY == 0, save=last or done % self.save_every == 0,
                   preview=self.preview_every > 0 and (last or done % self.preview_every == 0))


def linear_rate(rate: float, step: int, steps: int) -> float:
    """The rate at a step: up to `rate` within WARM_UP steps, and down a line to LOWEST of it over
    the last DECAY of the steps."""
    warm = min(1.0, (step + 1) / min(WARM_UP, max(1, steps // 10)))
    left = min(1.0, (steps - step) / (DECAY * steps))
    return warm * rate * (LOWEST + (1 - LOWEST) * left)


class Job(NamedTuple):
    """What is trained, and from where."""

    plan: Plan
    trainer: Trainer
    monitor: SurfaceMonitor
    info: dict[str, Any]  # what every checkpoint says
    checkpoint: Checkpoint | None  # to continue from
    device: Device
    points: int  # in the training part of the cloud
    looks: list[Evidence]  # whether the run may end, as long as that is open
    average: RunningAverage | None  # of the weights, as long as that is open

    @property
    def steps_done(self) -> int:
        return self.checkpoint.info["step"] if self.checkpoint else 0

    def prepare(self, step: int) -> None:
        """Open the frequencies for a step."""
        mlp = self.trainer.mlp
        frequencies = mlp.architecture.frequencies
        if mlp.architecture.opened != frequencies:
            mlp.open_frequencies(self.plan.opened_at(step, frequencies))

    def state(self) -> dict[str, np.ndarray]:
        """The arrays by name that a run needs beside its weights to continue."""
        average = self.average.state() if self.average else {}
        return {**solvers.state_of(self.trainer.solver), **average}


class TrainingLoop:
    """The loop that steps, logs and saves."""

    def __init__(self, job: Job, run: RunFolder, save_preview: Callable[[Path, Geometry], None]):
        """save_preview: writes a picture of a mesh."""
        self.job = job
        self.run = run
        self.save_preview = save_preview
        self.done = job.steps_done
        self.path: Path | None = None  # the last checkpoint
        self.first_losses: dict[str, float] | None = None
        self.start = time.perf_counter()
        if job.checkpoint:
            self.path = job.checkpoint.path
            self.first_losses = job.checkpoint.info["first_losses"]
            self.start -= job.checkpoint.info["seconds"]

    def seconds(self) -> float:
        """Time of the training so far, including that before a resumption."""
        return time.perf_counter() - self.start

    def train(self, quiet: bool) -> None:
        """Do the steps that are left. Raises UserError where the loss diverges, Interrupted after a
        signal."""
        trainer = self.job.trainer
        progress = Progress(self.done, self.job.plan.steps, quiet)
        with helper.stop_signals() as caught:
            for step in progress:
                # rate
                rate = self.job.plan.rate_at(step)
                # batch
                self.job.prepare(step)
                trainer.samples.draw()
                # forward, backward, update
                trainer.update(rate)
                self.done = step + 1
                # end
                if self.job.plan.settles:
                    self._look(progress)
                # log
                due = self.job.plan.due(self.done, stopping=bool(caught))
                if due.log or due.save or trainer.cheap_to_read:
                    values = self._finite_losses(rate)
                if due.log:
                    self._log(values, rate)
                    progress.show(values["loss"], rate)
                # evaluate and save
                if due.save or due.preview:
                    self._evaluate_and_save(due, caught, progress)

    def _look(self, progress: Progress) -> None:
        """Average the weights and, now and then, look whether the run may end; then plan its end.
        """
        job, reason = self.job, ""
        if self.done % EVERY == 0:
            job.average.add()
        if self.done % LOOK == 0 and self.done >= job.plan.opening:
            with job.average.in_place():
                job.looks.append(job.monitor.look(self.done))
            reason = reason_to_end(job.looks, job.plan.enough)
        if not reason and self.done >= job.plan.falls:
            reason = "the most steps"
        if reason:
            self.job = job._replace(plan=job.plan.ending(self.done), average=None)
            progress.end_at(self.job.plan.steps)
            surface = f"; {job.looks[-1].surface}" if job.looks else ""
            progress.log(logging.INFO, f"step {self.done}: the rate falls until step "
                         f"{self.job.plan.steps}: {reason}{surface}")

    def _finite_losses(self, rate: float) -> dict[str, float]:
        """Read the terms of the last step. Raises UserError where the loss is not finite."""
        values = self.job.trainer.losses()
        self.first_losses = self.first_losses or values
        check_loss(values, math.inf, self.done, rate, self.path)
        return values

    def _log(self, values: dict[str, float], rate: float) -> None:
        """Write a row of the log. Raises UserError where the loss has grown a hundredfold."""
        if self.done > WARM_UP:  # before that the run may still recover from a leap
            check_loss(values, 100 * self.first_losses["loss"], self.done, rate, self.path)
        self.run.log.write(self.done, epoch=self.done / self.job.plan.per_epoch,
                           seconds=self.seconds(), rate=rate, **values)

    def _evaluate_and_save(self, due: Due, caught: list[int],
                           progress: Progress) -> None:
        """Do what is due. Raises Interrupted after a signal, when the checkpoint is saved."""
        mesh = None
        if not caught and (due.preview or len(self.job.monitor.held_out)):
            mesh = self.job.monitor.mesh()
        if due.save:
            distances = self._save(mesh)
            if caught:
                raise Interrupted(caught[0], f"interrupted at step {self.done}, saved as "
                                  f"{self.path}; --resume -m {self.run.folder} continues the run")
            if distances:
                progress.log(logging.INFO,
                             f"{self.path}: held-out Chamfer {distances['chamfer']:.5f} (a perfect "
                             f"surface has about {distances['chamfer_floor']:.5f}), Hausdorff "
                             f"{distances['hausdorff']:.5f}")
        if due.preview and mesh:
            path = self.run.folder / f"preview_{self.job.plan.epoch_at(self.done):05d}.png"
            try:
                self.save_preview(path, mesh)
            except (UserError, OSError, MemoryError) as error:  # no reason to stop the training
                progress.log(logging.WARNING, f"no {path}: {error}")

    def _save(self, mesh: Geometry | None) -> dict[str, float]:
        """Write a checkpoint. Returns the mesh's distances to the held-out points, if any."""
        distances = self.job.monitor.distances(mesh)
        if distances:
            # before the checkpoint: resuming cuts off the log beyond its checkpoint, but it cannot
            # add a line that is missing
            self.run.log.write(self.done, **distances)
        mlp = self.job.trainer.mlp
        info = {**self.job.info, "architecture": dataclasses.asdict(mlp.architecture),
                "step": self.done, "first_losses": self.first_losses, "seconds": self.seconds(),
                "ends": None if self.job.plan.settles else self.job.plan.steps,
                "looks": self.job.looks}
        epoch = self.job.plan.epoch_at(self.done)
        self.path = self.run.save(epoch, mlp.parameters, self.job.state(), info)
        return distances


def check_loss(values: dict[str, float], limit: float, step: int, rate: float,
               path: Path | None) -> None:
    """Check the loss. Raises UserError where it is not finite or above the limit."""
    if not (math.isfinite(values["loss"]) and values["loss"] <= limit):
        raise UserError(f"the loss is {values['loss']:.3g} at step {step}, rate {rate:.2g}: take a "
                        f"smaller -lr; the last good checkpoint is {path or 'none'}")
