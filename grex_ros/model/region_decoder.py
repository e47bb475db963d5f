"""The ReLA decoder: region queries that attend the image, each other, and the words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, FeedForward, Product
from .box_refiner import BoxRefiner
from .config import RelaConfig
from .distinct import distinct
from .geometry import PairGeometry
from .heads import InstanceHeads, MaskHead, PhraseAlignment, RelevanceNoTarget
from .proposals import Hints, Proposals, RegionProposals, box_waves, outside_box, picked
from .semantics import RegionSemantics
from .tables import sine_position

SAME = 0.6  # IoU of the boxes of two regions above which they are one object's
OUTSIDE = 8.0  # logits that a mask loses half a box away from its box


@dataclass
class RegionState:
    """Regions of B pictures before the words. ``layers`` holds (masks, boxes, objectness) logits
    after every image layer, for deep supervision; ``counts`` how many expressions each picture
    has (see :meth:`repeat`)."""

    memories: list[Tensor]  # three of (h*w, B, C)
    positions: list[Tensor]  # three of (h*w, 1, C)
    sizes: list[tuple[int, int]]
    mask_features: Tensor  # (B, M, H/4, W/4)
    regions: Tensor  # (Q, B, C)
    region_position: Tensor  # (Q, B, C), or (Q, 1, C) for learned queries
    masks: Tensor  # (B, Q, H/4, W/4) logits, where there are image layers
    # Mask features at the sizes of the memories, where there are no image layers.
    level_features: list[Tensor] = field(default_factory=list)
    boxes: Tensor | None = None  # (B, Q, 4)
    objectness: Tensor | None = None  # (B, Q) logits
    proposals: Proposals | None = None
    looks: Tensor | None = None  # (B, h*w, 1280), see RegionSemantics
    layers: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def repeat(self, counts: list[int]) -> RegionState:
        """The state for ``counts[i]`` expressions of picture i, picture by picture. What only the
        pictures need (memories, mask features) is shared, not copied."""
        regions, position = (_each(t, counts) for t in (self.regions, self.region_position))
        return replace(self, regions=regions, region_position=position, counts=counts, layers=[])

    def repeat_image(self) -> RegionState:
        """What :meth:`repeat` shares, once per expression, for layers that see image and words."""
        return replace(
            self,
            memories=[_each(m, self.counts) for m in self.memories],
            mask_features=_each(self.mask_features, self.counts, 0),
            level_features=[_each(f, self.counts, 0) for f in self.level_features],
            counts=[1] * sum(self.counts),
        )


def _each(x: Tensor, counts: list[int], dim: int = 1) -> Tensor:
    """Item i of dimension ``dim`` ``counts[i]`` times, without a copy where that is possible.
    What is the same for all pictures has one item."""
    if x.shape[dim] == 1:
        shape = [-1] * x.dim()
        shape[dim] = sum(counts)
        return x.expand(shape)
    if all(count == 1 for count in counts):
        return x
    return x.repeat_interleave(torch.tensor(counts, device=x.device), dim)


@dataclass
class RelaOutput:
    """Logits of B expressions over Q regions; masks at a quarter of the padded image.

    ``masks`` and ``boxes`` are per picture (P of them) where regions see the image before the
    words, else per expression (P = B).
    """

    target_mask: Tensor  # (B, 2, H/4, W/4), channel 1 = target
    minimap: Tensor  # (B, Q, 2)
    no_target: Tensor  # (B, 2), class 1 = no target
    masks: Tensor  # (P, Q, H/4, W/4)
    boxes: Tensor | None = None  # (P, Q, 4) centre x, y, width, height in 0..1
    target: Tensor | None = None  # (B, Q)
    count: Tensor | None = None  # (B, count_classes)
    layer_targets: list[Tensor] = field(default_factory=list)  # target logits of every word layer


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def _shrink(x: Tensor, size: tuple[int, int]) -> Tensor:
    """What :func:`_resize` does. By an even factor the bilinear sample is the mean of the four
    cells in the middle, which GPUs find many times faster where channels are many and cells few."""
    step = x.shape[2] // size[0]
    if step % 2 or x.shape[2] != step * size[0] or x.shape[3] != step * size[1]:
        return _resize(x, size)
    corner = step // 2 - 1
    return F.avg_pool2d(x[:, :, corner:, corner:], 2, step)


class RegionDecoder(nn.Module):
    """Layers of region-image, region-word (where due), region-region attention and feed-forward.

    With ``image_layers``, the first layers see the image and no words, the others the words and
    no image: a further expression then costs no pass over the pixels.

    Two switches are for ablation. Without ``region_region`` no region knows of another. Without
    ``region_word`` the words are not attended; where no backbone has heard them either, their mean
    is added to all regions.
    """

    def __init__(self, cfg: RelaConfig, channels: int) -> None:
        """``channels`` of the trunk's last map, which ``region_semantics`` looks at."""
        super().__init__()
        self.cfg = cfg
        dim, n = cfg.hidden_dim, cfg.decoder_layers
        if cfg.region_proposals:
            self.proposals = RegionProposals(cfg)
            self.box_position = nn.Linear(dim, dim)
        else:
            self.query_feat = nn.Embedding(cfg.regions, dim)
            self.query_embed = nn.Embedding(cfg.regions, dim)
        self.level_embed = nn.Embedding(3, dim)
        image_layers = cfg.image_layers or n
        self.region_image = nn.ModuleList(Attention(dim, cfg.heads) for _ in range(image_layers))
        self.region_region = nn.ModuleList(
            Attention(dim, cfg.heads) for _ in range(n if cfg.region_region else 0)
        )
        self.feed_forward = nn.ModuleList(FeedForward(dim, cfg.decoder_ffn) for _ in range(n))
        # How many layers hear the words: in the official model the first.
        self.word_layers = n - cfg.image_layers if cfg.words_in_every_layer else 1
        if not cfg.region_word and cfg.language_in_backbone:
            self.word_layers = 0
        attending = self.word_layers if cfg.region_word else 0
        self.region_word = nn.ModuleList(Attention(dim, cfg.heads) for _ in range(attending))
        self.word_product = nn.ModuleList(
            Product(dim) for _ in range(attending if cfg.word_product else 0)
        )
        self.head = MaskHead(cfg)
        self.alignment = PhraseAlignment(dim) if cfg.phrase_alignment else None
        if cfg.text_adapter_layers or not self.word_layers:
            self.word_proj = None  # the text adapter has projected them, or nobody asks
        else:
            self.word_proj = nn.Linear(cfg.text_dim, dim, bias=False)
            nn.init.zeros_(self.word_proj.weight)
        # Official gate: sigmoid(word_gate) * language_weight.
        gated = self.word_layers and not cfg.words_in_every_layer
        self.word_gate = nn.Parameter(torch.zeros(())) if gated else None
        self.instance = InstanceHeads(cfg) if cfg.instance_heads else None
        self.relevance = RelevanceNoTarget(cfg) if cfg.relevance_no_target else None
        if cfg.region_appearance:
            self.appearance = nn.Linear(cfg.mask_dim, dim)
            self.geometry = nn.Linear(dim, dim)
        self.pair_geometry = PairGeometry(cfg) if cfg.region_geometry else None
        self.semantics = RegionSemantics(cfg, channels) if cfg.region_semantics else None
        self.box_refiner = BoxRefiner(cfg) if cfg.box_refiner else None

    # --- the picture ----------------------------------------------------------------------

    def encode_image(
        self,
        memories: list[Tensor],
        mask_features: Tensor,
        coarse: Tensor,
        hints: Hints | None = None,
    ) -> RegionState:
        """Memories (B, C, h, w) of strides 32, 16, 8, mask features, the trunk's last map (B,
        channels, H/32, W/32) and hints for proposals -> regions after the layers without words."""
        cfg = self.cfg
        batch, dim = memories[0].shape[:2]
        state = RegionState(
            memories=[
                (m.flatten(2) + self.level_embed.weight[i][None, :, None]).permute(2, 0, 1)
                for i, m in enumerate(memories)
            ],
            positions=[sine_position(m.shape[2], m.shape[3], dim, m)[:, None] for m in memories],
            sizes=[(m.shape[2], m.shape[3]) for m in memories],
            mask_features=mask_features,
            regions=mask_features,  # these three are set below
            region_position=mask_features,
            masks=mask_features,
        )
        if cfg.region_proposals:
            found = state.proposals = self.proposals(memories[2], hints)
            state.regions = found.content.transpose(0, 1)
            state.boxes = found.boxes.detach()
            waves = box_waves(state.boxes.transpose(0, 1), dim)
            state.region_position = self.box_position(waves)
        else:
            state.regions = self.query_feat.weight[:, None].expand(-1, batch, -1)
            state.region_position = self.query_embed.weight[:, None]
        if not cfg.image_layers:
            # Resizing and the product with a region commute: small maps save most of the work.
            state.level_features = [_shrink(mask_features.detach(), size) for size in state.sizes]
            return state
        state.masks = self._region_masks(state)
        maps = self.box_refiner.maps(mask_features, memories[2]) if self.box_refiner else []
        for i in range(cfg.image_layers):
            masks = _resize(state.masks.detach(), state.sizes[self._level(i)])
            x = self._attend_image(i, state, state.regions, masks)
            x = self._attend_regions(i, x, state.region_position)
            state.regions = self.feed_forward[i](x)
            self._read_instances(state, maps)
        if cfg.distinct_regions:
            self._drop_twins(state)
        if cfg.region_appearance:
            state.regions = state.regions + self._describe_regions(state)
        if self.semantics is not None:
            state.looks = self.semantics.look(coarse)
            masks = F.avg_pool2d(state.masks.detach().sigmoid(), 8)  # from stride 4 to 32
            state.regions = state.regions + self.semantics(state.looks, masks)
        return state

    def _region_masks(self, state: RegionState) -> Tensor:
        """Mask logits (B, Q, H/4, W/4); a region that has a box keeps its mask near it."""
        masks = self.head.region_masks(state.regions.transpose(0, 1), state.mask_features)
        if state.boxes is None:
            return masks
        return masks - OUTSIDE * outside_box(state.boxes.detach(), *masks.shape[-2:])

    def _read_instances(self, state: RegionState, maps: list[Tensor]) -> None:
        """``maps`` for the box refiner."""
        if self.instance is not None:
            regions = self.head.norm(state.regions.transpose(0, 1))
            start = None if state.boxes is None else state.boxes.detach()
            state.boxes = self.instance.boxes(regions, start)
            if self.box_refiner is not None:
                state.boxes = self.box_refiner(state.boxes, regions, maps)
            state.masks = self._region_masks(state)
            state.objectness = self.instance.objectness(regions)[..., 0]
            state.layers.append((state.masks, state.boxes, state.objectness))

    @staticmethod
    def _drop_twins(state: RegionState) -> None:
        """Of regions that have come to one box, the likeliest object stays. The places of the
        others go to the region that is least likely one, which means nothing: so there are always
        as many. ``state.layers`` keeps all, to learn from."""
        assert state.boxes is not None and state.objectness is not None
        order = state.objectness.argsort(1, descending=True)
        own = distinct(picked(state.boxes, order), SAME)
        pick = torch.where(own, order, order[:, -1:])
        state.masks, state.boxes = picked(state.masks, pick), picked(state.boxes, pick)
        state.objectness = picked(state.objectness, pick)
        state.regions = picked(state.regions.transpose(0, 1), pick).transpose(0, 1)
        position = picked(state.region_position.transpose(0, 1), pick)
        state.region_position = position.transpose(0, 1)

    def _describe_regions(self, state: RegionState) -> Tensor:
        """What a region looks like (mask-pooled features) and where it is; (Q, B, C)."""
        assert state.boxes is not None
        weight = state.masks.detach().sigmoid().flatten(2)
        weight = weight / (weight.sum(-1, keepdim=True) + 1.0)
        pooled = (weight @ state.mask_features.flatten(2).transpose(1, 2)).transpose(0, 1)
        waves = box_waves(state.boxes.detach().transpose(0, 1), self.cfg.hidden_dim)
        return self.appearance(pooled) + self.geometry(waves)

    # --- the words ------------------------------------------------------------------------

    def forward(self, state: RegionState, words: Tensor, word_mask: Tensor) -> RelaOutput:
        """``state`` with the regions of B expressions (see :meth:`RegionState.repeat`), ``words``
        (B, L, C), ``word_mask`` (B, L) 1 = word."""
        cfg = self.cfg
        if not cfg.image_layers:
            state = state.repeat_image()
        x, masks = state.regions, state.masks
        if self.word_proj is not None:
            words = self.word_proj(words)
        sequence = words.transpose(0, 1)
        padding = word_mask[:, None] == 0 if cfg.word_padding_mask else None
        pairs = None
        if self.pair_geometry is not None:
            assert state.boxes is not None
            pairs = self.pair_geometry(state.boxes.detach())
            if len(pairs) > 1:
                pairs = _each(pairs, state.counts, 0)
        targets = []
        for i in range(cfg.image_layers, cfg.decoder_layers):
            if not cfg.image_layers:
                with torch.no_grad():  # where to look is not learned from
                    features = state.level_features[self._level(i)]
                    small = self.head.region_masks(x.transpose(0, 1), features)
                x = self._attend_image(i, state, x, small)
            if i - cfg.image_layers < self.word_layers:
                x = self._hear(i - cfg.image_layers, x, sequence, padding)
            x = self._attend_regions(i, x, state.region_position, pairs)
            x = self.feed_forward[i](x)
            if self.instance is not None:
                targets.append(self.instance.target(self.head.norm(x.transpose(0, 1)))[..., 0])
        regions = x.transpose(0, 1)
        if not cfg.image_layers:
            masks = self.head.region_masks(regions, state.mask_features)
        minimap, target_mask = self.head.target_mask(regions, state.mask_features, state.counts)
        out = RelaOutput(target_mask, minimap, minimap, masks, boxes=state.boxes)
        if targets:
            out.target, out.layer_targets = targets[-1], targets
        regions = self.head.norm(regions)
        if self.relevance is not None:
            assert out.target is not None
            out.no_target, out.count = self.relevance(
                regions, out.target.detach(), words, word_mask
            )
        else:
            assert self.head.no_target is not None
            out.no_target = self.head.no_target(regions).mean(1)
        return out

    # --- the three attentions -------------------------------------------------------------

    def _level(self, i: int) -> int:
        """Which memory layer ``i`` looks at; the finest comes last before the words."""
        return (i - self.cfg.image_layers) % 3

    def _attend_image(self, i: int, state: RegionState, x: Tensor, masks: Tensor) -> Tensor:
        """Layer ``i``; ``masks`` (B, Q, h, w): logits of the regions ``x`` at its level's size."""
        level = self._level(i)
        memory = state.memories[level]
        key = memory + state.positions[level]
        return self.region_image[i](x, key, memory, state.region_position, self.blocked(masks))

    @staticmethod
    def blocked(masks: Tensor) -> Tensor:
        """Mask logits (B, Q, h, w) -> (B, Q, h*w): True where a region may not look, which is
        outside its own mask; a region without any place to look looks everywhere."""
        blocked = masks.sigmoid().flatten(2) < 0.5
        return blocked & ~blocked.all(-1, keepdim=True)

    def _hear(self, i: int, x: Tensor, words: Tensor, padding: Tensor | None) -> Tensor:
        """``words`` (L, B, C), ``padding`` (B, 1, L) True where there is none."""
        if self.region_word:
            out = self.region_word[i](x, words, words, blocked=padding)
            if self.word_product:
                out = self.word_product[i](x, out)
        else:
            there = torch.ones_like(words[..., :1])
            if padding is not None:
                there = there * ~padding.permute(2, 0, 1)
            out = x + (words * there).sum(0) / there.sum(0)
        if self.word_gate is None:
            return out
        return x + self.cfg.language_weight * self.word_gate.sigmoid() * out

    def _attend_regions(
        self, i: int, x: Tensor, position: Tensor, pairs: Tensor | None = None
    ) -> Tensor:
        """``pairs``: what :class:`PairGeometry` says of the regions."""
        if not self.region_region:
            return x
        bias = None
        if pairs is not None and self.pair_geometry is not None:
            bias = self.pair_geometry.bias(i - self.cfg.image_layers, x, pairs)
        return self.region_region[i](x, x + position, x, position, bias=bias)
