"""What the model is taught: find every object, then choose those that the words mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from grex_ros.model.generation import PAD, UNKNOWN
from grex_ros.model.proposals import Proposals
from grex_ros.model.region_decoder import RegionState, RelaOutput

from .matcher import box_corners, flat_matches, generalized_iou, match, owners

LABEL_SMOOTHING = 0.1  # of words
CELLS = 5  # of an object that learn its box
CLASS_WEIGHT = (0.9, 1.1)  # of background and target, as in the official loss


@dataclass(frozen=True)
class LossWeights:
    """Weight of every term of the loss."""

    heat: float = 1.0
    cell_box: float = 5.0
    cell_giou: float = 2.0
    objectness: float = 1.0
    box: float = 5.0
    giou: float = 2.0
    region_mask: float = 5.0
    region_dice: float = 5.0
    target: float = 3.0
    mask: float = 1.0
    dice: float = 1.0
    minimap: float = 0.1
    no_target: float = 1.0
    count: float = 0.3
    alignment: float = 0.5
    semantics: float = 1.0
    generation: float = 0.5
    outline: float = 1.0
    outline_dice: float = 1.0


@dataclass(frozen=True)
class OfficialWeights:
    """Weight of every term of the official loss."""

    mask: float = 5.0
    minimap: float = 0.5
    no_target: float = 0.5


@dataclass
class PictureTruth:
    """The annotated objects of one picture and which of them its expressions mean."""

    masks: Tensor  # (K, h, w) 0..1 at the size of the mask features
    boxes: Tensor  # (K, 4) centre x, y, width, height in 0..1 of the padded picture
    meant: Tensor  # (E, K) 1 = the expression means the object
    names: list[str]  # K phrases such as "red cup"
    outlined: Tensor  # (K,) bool: False where the mask is the whole box, for want of a better one

    def to(self, device: torch.device) -> PictureTruth:
        """The same on ``device``."""
        return PictureTruth(
            self.masks.to(device),
            self.boxes.to(device),
            self.meant.to(device),
            self.names,
            self.outlined.to(device),
        )


def instance_losses(
    state: RegionState, truth: list[PictureTruth]
) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """Losses of every image layer against all annotated objects, and the match of the regions that
    the words are about."""
    counts = torch.tensor([len(t.boxes) for t in truth])
    total = max(int(counts.sum()), 1)
    losses: dict[str, Tensor] = {}
    stages = list(state.layers)
    if state.boxes is not None and state.boxes is not stages[-1][1]:  # twins were dropped
        assert state.objectness is not None
        stages.append((state.masks, state.boxes, state.objectness))
    depth, each = len(stages), len(truth)
    parts = [torch.cat(layers).float() for layers in zip(*stages, strict=True)]
    found = match(
        parts[0],
        parts[1],
        parts[2],
        [t.masks for t in truth] * depth,
        [t.boxes for t in truth] * depth,
    )
    all_boxes, all_masks, all_outlined = (
        torch.cat([getattr(t, name) for t in truth]) for name in ("boxes", "masks", "outlined")
    )
    first = (counts.cumsum(0) - counts).to(all_boxes.device)  # of every picture's objects
    for layer, (masks, boxes, objectness) in enumerate(state.layers):
        picture, region, item = flat_matches(found[layer * each : (layer + 1) * each])
        item = item + first[picture]
        true_boxes, true_masks = all_boxes[item], all_masks[item]
        outlined = all_outlined[item]
        labels = torch.zeros_like(objectness, dtype=torch.float32)
        labels[picture, region] = 1
        found_boxes = boxes[picture, region].float()
        pixels, dice = mask_losses(masks[picture, region].float(), true_masks, outlined)
        giou = generalized_iou(box_corners(found_boxes), box_corners(true_boxes))
        terms = {
            "objectness": _bce(objectness.float(), labels).sum() / total,
            "box": (found_boxes - true_boxes).abs().sum() / total,
            "giou": (1 - giou).sum() / total,
            "region_mask": pixels.sum() / total,
            "region_dice": dice.sum() / total,
        }
        for name, value in terms.items():
            losses[name] = losses.get(name, torch.zeros((), device=value.device)) + value
    return losses, found[-each:]


def mask_losses(logits: Tensor, truth: Tensor, outlined: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and Dice loss (N,) of masks (N, h, w), logits and 0..1. Where only the box is
    known (``outlined`` False), its inside is left open, and the Dice loss is that of the shadows
    which mask and box cast on both axes (BoxInst, Tian et al. 2021)."""
    flat = truth.flatten(1)
    pixels, p = _bce(logits.flatten(1), flat), logits.sigmoid()
    dice = dice_loss(p.flatten(1), flat)
    if not outlined.all():
        pixels = pixels * ((flat == 0) | outlined[:, None])
        shadows = [dice_loss(p.amax(axis), truth.amax(axis)) for axis in (1, 2)]
        dice = dice.where(outlined, (shadows[0] + shadows[1]) / 2)
    return pixels.mean(1), dice


