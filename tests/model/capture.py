"""Runs a model and keeps its intermediate tensors under the names of the golden sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from grex_ros.model.backbone import LanguageSwin
from grex_ros.model.rela import ReLA, official_decision
from grex_ros.model.resnet import ResNet50
from grex_ros.model.tables import sine_position


def capture(
    model: ReLA,
    images: list[Tensor],
    tokens: Tensor,
    word_mask: Tensor,
    attention_masks: dict[int, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Every named tensor of one forward pass. ``attention_masks`` (B, Q, h*w), before rows that are
    blocked everywhere are opened, replace what layer K thresholds: the decoder is discontinuous
    there."""
    seen: dict[str, Tensor] = {}
    hooks = []

    def keep(module: nn.Module, name: str, pick: Callable[[Any], Tensor] = lambda o: o) -> None:
        def hook(_: object, __: object, output: Any) -> None:
            seen[name] = pick(output).detach().clone()

        hooks.append(module.register_forward_hook(hook))

    bert = model.text_encoder
    keep(bert.embeddings, "text.embeddings")
    for i, layer in enumerate(bert.encoder.layer):
        keep(layer, f"text.layer{i}", lambda o: o[0] if isinstance(o, tuple) else o)
    _keep_backbone(model, keep, seen)
    _keep_pixel_decoder(model.pixel_decoder, keep)

    decoder = model.region_decoder
    keep(decoder.word_proj, "dec.lang_proj")
    keep(decoder.region_word[0], "dec.rla_lang_out")
    for i in range(model.cfg.decoder_layers):
        keep(decoder.region_image[i], f"dec.layer{i}.ria_out")
        keep(decoder.region_region[i], f"dec.layer{i}.rla_vision_out")
        keep(decoder.feed_forward[i], f"dec.layer{i}.ffn_out")
    plain, count = decoder.blocked, 0

    def blocked(masks: Tensor) -> Tensor:
        nonlocal count
        # The golden masks were stored before rows without any place to look are opened.
        seen[f"head{count}.mask_logits"] = masks.flatten(2)
        seen[f"head{count}.attn_mask"] = masks.sigmoid().flatten(2) < 0.5
        result = plain(masks)
        if attention_masks is not None:
            given = attention_masks[count]
            result = given & ~given.all(-1, keepdim=True)
        count += 1
        return result

    decoder.blocked = blocked  # type: ignore[method-assign]
    try:
        with torch.inference_mode():
            words = model.encode_text(tokens, word_mask)
            batch = model.normalise(images)
            state = model.encode_image(batch, words, word_mask)
            out = model.ground(state.repeat([1] * len(images)), words, word_mask)
            regions = [decoder.query_feat.weight[:, None].expand(-1, len(images), -1)]
            regions += [seen[f"dec.layer{i}.ffn_out"] for i in range(model.cfg.decoder_layers)]
            head = decoder.head
            for i, x in enumerate(r.transpose(0, 1) for r in regions):
                counts = [1] * len(images)
                minimap, target = head.target_mask(x, state.mask_features, counts)
                seen[f"head{i}.minimap"], seen[f"head{i}.tgt_mask"] = minimap, target
                seen[f"head{i}.nt_label"] = head.no_target(head.norm(x)).mean(1)
                seen[f"head{i}.all_mask"] = head.region_masks(x, state.mask_features)
            for i, (height, width) in enumerate(state.sizes):
                table = sine_position(height, width, model.cfg.hidden_dim, batch)
                seen[f"dec.pos{i}"] = table.T.reshape(1, -1, height, width)
            size = (batch.shape[2], batch.shape[3])
            mask, no_target = official_decision(out, size)
            seen["out.ref_seg"] = torch.nn.functional.interpolate(
                out.target_mask, size, mode="bilinear", align_corners=False
            ).sigmoid()
    finally:
        del decoder.blocked
        for hook in hooks:
            hook.remove()
    seen["out.pred_masks"], seen["out.pred_logits"] = out.target_mask, out.minimap
    seen["out.nt_label"], seen["out.nt_prob"] = out.no_target, out.no_target.sigmoid()
    seen["out.final_mask"], seen["out.final_nt"] = mask, no_target
    return seen


def _keep_backbone(model: ReLA, keep: Callable[..., None], seen: dict[str, Tensor]) -> None:
    backbone = model.backbone
    for i in range(4):
        keep(backbone, f"backbone.res{i + 2}", lambda o, i=i: o[i])
    if isinstance(backbone, ResNet50):
        stem = backbone.stages[0]  # what goes into it is the stem after its pooling

        def first(_: object, inputs: tuple[Tensor, ...]) -> None:
            seen["backbone.stem"] = inputs[0].clone()

        stem[0].register_forward_pre_hook(first)
        return
    assert isinstance(backbone, LanguageSwin)
    keep(backbone.patch_norm, "backbone.patch_embed", lambda o: o.permute(0, 3, 1, 2))
    for s, stage in enumerate(backbone.stages):
        name = f"backbone.stage{s}"
        for k, block in enumerate(stage.blocks):
            keep(block, f"{name}.block{k}")
        keep(stage.fusion, f"{name}.pwam_out")
        attend = stage.fusion.attend_words

        def watch(*args: Tensor, attend: Any = attend, name: str = name) -> Tensor:
            seen[f"{name}.pwam_lang_att"] = result = attend(*args)
            return result

        stage.fusion.attend_words = watch
        if stage.gate is not None:
            keep(stage.gate[1], f"{name}.res_gate", lambda o: o.tanh().flatten(1, 2))
            keep(stage.merge, f"{name}.downsample", lambda o: o.flatten(1, 2))


def _keep_pixel_decoder(decoder: nn.Module, keep: Callable[..., None]) -> None:
    for i in range(3):
        keep(decoder.input_proj[i], f"pixel.input_proj{i}")
        keep(decoder, f"pixel.multi_scale{i}", lambda o, i=i: o[0][i])
    for i, layer in enumerate(decoder.layers):
        keep(layer.self_attn, f"pixel.enc{i}.self_attn")
        keep(layer, f"pixel.enc{i}.out")
    keep(decoder.lateral_norm, "pixel.adapter_1")
    keep(decoder.output_norm, "pixel.layer_1", torch.relu)
    keep(decoder, "pixel.mask_features", lambda o: o[1])
