"""Lesion-Net in the form in which it was published: PyTorch's own attention, channels first, interpolation first.

Written from its description, with the weights of ours. Speed is compared with it; nothing else uses it.
"""

import torch
from torch import nn
from torch.nn import functional


class PublishedUnit(nn.Module):
    """One unit, with the weights of `unit`: (N, width, x, y) to the same."""

    def __init__(self, unit):
        super().__init__()
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

    def forward(self, features):
        normed = self.attention_norm(features)
        coarse = self.reduction_norm(self.reduction(normed))
        queries, keys = normed.flatten(2).transpose(1, 2), coarse.flatten(2).transpose(1, 2)
        mixed, _ = self.attention(queries, keys, keys)
        features = features + mixed.transpose(1, 2).reshape(features.shape)
        return features + self.feed_forward(self.forward_norm(features))


class PublishedLesionNet(nn.Module):
    """Slices (N, in_channels, x, y, 1) to logits (N, 1, x, y, 1), with the weights of `network`, a `LesionNet`."""

    def __init__(self, network):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleList([stage.embedding, stage.embedding_norm, *map(PublishedUnit, stage.units)])
            for stage in network.stages
        )
        self.projections = network.projections
        self.fusion, self.fusion_norm, self.head = network.fusion, network.fusion_norm, network.head

    def forward(self, slices):
        features, found = slices.squeeze(4), []
        for embedding, norm, *units in self.stages:
            features = norm(embedding(features))
            for unit in units:
                features = unit(features)
            found.insert(0, features)
        maps = []
        for k, (project, seen) in enumerate(zip(self.projections, found, strict=True)):
            times = 2.0 ** (len(found) - k)
            maps.append(project(functional.interpolate(seen, scale_factor=times, mode="bilinear", align_corners=True)))
        return self.head(self.fusion_norm(functional.relu(self.fusion(torch.cat(maps, 1))))).unsqueeze(4)
