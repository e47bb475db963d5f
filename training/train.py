"""Trains ReLA on one dataset or a mixture of several.

    python -m training.train --config tabletop.yaml --init small.safetensors --out runs/tabletop
    python -m training.train --config ... --out runs/tabletop            # again: goes on
    python -m training.train --config ... --out runs/tabletop --export grex_ros/weights/...

Runs on the CPU, one GPU, or many (`accelerate launch -m training.train ...`). Ctrl-C saves and
ends; the same command resumes. A run that was stopped and resumed equals one that was not: of two
CPU runs of so many `steps` with one number of threads, bit for bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import torch
import typer
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from rich.console import Console
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from grex_ros.model.checkpoint import (
    CheckpointError,
    checkpoint_config,
    save_checkpoint,
)
from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from training.config import MAY_BE_NEW, ConfigError, TrainConfig, as_dict
from training.dataset.load import leave_out, load_dataset
from training.dataset.mixture import Mixture, batch_numbers
from training.dataset.records import Record
from training.dataset.samples import OfficialPictures, TrainingPictures
from training.frozen import run_frozen_image, run_frozen_text
from training.generation import fit_words, vocabulary
from training.inputs import StepInputs
from training.parameters import (
    build_model,
    memory_format,
    parameter_groups,
    with_late_stages,
)
from training.regions import RegionCache
from training.reporting import RunLog
from training.saving import read_state, write_state
from training.schedule import learning_rate_factor, moving_average, stop_signals
from training.steps import OfficialStep, TrainingStep

SAVE_EVERY = 120.0  # seconds
REPORT_EVERY = 20  # steps
FEW_STEPS = 200  # less than these are over before an engine for the texts has paid off
OVERLAYS = 4  # pictures in TensorBoard
console = Console()


def mixed_precision(wanted: str) -> str:
    """What accelerate calls a config's ``precision`` on this machine; a CPU computes in float32."""
    if not torch.cuda.is_available():
        return "no"
    if wanted == "auto":
        wanted = "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}[wanted]


