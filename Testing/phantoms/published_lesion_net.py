"""Lesion-Net in the form in which it was published: PyTorch's own attention, channels first, interpolation first.

Written from its description, with the weights of ours, whose logits and speed are compared with it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokeseg.networks.lesion_net import LesionNet, Stage
from strokeseg.networks.lesion_net_unit import Unit


class PublishedUnit(nn.Module):
    """One unit, with the weights of `unit`: (N, width, x, y) to the same."""

    def __init__(self, unit: nn.Module) -> None:
        super().__init__()
        assert isinstance(unit, Unit)
        theirs = unit.attention
        width = theirs.output.in_features
        self.attention_norm, self.reduction, self.reduction_norm = (
            unit.attention_norm, theirs.reduction, theirs.reduction_norm
        )  # fmt: skip
        self.attention = nn.MultiheadAttention(width, theirs.heads, batch_first=True)
        self.attention.load_state_dict({
            "in_proj_weight": theirs.projection.weight, "in_proj_bias": theirs.projection.bias,
            "out_proj.weight": theirs.output.weight, "out_proj.bias": theirs.output.bias,
        })  # fmt: skip
        self.forward_norm = unit.forward_norm
        forward = unit.feed_forward
        self.feed_forward = nn.Sequential(forward.mix, forward.expand, nn.GELU(), forward.contract)

    def forward(self, features: Tensor) -> Tensor:
        """The unit's output."""
        normed = self.attention_norm(features)
        coarse = self.reduction_norm(self.reduction(normed))
        queries, keys = normed.flatten(2).transpose(1, 2), coarse.flatten(2).transpose(1, 2)
        mixed, _ = self.attention(queries, keys, keys)
        features = features + mixed.transpose(1, 2).reshape(features.shape)
        added: Tensor = self.feed_forward(self.forward_norm(features))
        return features + added


class PublishedLesionNet(nn.Module):
    """Slices (N, in_channels, x, y, 1) to logits (N, 1, x, y, 1), with the weights of `network`."""

    def __init__(self, network: LesionNet) -> None:
        super().__init__()
        self.stages = nn.ModuleList(map(_published_stage, network.stages))
        self.projections = network.projections
        self.fusion, self.fusion_norm, self.head = network.fusion, network.fusion_norm, network.head

    def forward(self, slices: Tensor) -> Tensor:
        """The logits."""
        features = slices.squeeze(4)
        found: list[Tensor] = []
        for stage in self.stages:
            features = stage(features)
            found.insert(0, features)
        maps = []
        for k, (project, seen) in enumerate(zip(self.projections, found, strict=True)):
            times = 2.0 ** (len(found) - k)
            maps.append(project(functional.interpolate(seen, scale_factor=times, mode="bilinear", align_corners=True)))
        fused = self.fusion_norm(functional.relu(self.fusion(torch.cat(maps, 1))))
        logits: Tensor = self.head(fused)
        return logits.unsqueeze(4)


def _published_stage(stage: nn.Module) -> nn.Module:
    assert isinstance(stage, Stage)
    return nn.Sequential(stage.embedding, stage.embedding_norm, *map(PublishedUnit, stage.units))


def train_norms(network: nn.Module, seed: int) -> None:
    """Give norms numbers as after a training, drawn from a seed: those of the beginning, 0 and 1, hide mistakes.

    Args:
        network: Its batch norms get statistics, they and its layer norms factors and offsets.
        seed: Of the numbers.
    """
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if not isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                continue
            module.weight.uniform_(0.5, 1.5, generator=drawn)
            module.bias.normal_(0.0, 0.2, generator=drawn)
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0.0, 0.2, generator=drawn)
                module.running_var.uniform_(0.05, 0.5, generator=drawn)