def proposal_losses(found: Proposals, truth: list[PictureTruth]) -> dict[str, Tensor]:
    """Losses of the map of object centres: focal loss with a Gaussian slope around each centre
    (CenterNet), and the boxes of the cells in which centres lie."""
    assert found.cell_boxes is not None  # see Proposals
    _, h, w = found.heat.shape
    peaks = torch.zeros_like(found.heat, dtype=torch.float32)
    y = torch.arange(h, device=peaks.device)
    x = torch.arange(w, device=peaks.device)
    boxes = torch.cat([t.boxes for t in truth])
    picture = owners([len(t.boxes) for t in truth], peaks.device)
    size = boxes.new_tensor((w, h))
    centre = (boxes[:, :2] * size).long().clamp(min=0)
    centre = torch.minimum(centre, centre.new_tensor((w - 1, h - 1)))
    spread = (boxes[:, 2:] * size / 6).clamp(min=0.5)
    gauss = torch.exp(
        -((x - centre[:, :1]) ** 2 / (2 * spread[:, :1] ** 2))[:, None, :]
        - ((y - centre[:, 1:]) ** 2 / (2 * spread[:, 1:] ** 2))[:, :, None]
    )
    peaks.scatter_reduce_(0, picture[:, None, None].expand_as(gauss), gauss, "amax")
    total = max(len(boxes), 1)
    column, row = centre.T
    heat = found.heat.float()
    p = heat.sigmoid()
    hit = torch.zeros_like(peaks)
    hit[picture, row, column] = 1
    positive = -F.logsigmoid(heat) * (1 - p) ** 2 * hit
    negative = -F.logsigmoid(-heat) * p**2 * (1 - peaks) ** 4 * (1 - hit)
    # Boxes are learned by cells around the centre as well, so that they are right, too, where the
    # peak lies beside it (TTFNet, Liu et al. 2020).
    near = centre[:, None] + _around(boxes[:, 2:] * size)
    near = torch.minimum(near.clamp(min=0), near.new_tensor((w - 1, h - 1)))
    guess = found.cell_boxes[picture[:, None], near[..., 1], near[..., 0]].float()
    aim = boxes[:, None].expand_as(guess)
    giou = generalized_iou(box_corners(guess), box_corners(aim))
    return {
        "heat": (positive + negative).sum() / total,
        "cell_box": (guess - aim).abs().sum() / (total * near.shape[1]),
        "cell_giou": (1 - giou).sum() / (total * near.shape[1]),
    }


def _around(sides: Tensor) -> Tensor:
    """Steps (N, CELLS, 2), x and y in cells, from the centre of boxes with ``sides`` (N, 2) to
    itself and to cells drawn from the middle half of the box."""
    chance = torch.rand(len(sides), CELLS - 1, 2, device=sides.device) - 0.5
    drawn = (chance * sides[:, None] / 2).round().long()
    return torch.cat((torch.zeros_like(drawn[:, :1]), drawn), 1)


