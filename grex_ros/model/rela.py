"""ReLA, the whole forward pass: text, image, pixel decoder, region decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import LanguageSwin
from .close_look import CloseLook, look_close
from .config import RelaConfig
from .detector import DetectorSight
from .efficientnet import EfficientNetLite0
from .generation import ExpressionDecoder
from .guided_filter import GuidedFilter
from .heads import inverse_sigmoid
from .mask_refiner import PLAIN_SIDE, MaskRefiner, surroundings
from .pixel_decoder import build_pixel_decoder
from .region_decoder import RegionDecoder, RegionState, RelaOutput
from .resnet import ResNet50
from .text_encoder import TextAdapter, build_text_encoder

STRIDE = 32  # images are padded to multiples of it


class ReLA(nn.Module):
    """Generalized referring expression segmentation: one, many or no target per expression."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, cfg: RelaConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.text_encoder = build_text_encoder(cfg)
        self.text_adapter = TextAdapter(cfg) if cfg.text_adapter_layers else None
        if cfg.language_in_backbone:
            self.backbone: LanguageSwin | ResNet50 | EfficientNetLite0 = LanguageSwin(cfg)
        else:
            self.backbone = ResNet50() if cfg.backbone == "resnet50" else EfficientNetLite0()
        self.pixel_decoder = build_pixel_decoder(cfg, self.backbone.channels)
        self.region_decoder = RegionDecoder(cfg, self.backbone.channels[-1])
        self.sight = DetectorSight(cfg) if cfg.coco_detector else None
        self.close_look = CloseLook(cfg, self.backbone.channels) if cfg.close_looks else None
        self.generation = ExpressionDecoder(cfg) if cfg.generation_layers else None
        self.mask_refiner = MaskRefiner() if cfg.refine_side else None
        for name in ("pixel_mean", "pixel_std"):
            value = torch.tensor(getattr(cfg, name)).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)
        if cfg.text_wheel:
            self.text_encoder.requires_grad_(False)

    def encode_text(self, tokens: Tensor, word_mask: Tensor) -> Tensor:
        """Token ids and mask (B, L) -> word features (B, L, text_dim) of the text encoder."""
        return self.text_encoder(input_ids=tokens, attention_mask=word_mask).last_hidden_state

    def normalise(self, images: list[Tensor]) -> Tensor:
        """Pictures (3, h, w), RGB 0..255 -> batch (B, 3, H, W), padded with zeros to the right and
        the bottom after normalisation."""
        h = max(i.shape[1] for i in images)
        w = max(i.shape[2] for i in images)
        size = (h + -h % STRIDE, w + -w % STRIDE)
        if all(image.shape == images[0].shape for image in images):
            images = [torch.stack(images)]
        batch = []
        for image in images:
            x = (image.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
            x = F.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]))
            batch.append(x if x.dim() == 4 else x[None])
        return torch.cat(batch)

    def encode_image(
        self, images: Tensor, words: Tensor | None = None, word_mask: Tensor | None = None
    ) -> RegionState:
        """Normalised pictures (B, 3, H, W) -> everything that does not depend on the words; for
        a backbone that takes language, ``words`` and ``word_mask`` are needed, one per picture."""
        if self.cfg.language_in_backbone:
            features = self.backbone(images, words, word_mask)
        else:
            features = self.backbone(images)
        memories, mask_features = self.pixel_decoder(features)
        if self.sight is None:
            return self.region_decoder.encode_image(memories, mask_features, features[-1])
        seen = self.sight.detector(images * self.pixel_std + self.pixel_mean)
        memories, hints = self.sight.memories(memories, seen), self.sight.hints(seen)
        state = self.region_decoder.encode_image(memories, mask_features, features[-1], hints)
        assert state.boxes is not None
        state.regions = state.regions + self.sight(seen, state.boxes.detach())
        return state

    def look_close(self, state: RegionState, seen: Tensor, whole: Tensor) -> RegionState:
        """The state of one picture with what the trunk sees of likely objects close up; the same
        where the model does not look.

        Args:
            state: of :meth:`encode_image`.
            seen: (3, h, w) uint8, the picture as the model sees it, without padding.
            whole: (3, H, W) uint8, the picture itself, on the same device.
        """
        if self.close_look is None:
            return state
        return look_close(state, self.cfg.close_looks, self.tell_close, seen, whole)

    def tell_close(self, crops: Tensor, masks: Tensor, regions: Tensor, boxes: Tensor) -> Tensor:
        """Pixels (M, 3, S, S) 0..255 around the ``boxes`` (M, 4) of ``regions`` (M, C) and their
        masks there (M, S / 8, S / 8), 0..1 -> what is added to the regions (M, C)."""
        assert self.close_look is not None
        return self.close_look(self.begin_close(crops), masks, regions, boxes)

    def begin_close(self, crops: Tensor) -> Tensor:
        """Pixels (M, 3, S, S) 0..255 -> what the trunk's first stages make of them."""
        assert isinstance(self.backbone, EfficientNetLite0)
        return self.backbone.begin((crops - self.pixel_mean) / self.pixel_std)

    def ground(self, state: RegionState, words: Tensor, word_mask: Tensor) -> RelaOutput:
        """Regions of B pictures and the words of B expressions -> what is meant."""
        if self.text_adapter is not None:
            words = self.text_adapter(words, word_mask)
        return self.region_decoder(state, words, word_mask)

    def draw_masks(
        self, logits: Tensor, boxes: Tensor, seen: Tensor, whole: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Masks of regions of one picture at its own size, each in a window around its box: drawn
        anew by the refiner where there is one, their edges on those of the picture.

        Args:
            as :func:`~grex_ros.model.mask_refiner.surroundings` takes them.

        Returns:
            Logits (N, S, S), and the corners (N, 4) of the windows in pixels of ``whole``, which
            may lie beyond its edges.
        """
        corners, crops, coarse = surroundings(logits, boxes, seen, whole, self.draw_side)
        return self.draw_crops(crops, coarse), corners

    def draw_crops(self, crops: Tensor, coarse: Tensor) -> Tensor:
        """Pixels (N, 3, S, S) 0..255 and logits (N, S, S) of the masks so far -> logits (N, S, S),
        drawn anew and with their edges on those of the picture."""
        edges = GuidedFilter(crops / 255)
        drawn = self.refine_masks(crops, coarse, edges).float().sigmoid()
        return inverse_sigmoid(edges(drawn))

    @property
    def draw_side(self) -> int:
        """Pixels along a side of the windows in which masks are drawn."""
        return self.cfg.refine_side or PLAIN_SIDE

    def refine_masks(self, crops: Tensor, coarse: Tensor, edges: GuidedFilter) -> Tensor:
        """Pixels (N, 3, S, S) 0..255, logits (N, S, S) of the masks so far and the filter of these
        crops -> logits; the same ones where there is no refiner."""
        if self.mask_refiner is None:
            return coarse
        crops = (crops - self.pixel_mean) / self.pixel_std
        return self.mask_refiner(crops, coarse, edges(coarse.sigmoid()))

    def forward(self, images: list[Tensor], tokens: Tensor, word_mask: Tensor) -> RelaOutput:
        """B pictures (3, h, w) RGB 0..255 and B expressions (B, L), one each, without a close look:
        for that a picture at its own size is needed (:meth:`look_close`)."""
        words = self.encode_text(tokens, word_mask)
        state = self.encode_image(self.normalise(images), words, word_mask)
        return self.ground(state.repeat([1] * len(images)), words, word_mask)


def official_decision(out: RelaOutput, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The official reading of the output: target mask (B, H, W) and no-target (B,), both bool.

    Both channels go through a sigmoid before the comparison, so where both saturate, background
    and "there is a target" win; ``size`` is that of the padded picture.
    """
    logits = F.interpolate(out.target_mask, size, mode="bilinear", align_corners=False)
    return logits.sigmoid().argmax(1).bool(), out.no_target.sigmoid().argmax(1).bool()
