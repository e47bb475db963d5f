"""What training knows of regions before the words come: what is seen of them close up, and what of
a frozen image part is kept."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from grex_ros.model.close_look import CloseLook, close_crops, close_masks, likely_objects
from grex_ros.model.region_decoder import RegionState
from grex_ros.model.rela import ReLA
from training.criterion import instance_losses
from training.dataset.samples import Sample
from training.matcher import flat_matches, owners
from training.parameters import memory_format

# A picture (3, h, w) as the model sees it, without padding, and at its own size; uint8.
Picture = tuple[Tensor, Tensor]


@dataclass
class Looks:
    """What the trunk's first stages saw close up of M regions, and their masks there (see
    :class:`CloseLook`)."""

    picture: Tensor  # (M,) int64
    region: Tensor  # (M,) int64
    begun: Tensor  # (M, C, S / 8, S / 8)
    masks: Tensor  # (M, S / 8, S / 8)

    @staticmethod
    @torch.no_grad()  # those stages learn from whole pictures
    def at(model: ReLA, state: RegionState, pictures: Sequence[Picture]) -> Looks:
        """At the likely objects of ``pictures``, of which ``state`` is."""
        assert state.objectness is not None and state.boxes is not None
        regions, likely = likely_objects(state.objectness, model.cfg.close_looks)
        padded = (4 * state.masks.shape[2], 4 * state.masks.shape[3])
        crops, masks = [], []
        for i, (seen, whole) in enumerate(pictures):
            which = regions[i, likely[i]]
            boxes = state.boxes[i, which]
            if len(boxes):
                crops.append(close_crops(boxes, padded, seen, whole))
                masks.append(close_masks(state.masks[i, which], boxes))
        begun = there = regions.new_zeros(0, dtype=torch.float32)
        if crops:
            layout = memory_format(regions.device)
            begun = model.begin_close(torch.cat(crops).contiguous(memory_format=layout))
            there = torch.cat(masks)
        return Looks(likely.nonzero()[:, 0], regions[likely], begun, there)

    def of(self, matches: list[tuple[Tensor, Tensor]]) -> Looks:
        """Those at the regions that stand for objects."""
        picture, region, _ = flat_matches(matches)
        same = (self.picture[:, None] == picture) & (self.region[:, None] == region)
        among = same.any(1)
        return Looks(*(getattr(self, field.name)[among] for field in fields(self)))

    def told(self, look: CloseLook, state: RegionState) -> RegionState:
        """The state with what ``look`` makes of them."""
        if not len(self.region):
            return state
        assert state.boxes is not None
        place = self.region, self.picture
        boxes = state.boxes.detach()[self.picture, self.region]
        told = look(self.begun, self.masks, state.regions[place], boxes).to(state.regions.dtype)
        return replace(state, regions=state.regions.index_put(place, told, accumulate=True))


@dataclass
class EncodedPictures:
    """Regions of pictures, which objects they stand for, and what was seen of them close up."""

    state: RegionState
    matches: list[tuple[Tensor, Tensor]]
    looks: Looks | None = None


class RegionCache:
    """Regions of a frozen image part, computed once a picture and kept in half precision (1 MB
    each) in files, so that several processes and a run that goes on share them. The words then
    learn several times faster than with a pass over the pixels.

    Args:
        model: whose image part it is.
        folder: for the files; None keeps them in memory. They are of these weights alone.
        whole: a sample's picture (3, H, W) uint8 at its own size by the sample's index, for a model
            that looks close.
        mirrored: share of pictures whose close looks are at mirrored crops: what an object is does
            not hang on which side it shows.
    """

    def __init__(
        self,
        model: ReLA,
        folder: Path | None = None,
        whole: Callable[[int], Tensor] | None = None,
        mirrored: float = 0.0,
    ) -> None:
        self.model, self.folder, self.whole, self.mirrored = model, folder, whole, mirrored
        self._kept: dict[str, dict[str, Tensor]] = {}

    @torch.no_grad()
    def __call__(self, samples: list[Sample], device: torch.device) -> EncodedPictures:
        """The samples' pictures in their order. Features of pictures of several sizes go on as
        they end at the edge: so must the truth (:func:`pad_alike` with "replicate")."""
        kept = [self._parts(sample, device) for sample in samples]
        sizes = [part["features"].shape[1:] for part in kept]
        height, width = (max(size[k] for size in sizes) for k in (0, 1))
        features, boxes = [], []
        for part, (h, w) in zip(kept, sizes, strict=True):
            pad = (0, width - w, 0, height - h)
            features.append(F.pad(part["features"].float(), pad, "replicate"))
            boxes.append(part["boxes"].float() * torch.tensor([w / width, h / height] * 2))
        regions, position = (
            torch.stack([part[name] for part in kept], 1).float().to(device)
            for name in ("regions", "position")
        )
        maps, found = torch.stack(features).to(device), torch.stack(boxes).to(device)
        state = RegionState([], [], [], maps, regions, position, maps, boxes=found)
        matches = [(part["matched"].to(device), part["objects"].to(device)) for part in kept]
        looks = None
        if self.model.close_look is not None:
            each = owners([len(part["looked"]) for part in kept], device)
            looked, begun, outlines = (
                torch.cat([part[name] for part in kept]).to(device)
                for name in ("looked", "begun", "outlines")
            )
            looks = Looks(each, looked, begun.float(), outlines.float())
        return EncodedPictures(state, matches, looks)

    def _parts(self, sample: Sample, device: torch.device) -> dict[str, Tensor]:
        parts = self._once(str(sample.index), lambda: self._encode(sample, device))
        if self.mirrored and torch.rand(()) < self.mirrored:
            name = f"{sample.index}.mirrored"
            parts = parts | self._once(name, lambda: self._look_mirrored(sample, parts, device))
        return parts

    def _once(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What ``make`` gives, or has given under this name."""
        if self.folder is None:
            if name not in self._kept:
                self._kept[name] = make()
            return self._kept[name]
        file = self.folder / f"{name}.pt"
        if file.is_file():
            return torch.load(file, weights_only=True)
        parts = make()
        mine = file.with_suffix(f".{os.getpid()}")
        # On a full disk the picture is encoded again when it comes again.
        with contextlib.suppress(OSError, RuntimeError):
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save(parts, mine)
            mine.replace(file)
        mine.unlink(missing_ok=True)
        return parts

    def _encode(self, sample: Sample, device: torch.device) -> dict[str, Tensor]:
        """Alone: among others the last digit would hang on them, and on when a run was resumed."""
        seen = sample.pixels.to(device)
        images = self.model.normalise([seen])
        state = self.model.encode_image(images.contiguous(memory_format=memory_format(device)))
        _, [(regions, objects)] = instance_losses(state, [sample.truth.to(device)])
        assert state.boxes is not None
        parts = {
            "regions": state.regions[:, 0],
            "position": state.region_position[:, 0],
            "features": state.mask_features[0],
            "boxes": state.boxes[0],
        }
        numbers = {"matched": regions, "objects": objects}
        if self.model.close_look is not None:
            looks = Looks.at(self.model, state, [(seen, self._whole(sample, device))])
            parts |= {"begun": looks.begun, "outlines": looks.masks}
            numbers["looked"] = looks.region
        kept = {name: part.half() for name, part in parts.items()} | numbers
        return {name: part.cpu().clone() for name, part in kept.items()}

    def _whole(self, sample: Sample, device: torch.device) -> Tensor:
        return (sample.pixels if self.whole is None else self.whole(sample.index)).to(device)

    @torch.no_grad()
    def _look_mirrored(
        self, sample: Sample, parts: dict[str, Tensor], device: torch.device
    ) -> dict[str, Tensor]:
        """What of ``parts`` is of the crops, for mirrored ones."""
        begun, masks = parts["begun"], parts["outlines"].flip(-1)
        if len(begun):
            boxes = parts["boxes"][parts["looked"]].float().to(device)
            height, width = parts["features"].shape[1:]
            padded = 4 * height, 4 * width
            seen = sample.pixels.to(device)
            crops = close_crops(boxes, padded, seen, self._whole(sample, device)).flip(-1)
            layout = memory_format(device)
            begun = self.model.begin_close(crops.contiguous(memory_format=layout)).half().cpu()
        return {"begun": begun.clone(), "outlines": masks}
