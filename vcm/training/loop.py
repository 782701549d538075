"""The training loop that every stage shares: seeded by (seed, stage, step), resumable, averaged, logged."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from vcm.errors import ConfigError
from vcm.io.files import whole_file, write_atomically
from vcm.training.checkpoint import load_checkpoint, optimizer_tensors, restore_optimizer, save_checkpoint
from vcm.training.config import StageConfig, TrainConfig
from vcm.training.distributed import (
    agree,
    average,
    average_gradients,
    barrier,
    rank,
    synchronise_norms,
    whole_batch_noise,
)
from vcm.training.stages.base import Stage
from vcm.weights.tensors import save_tensors

__all__ = ["StageResult", "run_stage"]


@dataclass(frozen=True, slots=True)
class StageResult:
    """``weights`` is the averaged model of the stage; ``finished`` is false where time ran out first."""

    weights: Path
    step: int
    finished: bool


def _schedule(step: int, config: StageConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    t = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))


def run_stage(
    stage: Stage, config: TrainConfig, index: int, *, resume: bool, minutes: float | None, quiet: bool = False
) -> StageResult:
    """Run one stage from its start or its last checkpoint.

    Args:
        stage: the stage.
        config: the whole recipe; ``config.stages[index]`` is this stage's.
        index: position of the stage.
        resume: continue from ``out/<stage>/checkpoint.json`` where there is one.
        minutes: stop cleanly with a checkpoint after this long.
        quiet: no progress bar.

    Raises:
        ConfigError: the loss is not finite.
    """
    c = stage.config
    folder = config.out / c.name
    folder.mkdir(parents=True, exist_ok=True)
    first = rank() == 0  # the process that writes
    synchronise_norms(stage.modules)
    named = {n: p for n, p in stage.modules.named_parameters() if p.requires_grad}
    names = {id(p): n for n, p in named.items()}
    groups = stage.parameter_groups()
    optimizer = torch.optim.AdamW(groups, lr=c.lr, weight_decay=c.weight_decay, betas=(0.9, 0.99), fused=True)
    base_lrs = [float(g["lr"]) for g in optimizer.param_groups]
    state = stage.modules.state_dict()
    averaged = {k: v.detach().clone() for k, v in state.items()}
    start = 0
    if resume and (checkpoint := load_checkpoint(folder)) is not None:
        stage.modules.load_state_dict(
            {k.removeprefix("model."): v for k, v in checkpoint.tensors.items() if k.startswith("model.")}
        )
        averaged = {
            k.removeprefix("ema."): v.to(stage.device) for k, v in checkpoint.tensors.items() if k.startswith("ema.")
        }
        restore_optimizer(optimizer, names, checkpoint.tensors)
        start = int(checkpoint.meta["step"])

    def write(step: int) -> None:
        tensors = {f"model.{k}": v for k, v in stage.modules.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in averaged.items()} | optimizer_tensors(optimizer, names)
        save_checkpoint(folder, tensors, {"step": step, "stage": c.name}, config.shard_mib)

    began = saved = time.monotonic()
    log = _log(folder / "metrics.jsonl", start)
    count = TextColumn("{task.completed}/{task.total} {task.fields[info]}")
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn(), TimeRemainingColumn())
    writer = _tensorboard(folder) if first else None
    step = start
    with log, Progress(*columns, disable=quiet or not first) as progress:
        bar = progress.add_task(c.name, total=c.steps, completed=start, info="")
        while step < c.steps:
            rng = np.random.default_rng([config.seed, index, step])
            torch.manual_seed(int(rng.integers(2**62)))
            factor = _schedule(step, c)
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = lr * factor
            tick = time.monotonic()
            with whole_batch_noise():
                loss, numbers = stage.loss(step, rng)
            numbers = average({"loss": float(loss.detach()), **numbers}, stage.device)
            if not math.isfinite(numbers["loss"]):
                raise ConfigError(
                    f"the loss of step {step} is not finite; lower the learning rate", found=numbers["loss"]
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            average_gradients(list(named.values()))
            norm = float(nn.utils.clip_grad_norm_(named.values(), 5.0))
            if not math.isfinite(norm):
                raise ConfigError(f"a gradient of step {step} is not finite; lower the learning rate", found=norm)
            optimizer.step()
            step += 1
            decay = min(c.ema, step / (step + 9))
            with torch.no_grad():
                state = stage.modules.state_dict()
                floats = [k for k, v in state.items() if v.is_floating_point()]
                torch._foreach_lerp_([averaged[k] for k in floats], [state[k] for k in floats], 1 - decay)
                for k in state.keys() - floats:
                    averaged[k].copy_(state[k])
            rate = c.batch / (time.monotonic() - tick)
            row = {
                "step": step,
                **numbers,
                "grad": norm,
                "lr": c.lr * factor,
                "images_per_s": rate,
            }
            log.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")
            log.flush()
            if writer is not None and step % 10 == 0:
                for k, v in row.items():
                    writer.add_scalar(k, v, step)
            info = " ".join(f"{k} {v:.3g}" for k, v in numbers.items() if k != "loss")
            progress.update(bar, completed=step, info=f"{info} {rate:.1f} img/s")
            now = time.monotonic()
            out_of_time = minutes is not None and agree(now - began > minutes * 60, stage.device)
            if first and (now - saved > config.checkpoint_minutes * 60 or step == c.steps or out_of_time):
                write(step)
                saved = time.monotonic()
            if out_of_time:
                break
    if writer is not None:
        writer.close()
    weights = folder / "ema.safetensors"
    if first:
        with whole_file(weights) as part:
            save_tensors(part, averaged)
    barrier()
    return StageResult(weights, step, step >= c.steps)


def _log(path: Path, start: int) -> TextIO:
    """The metrics file, open for appending, with the rows up to step ``start`` that a former run left.

    Only the first process has one.
    """
    if rank() > 0:
        return Path(os.devnull).open("w")
    rows = path.read_text().splitlines(keepends=True) if start and path.is_file() else []
    # A row that a crash cut short has no end.
    write_atomically(path, "".join(row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= start))
    return path.open("a")


def _tensorboard(folder: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """A SummaryWriter where tensorboard is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