def serial_worker(worker: int) -> None:
    """The threads of OpenCV and of the tokenizer do not outlive the fork that a worker begins
    with; torch's would fight those of the other workers for the cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def load_pictures(records: list[list[Record]], cfg: RelaConfig, config: TrainConfig) -> Mixture:
    """The samples of a run, from the records of its datasets."""
    shares = [source.share for source in config.sources]
    if not cfg.text_wheel:
        official = [OfficialPictures(r, cfg, config.substitution) for r in records]
        return Mixture(official, shares, config.seed)
    augment = not config.freeze_image  # a picture that is seen once has one look
    pictures = [
        TrainingPictures(
            r,
            cfg,
            config.expressions,
            augment,
            config.zoom * augment,
            config.substitution,
            config.mirror * augment,
            config.only_refiner,
            config.paraphrase,
        )
        for r in records
    ]
    return Mixture(pictures, shares, config.seed)


class Trainer:
    """A run in a folder: model, moving average, optimizer, and where it stands."""

    def __init__(self, config: TrainConfig, out: Path, words: Sequence[str] = ()) -> None:
        """``words`` that the generation head can say; without them those of the data."""
        self.config, self.out = config, out
        # A batch without a target does not use the generation head.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        # accelerate joins processes on CPUs only if told that they are to stay there.
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=mixed_precision(config.precision),
            kwargs_handlers=[unused],
        )
        torch.manual_seed(config.seed)
        if self.accelerator.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            # cuDNN compiles its attention anew for every length of words and number of sets.
            torch.backends.cuda.enable_cudnn_sdp(False)
        state = read_state(self._file, config)
        cfg = config.rela
        raw = not cfg.text_wheel
        records = [
            leave_out(load_dataset(s.path, s.split, raw=raw), s.leave_out)[0]
            for s in config.sources
        ]
        if cfg.generation_layers:
            everything = (e for rs in records for r in rs for e in r.expressions)
            words = state["generation_words"] if state else words or cfg.generation_words
            # Counting a million takes minutes.
            words = words or vocabulary(e.text for e in everything if not e.no_target)
            cfg = cfg.replace(generation_words=tuple(words))
        self.pictures = load_pictures(records, cfg, config)
        self.no_target_prior = self.pictures.no_target_prior()
        start = (config.init_backbone, config.init_text, config.init_detector)
        model = build_model(cfg, *(() if state else start))
        groups = parameter_groups(model, config)
        self.base_rates = [group["lr"] for group in groups]
        layout = memory_format(self.accelerator.device)
        nn.Module.to(model, memory_format=layout)  # type: ignore[call-overload]
        step = (
            TrainingStep(model, config.loss, config.only)
            if cfg.text_wheel
            else OfficialStep(model, config.official_loss)
        )
        self.step_module, self.optimizer = self.accelerator.prepare(step, torch.optim.AdamW(groups))
        self.model: ReLA = self.accelerator.unwrap_model(self.step_module).model
        kept = RegionCache(self.model, out / "regions", self.pictures.whole, config.mirrored_looks)
        if not state and self.accelerator.is_main_process:
            shutil.rmtree(out / "regions", ignore_errors=True)  # of other weights
        self.accelerator.wait_for_everyone()
        self.inputs = StepInputs(self.model, config, self.accelerator.device, kept)
        self.ema = AveragedModel(self.model, multi_avg_fn=moving_average(config.ema_decay))
        self.step, self.batches, self.seconds = 0, 0, 0.0
        self._print(
            f"{len(self.pictures)} {'pictures' if cfg.text_wheel else 'expressions'}; "
            f"{100 * self.no_target_prior:.1f} % of the expressions have no target"
        )
        if state:
            self._resume(state)
        run_frozen_image(self.model)

    @property
    def _file(self) -> Path:
        return self.out / "last.pt"

    @property
    def progress(self) -> float:
        """How much of the schedule is done, 0..1."""
        if self.config.steps:
            return self.step / self.config.steps
        return self.seconds / (60 * self.config.minutes)

    @property
    def rate_factor(self) -> float:
        """What the learning rates are multiplied with now."""
        if self.config.decay_steps:
            return 0.1 ** sum(self.step >= step for step in self.config.decay_steps)
        return learning_rate_factor(self.progress, self.config.warmup)

    def train(self) -> None:
        """Trains until the schedule ends or Ctrl-C; saves every two minutes and at the end."""
        self.out.mkdir(parents=True, exist_ok=True)
        long = self.config.minutes or self.config.steps >= FEW_STEPS
        if long and not self.inputs.alone:
            run_frozen_text(self.model)
        main, log = self.accelerator.is_main_process, None
        if main:
            shown = [self.pictures[n] for n in range(OVERLAYS)]
            log = RunLog(self.out, self.step, shown, self.config.overlay_minutes)
        saved, sums, count, since = time.monotonic(), dict[str, float](), 0, self.seconds
        batches, stop = self._batches(), False
        with stop_signals() as stopped:
            while self.progress < 1 and not stop:
                start = time.monotonic()
                passes = [next(batches) for _ in range(self.config.accumulation)]
                for name, value in self.train_step(*passes).items():
                    sums[name] = sums.get(name, 0.0) + value
                count += 1
                stop = self._agree(time.monotonic() - start, bool(stopped))
                if log and (count == REPORT_EVERY or stop or self.progress >= 1):
                    means = {name: value / count for name, value in sums.items()}
                    self._report(log, means, count, self.seconds - since)
                    sums, count, since = {}, 0, self.seconds
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
        self.save()
        if log:
            log.close()

    def _agree(self, seconds: float, stop: bool) -> bool:
        """Counts the time of a step. All processes must agree on the clock and the end, or one
        would stop a step before the others."""
        if self.accelerator.num_processes > 1:
            each = torch.tensor([[seconds, stop]], device=self.accelerator.device)
            seconds, stopped = self.accelerator.gather(each).amax(0).tolist()
            stop = bool(stopped)
        self.seconds += seconds
        return stop

    def _report(self, log: RunLog, means: dict[str, float], count: int, seconds: float) -> None:
        """Of the last ``count`` steps, which took so many ``seconds``."""
        each = self.config.batch_size * self.config.accumulation * self.accelerator.num_processes
        more = {"pictures_per_second": count * each / max(seconds, 1e-9)}
        for group in self.optimizer.param_groups:
            more[f"{group['name']}_learning_rate"] = group["lr"]
        log.row(means, more, self.step, self.seconds)
        log.tell(means, self.step, self.progress, more["pictures_per_second"], self.seconds)
        assert isinstance(self.ema.module, ReLA)
        log.overlays(self.ema.module, self.step)

    def train_step(self, *passes: list[Any]) -> dict[str, float]:
        """One step on one or several batches of samples; the mean of every loss term.

        FloatingPointError if the loss is no finite number.
        """
        self.step_module.train()
        if self.model.cfg.text_wheel:
            self.model.text_encoder.eval()
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * self.rate_factor
        sums: dict[str, float] = {}
        for number, samples in enumerate(passes, 1):
            # Chance in a pass hangs on nothing but the seed and the place in the run.
            place = self.batches + self.accelerator.process_index
            torch.manual_seed(self.config.seed * 1_000_003 + place)
            given = self.inputs(samples)
            last = number == len(passes)
            alone = contextlib.nullcontext() if last else self.accelerator.no_sync(self.step_module)
            with alone:
                with self.accelerator.autocast():
                    loss, terms = self.step_module(**given)
                self.accelerator.backward(loss / len(passes))
            for name, value in {"loss": loss.detach(), **terms}.items():
                sums[name] = sums.get(name, 0.0) + float(value) / len(passes)
            self.batches += self.accelerator.num_processes
        if not torch.isfinite(torch.tensor(sums["loss"])):
            raise FloatingPointError(f"step {self.step}: the loss is {sums['loss']}: {sums}")
        self.accelerator.clip_grad_norm_(self.step_module.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.model)
        self.step += 1
        return sums

    def _batches(self) -> Iterator[list[Any]]:
        """Batches of this process, from where the run stands."""
        config, processes = self.config, self.accelerator.num_processes
        ours = self.batches + self.accelerator.process_index
        step = processes * config.accumulation
        loader = DataLoader(
            self.pictures,
            batch_sampler=batch_numbers(self.pictures, config.batch_size, ours, processes, step),
            num_workers=config.workers,
            collate_fn=self.inputs.collate,
            worker_init_fn=serial_worker,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        return iter(loader)

    def save(self) -> None:
        """Writes everything that a resumed run needs, atomically. SaveError if that fails."""
        if not self.accelerator.is_main_process:
            return
        # All but the wheel's text encoder: what is frozen may come from a file that is not named
        # when the run goes on.
        wheel = "text_encoder." if self.model.cfg.text_wheel else "\0"
        scaler = self.accelerator.scaler
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "config": as_dict(self.config),
            "model": {n: v for n, v in self.model.state_dict().items() if not n.startswith(wheel)},
            "ema": {
                n: v for n, v in self.ema.module.state_dict().items() if not n.startswith(wheel)
            },
            "averaged": self.ema.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
            "step": self.step,
            "batches": self.batches,
            "seconds": self.seconds,
            "generation_words": self.model.cfg.generation_words,
        }
        write_state(state, self._file)

    def _resume(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"], strict=False)
        self.ema.module.load_state_dict(state["ema"], strict=False)
        self.ema.n_averaged.copy_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.batches, self.seconds = state["step"], state["batches"], state["seconds"]
        self._print(f"going on at step {self.step}, {self.seconds / 60:.0f} min")

    def start_from(self, path: Path) -> None:
        """Takes over the weights of a checkpoint. CheckpointError if it is of another model; a
        generation head, or its words, may be new, and so may the parts in ``MAY_BE_NEW``."""
        found = checkpoint_config(path)
        own = dataclasses.asdict(self.model.cfg)
        free = {"name", "image_size", "drop_path", *(n for n in own if n.startswith("generation"))}
        free.add("refine_side")
        other = [
            f"{name}: {value!r} -> {own[name]!r}"
            for name, value in dataclasses.asdict(found).items()
            if value != own[name] and name not in free and not (name in MAY_BE_NEW and own[name])
        ]
        if other:
            raise CheckpointError(f"checkpoint {path} is of another model: {'; '.join(other)}")
        tensors = with_late_stages({n: v.float() for n, v in load_file(path).items()})
        fit_words(tensors, found.generation_words, self.model)
        self.model.load_state_dict(tensors, strict=False)
        self.ema.module.load_state_dict(tensors, strict=False)
        run_frozen_image(self.model)

    def export(self, path: Path) -> None:
        """Writes the moving average as a checkpoint that the node loads."""
        metadata = {
            "steps": str(self.step),
            "minutes": f"{self.seconds / 60:.0f}",
            "training": json.dumps(as_dict(self.config)),
            "no_target_prior": f"{self.no_target_prior:.4f}",
        }
        assert isinstance(self.ema.module, ReLA)
        save_checkpoint(self.ema.module, path, metadata)
        self._print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")

    def _print(self, text: str) -> None:
        if self.accelerator.is_main_process:
            console.print(text, soft_wrap=True, markup=False)


def main(
    config: Annotated[Path, typer.Option(help="YAML, see training/configs/")],
    out: Annotated[Path, typer.Option(help="folder of the run; an unfinished one goes on")],
    export: Annotated[Path | None, typer.Option(help="write the checkpoint here")] = None,
    dataset: Annotated[str, typer.Option(help="instead of the config's datasets")] = "",
    minutes: Annotated[float, typer.Option(help="instead of the config's schedule")] = 0,
    steps: Annotated[int, typer.Option(help="instead of the config's schedule")] = 0,
    init: Annotated[Path | None, typer.Option(help="start from this checkpoint")] = None,
    init_backbone: Annotated[
        str, typer.Option(help="start the image encoder from this Hugging Face Swin or ResNet-50")
    ] = "",
    init_text: Annotated[
        str, typer.Option(help="start the text encoder from this Hugging Face BERT")
    ] = "",
    init_detector: Annotated[
        str, typer.Option(help="start the detector from this TensorFlow.js CenterNet (a .json)")
    ] = "",
) -> None:
    """Trains, or goes on training, and exports the result."""
    settings = TrainConfig.load(config)
    if dataset:
        settings = settings.replace(dataset=dataset, datasets=())
    if minutes or steps:
        settings = settings.replace(minutes=minutes, steps=steps)
    if init_backbone:
        settings = settings.replace(init_backbone=init_backbone)
    if init_text:
        settings = settings.replace(init_text=init_text)
    if init_detector:
        settings = settings.replace(init_detector=init_detector)
    # What the head can say stays as it is where it does not learn.
    given = checkpoint_config(init) if init else None
    words = given.generation_words if given and settings.only not in ("", "generation") else ()
    if settings.rela.coco_detector and not (
        settings.init_detector or (given and given.coco_detector) or (out / "last.pt").is_file()
    ):
        raise ConfigError(
            "model.coco_detector: the detector has no weights; they come by --init-detector or "
            "--init, and `model: {coco_detector: false}` does without it"
        )
    trainer = Trainer(settings, out, words)
    if init is not None and trainer.step == 0:
        trainer.start_from(init)
    trainer.train()
    if export is not None and trainer.accelerator.is_main_process:
        trainer.export(export)


if __name__ == "__main__":
    typer.run(main)
