"""SegFormer3D as StrokeFormer's segmenter, after its published description: 4,492,066 parameters.

Four stages of tokens, each half as fine as the one before, and a decoder that brings all of them to the first one's
resolution. It differs from the SegFormer3D it was made of in that norms see one channel of one patient at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.form import NetworkForm
from strokeseg.networks.residual_unet import InstanceNorm
from strokeseg.networks.segformer3d_unit import Unit, cut, enlarged, initialise
from strokeseg.networks.slice_network import check_same_lengths, check_whole_numbers, refused

_NAME = "segformer3d"
# Voxels between tokens of the first stage, and tokens of a stage between those of the next.
_FIRST_STRIDE = 4
_STRIDE = 2


class SegFormer3D(nn.Module):
    """SegFormer3D; ``forward`` takes (N, in_channels, x, y, z) of any size, published 64x64x64.

    It gives lesion logits (N, out_channels, x, y, z). The head of one class has two maps, background and lesion, as
    published; its one logit is their difference, whose sigmoid is the lesion's softmax.

    A convolution of 1x1x1 and a trilinear interpolation commute, so the decoder's convolution runs before its
    interpolations, on 8 to 512 times fewer tokens; the logits are the same. `published_order` interpolates first.

    Args:
        in_channels: Channels of the input; published is T1 alone.
        out_channels: 1, or one a class with the background first; 2 gives the two maps as they are.
        widths: Channels of each stage, the finest first.
        depths: Units of each stage.
        heads: Attention heads of each stage.
        reductions: Each stage's keys and values are that many times coarser, along every axis, than its queries.
        expansion: Channels within the feed-forward part, over the stage's.
        decoder_width: Channels of each stage in the decoder, and of the head.
        published_scores: Divide attention scores by the root of the number of heads, as published, instead of the root
            of the channels of a head.
        published_order: Interpolate before the decoder's convolution, as published.

    Raises:
        ModelError: A number is not usable.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (32, 64, 160, 256),
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (1, 2, 5, 8),
        reductions: Sequence[int] = (4, 2, 1, 1),
        expansion: int = 4,
        decoder_width: int = 256,
        published_scores: bool = False,
        published_order: bool = False,
    ) -> None:
        super().__init__()
        _check(widths, heads, in_channels=in_channels, out_channels=out_channels, depths=depths, reductions=reductions,
               expansion=expansion, decoder_width=decoder_width)  # fmt: skip
        self.form = NetworkForm(in_channels=in_channels, any_size_in_graph=False)
        self.out_channels, self.published_order = out_channels, published_order
        self.stages = nn.ModuleList(
            Stage(
                before,
                width,
                7 if number == 0 else 3,
                _FIRST_STRIDE if number == 0 else _STRIDE,
                [Unit(width, head, reduction, expansion, published_scores=published_scores) for _ in range(depth)],
            )
            for number, (before, width, depth, head, reduction) in enumerate(
                zip([in_channels, *widths[:-1]], widths, depths, heads, reductions, strict=True)
            )
        )
        # From here on the deepest stage comes first.
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(w, decoder_width), nn.LayerNorm(decoder_width)) for w in widths[::-1]
        )
        self.fusion = nn.Conv3d(len(widths) * decoder_width, decoder_width, 1, bias=False)
        self.fusion_norm = InstanceNorm(decoder_width, affine=True)
        self.head = nn.Conv3d(decoder_width, max(2, out_channels), 1)
        self.apply(initialise)

    def forward(self, batch: Tensor) -> Tensor:
        """Logits (N, out_channels, x, y, z)."""
        if not torch.onnx.is_in_onnx_export():
            self.form.check(tuple(batch.shape))
        features, found = batch, []
        for stage in self.stages:
            tokens = stage(features)
            features = tokens.permute(0, 4, 1, 2, 3)
            found.append(tokens)
        fused = functional.relu(self.fusion_norm(self._fused(found[::-1])))
        maps = cut(enlarged(self.head(fused), _FIRST_STRIDE), batch.shape[2:])
        return maps if self.out_channels > 1 else maps[:, 1:] - maps[:, :1]

    def _fused(self, found: Sequence[Tensor]) -> Tensor:
        """Tokens of all stages, the deepest first, joined on the first stage's grid: (N, decoder_width, x, y, z)."""
        maps = [project(t).permute(0, 4, 1, 2, 3) for project, t in zip(self.projections, found, strict=True)]
        size = maps[-1].shape[2:]
        times = [_STRIDE**stage for stage in range(len(maps) - 1, -1, -1)]
        if self.published_order:
            fine = [cut(enlarged(m, n), size) for m, n in zip(maps, times, strict=True)]
            result: Tensor = self.fusion(torch.cat(fine, dim=1))
            return result
        # The fusion of concatenated maps is a sum over its columns' parts, each of which can run on its coarse map.
        parts = torch.split(self.fusion.weight, self.fusion.out_channels, dim=1)
        mixed = [
            cut(enlarged(functional.conv3d(m, part), n), size) for m, part, n in zip(maps, parts, times, strict=True)
        ]
        return sum(mixed[1:], start=mixed[0])


class Stage(nn.Module):
    """Makes tokens, runs the units, normalises: (N, before, x, y, z) to (N, x/stride, y/stride, z/stride, width).

    Sizes are rounded up: every voxel is seen by a token.

    Args:
        before: Channels of the input.
        width: Channels of the tokens.
        kernel: Voxels along each axis that a token sees.
        stride: Voxels between tokens.
        units: Of the stage.
    """

    def __init__(self, before: int, width: int, kernel: int, stride: int, units: Sequence[Unit]) -> None:
        super().__init__()
        self.embedding = nn.Conv3d(before, width, kernel, stride=stride, padding=kernel // 2)
        self.embedding_norm = nn.LayerNorm(width)
        self.units = nn.ModuleList(units)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """The stage's tokens."""
        tokens: Tensor = self.embedding_norm(self.embedding(features).permute(0, 2, 3, 4, 1))
        for unit in self.units:
            tokens = unit(tokens)
        result: Tensor = self.norm(tokens)
        return result


def _check(
    widths: Sequence[int], heads: Sequence[int], *, depths: Sequence[int], reductions: Sequence[int], **numbers: int
) -> None:
    lists = {"widths": widths, "depths": depths, "heads": heads, "reductions": reductions}
    check_whole_numbers(_NAME, **lists, **numbers)
    for name, values in lists.items():
        if not isinstance(values, list | tuple):
            raise refused(_NAME, f"'{name}' is {values!r}.", "Give a list with one number a stage.")
    check_same_lengths(_NAME, lists)
    if any(w % h for w, h in zip(widths, heads, strict=True)):
        raise refused(_NAME, f"'widths' are {tuple(widths)}, 'heads' {tuple(heads)}.", "Give heads that divide them.")
