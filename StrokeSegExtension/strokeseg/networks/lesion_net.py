"""Lesion-Net: a transformer for slices that keeps 128 channels at every resolution, after its published description.

42,772,609 parameters at the published size: 66 units in four stages, a decoder that brings all stages back to the
slice, and a head. 1,024 of them belong to norms at the stages' ends, which the published program owns and never
applies; unless `apply_stage_norms` is set they are frozen, so that every trained parameter has a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.lesion_net_unit import ChannelNorm, Unit
from strokeseg.networks.slice_network import SliceNetwork, check_same_lengths, check_whole_numbers, refused

_NAME = "lesion-net"


class LesionNet(SliceNetwork):
    """Lesion-Net; ``forward`` takes slices (N, in_channels, x, y, 1) whose axes are multiples of 16.

    A convolution of 1x1 and a bilinear interpolation commute, so the decoder's convolutions run before its
    interpolations, on 4 to 256 times fewer pixels; the logits are the same. `published_order` interpolates first.

    Args:
        in_channels: Channels of the input.
        out_channels: 1, or one a class with the background first.
        width: Channels of every stage.
        depths: Units of each stage, the finest first; every stage has half the resolution of what comes before.
        heads: Attention heads of each stage.
        reductions: Each stage's keys and values are that many times coarser, along both axes, than its queries.
        expansion: Channels within the feed-forward part, over `width`.
        decoder_width: Channels of each stage in the decoder, and of the head.
        drop_path: Probability with which the last unit's feed-forward part is left out in training; rises linearly
            from 0 at the first.
        published_order: Interpolate before the decoder's 1x1 convolutions, as published.
        apply_stage_norms: Apply the norms at the stages' ends, as the published figure shows.

    Raises:
        ModelError: A number is not usable.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 128,
        depths: Sequence[int] = (25, 17, 14, 10),
        heads: Sequence[int] = (4, 4, 4, 4),
        reductions: Sequence[int] = (8, 4, 2, 1),
        expansion: int = 4,
        decoder_width: int = 256,
        drop_path: float = 0.4,
        published_order: bool = False,
        apply_stage_norms: bool = False,
    ) -> None:
        _check(width, heads, drop_path, in_channels=in_channels, out_channels=out_channels, depths=depths,
               reductions=reductions, expansion=expansion, decoder_width=decoder_width)  # fmt: skip
        # Stage k sees the slice 2^k times coarser, and its keys and values once more by its reduction.
        super().__init__(
            in_channels, lcm(*(2 ** (k + 1) * r for k, r in enumerate(reductions))), any_size_in_graph=False
        )
        self.published_order = published_order
        chances = iter(torch.linspace(0.0, drop_path, sum(depths)).tolist())
        self.stages = nn.ModuleList(
            Stage(
                in_channels if k == 0 else width,
                width,
                [Unit(width, head, reduction, expansion, next(chances)) for _ in range(depth)],
                apply_norm=apply_stage_norms,
            )
            for k, (depth, head, reduction) in enumerate(zip(depths, heads, reductions, strict=True))
        )
        # From here on the deepest stage comes first.
        self.projections = nn.ModuleList(nn.Conv2d(width, decoder_width, 1) for _ in depths)
        self.fusion = nn.Conv2d(len(depths) * decoder_width, decoder_width, 1, bias=False)
        self.fusion_norm = nn.BatchNorm2d(decoder_width)
        self.head = nn.Conv2d(decoder_width, out_channels, 1)

    def logits(self, slices: Tensor) -> Tensor:
        """Slices (N, in_channels, x, y) to logits (N, out_channels, x, y)."""
        features = slices
        found = []
        for stage in self.stages:
            features, seen = stage(features)
            found.append(seen)
        found.reverse()
        fused = self._interpolated_first(found) if self.published_order else self._interpolated_last(found)
        # In this order, as published: the activation before the norm.
        result: Tensor = self.head(self.fusion_norm(functional.relu(fused)))
        return result

    def _interpolated_first(self, features: Sequence[Tensor]) -> Tensor:
        depth = len(features)
        maps = [
            project(_enlarged(f, 2 ** (depth - k)))
            for k, (project, f) in enumerate(zip(self.projections, features, strict=True))
        ]
        result: Tensor = self.fusion(torch.cat(maps, dim=1))
        return result

    def _interpolated_last(self, features: Sequence[Tensor]) -> Tensor:
        """The fusion of concatenated maps is a sum over its columns' parts, each of which can run on its coarse map."""
        depth = len(features)
        parts = torch.split(self.fusion.weight, self.fusion.out_channels, dim=1)
        maps = [
            _enlarged(functional.conv2d(project(f), part), 2 ** (depth - k))
            for k, (project, part, f) in enumerate(zip(self.projections, parts, features, strict=True))
        ]
        return sum(maps[1:], start=maps[0])


class Stage(nn.Module):
    """Halves the resolution and runs the units: (N, before, x, y) to features (N, width, x/2, y/2), twice.

    The first are for the next stage, the second for the decoder: the same, or normalised.

    Args:
        before: Channels of the input.
        width: Channels of the output.
        units: Of the stage.
        apply_norm: Normalise what the decoder gets; else the norm is frozen.
    """

    def __init__(self, before: int, width: int, units: Sequence[Unit], *, apply_norm: bool) -> None:
        super().__init__()
        self.apply_norm = apply_norm
        self.embedding = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)
        self.embedding_norm = ChannelNorm(width)
        self.units = nn.ModuleList(units)
        self.norm = ChannelNorm(width)
        self.norm.requires_grad_(requires_grad=apply_norm)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the next stage gets, and what the decoder gets."""
        features = self.embedding_norm(self.embedding(features).contiguous(memory_format=torch.channels_last))
        for unit in self.units:
            features = unit(features)
        return features, self.norm(features) if self.apply_norm else features


def _enlarged(features: Tensor, times: int) -> Tensor:
    return functional.interpolate(features, scale_factor=float(times), mode="bilinear", align_corners=True)


def _check(
    width: int,
    heads: Sequence[int],
    drop_path: float,
    *,
    depths: Sequence[int],
    reductions: Sequence[int],
    **numbers: int,
) -> None:
    lists = {"depths": depths, "heads": heads, "reductions": reductions}
    check_whole_numbers(_NAME, width=width, **lists, **numbers)
    for name, values in lists.items():
        if not isinstance(values, list | tuple):
            raise refused(_NAME, f"'{name}' is {values!r}.", "Give a list with one number a stage.")
    check_same_lengths(_NAME, lists)
    if any(width % h for h in heads):
        raise refused(_NAME, f"'width' is {width}, 'heads' are {tuple(heads)}.", "Give heads that divide the width.")
    if not 0.0 <= drop_path < 1.0:
        raise refused(_NAME, f"'drop_path' is {drop_path!r}.", "Give a probability from 0 to below 1.")