def language_losses(
    out: RelaOutput,
    truth: list[PictureTruth],
    matches: list[tuple[Tensor, Tensor]],
    minimap_side: int,
) -> dict[str, Tensor]:
    """Losses of B expressions, picture by picture in the order of ``truth``.

    ``minimap_side`` 0: regions are no cells of a grid, so the minimap says which region is meant.
    Without instance heads ``matches`` are empty, and only the masks of all targets are learned.
    """
    labels = torch.zeros_like(out.minimap[..., 0], dtype=torch.float32)  # (B, Q)
    unions, row = [], 0
    for t, (regions, objects) in zip(truth, matches, strict=True):
        meant = t.meant.float()
        labels[row : row + len(meant), regions] = meant[:, objects]
        unions.append(torch.einsum("ek,khw->ehw", meant, t.masks).clamp(max=1))
        row += len(meant)
    union = torch.cat(unions)
    # The pixels of what is only a box are not known.
    drawn = torch.cat([(t.meant * ~t.outlined).sum(1) == 0 for t in truth])
    empty = torch.cat([t.meant.sum(1) == 0 for t in truth])
    number = torch.cat([t.meant.sum(1) for t in truth]).long()
    objects_each = sum(len(t.boxes) * len(t.meant) for t in truth)
    weight = union.new_tensor(CLASS_WEIGHT)

    cells = minimap_truth(union, minimap_side) if minimap_side else labels.long()
    losses = {"no_target": F.cross_entropy(out.no_target.float(), empty.long(), weight)}
    known = drawn if minimap_side else torch.ones_like(drawn)  # which region is meant always is
    if known.any():
        minimap = out.minimap[known].float().transpose(1, 2)
        losses["minimap"] = F.cross_entropy(minimap, cells[known], weight)
    if out.layer_targets:
        each = [_bce(logits.float(), labels).sum() for logits in out.layer_targets]
        losses["target"] = torch.stack(each).sum() / max(objects_each, 1)
    if drawn.any():
        logits = out.target_mask[drawn].float()
        losses["mask"] = F.cross_entropy(logits, (union[drawn] > 0.5).long(), weight)
    some = ~empty & drawn
    if some.any():
        p = out.target_mask[some].float().softmax(1)[:, 1].flatten(1)
        losses["dice"] = dice_loss(p, union[some].flatten(1)).mean()
    if out.count is not None:
        classes = out.count.shape[1]
        losses["count"] = F.cross_entropy(out.count.float(), number.clamp(max=classes - 1))
    return losses


def official_losses(
    out: RelaOutput, union: Tensor, empty: Tensor, minimap_side: int
) -> dict[str, Tensor]:
    """The three terms of the official loss, to be summed with :class:`OfficialWeights`.

    ``union`` (B, H, W) 0 or 1: all pixels that expression b means, at the picture's size; ``empty``
    (B,) bool: it means nothing.
    """
    weight = union.new_tensor(CLASS_WEIGHT, dtype=torch.float32)
    masks = F.interpolate(out.target_mask.float(), union.shape[1:], mode="bilinear")
    cells = minimap_truth(union.float(), minimap_side)
    return {
        "mask": F.cross_entropy(masks, union.long(), weight),
        "minimap": F.cross_entropy(out.minimap.float().transpose(1, 2), cells, weight),
        "no_target": F.cross_entropy(out.no_target.float(), empty.long(), weight),
    }


def alignment_loss(logits: Tensor, names: list[str], phrases: list[str]) -> Tensor:
    """Cross-entropy of regions (N, P) that stand for objects called ``names`` over ``phrases``."""
    place = {phrase: i for i, phrase in enumerate(phrases)}
    truth = torch.tensor([place[name] for name in names], device=logits.device)
    return F.cross_entropy(logits.float(), truth)


def semantics_loss(found: Tensor, truth: Tensor) -> Tensor:
    """Kullback-Leibler divergence of ImageNet classes in the cells of pictures, logits (B, N,
    1000): of the trunk that learns, and of the one that it started from. So it does not forget
    kinds that the training pictures do not show (learning without forgetting, Li and Hoiem
    2016)."""
    truth = truth.float().flatten(0, 1).log_softmax(-1)
    found = found.float().flatten(0, 1).log_softmax(-1)
    return F.kl_div(found, truth, reduction="batchmean", log_target=True)


def generation_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy, smoothed by 0.1, of the words of expressions.

    ``logits`` (S, L - 1, words) of what follows each of the first L - 1 ids of ``tokens`` (S, L).
    Padding and words outside the vocabulary are not learned.
    """
    following = tokens[:, 1:]
    following = following.where((following != PAD) & (following != UNKNOWN), -100)
    return F.cross_entropy(
        logits.float().flatten(0, 1), following.flatten(), label_smoothing=LABEL_SMOOTHING
    )


def minimap_truth(union: Tensor, side: int) -> Tensor:
    """(B, h, w) -> (B, side*side): the mask sampled bilinearly and cut to integers, so only cells
    whose sample is exactly 1 count, as in the official loss."""
    return F.interpolate(union[:, None], (side, side), mode="bilinear").flatten(1).long()


def weighted_sum(losses: dict[str, Tensor], weights: LossWeights | OfficialWeights) -> Tensor:
    """The loss that is minimised; AttributeError for a term without a weight."""
    return torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()


def dice_loss(p: Tensor, truth: Tensor) -> Tensor:
    """(N, pixels) probabilities and masks -> (N,) losses, 0..1."""
    return 1 - (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)


def _bce(logits: Tensor, truth: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
