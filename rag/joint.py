"""The checker's trained model, as a torch module: the upper half of the encoder, reading claim and window together.

The lower half has read each of them alone (`rag.tokens`); here every token of the claim meets every token of the
window, beside what `rag.align` says of them. Used for training and for the conversion to OpenVINO, never to answer.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from rag.align import FLAGS, TOKEN_FEATURES

JOINT_LAYERS = 3
TOP = 3
"""The worst tokens of a claim, whose logits the verdict sees one by one."""
FAR = 1e4


class Joint(nn.Module):
    """(claim, window) -> how likely the window supports the claim, and how likely each of its tokens is at fault.

    `forward` takes the arrays of `rag.align.stacked` and gives logits: (pairs,) above 0 where the claim is supported,
    and (pairs, tokens) above 0 where a token is not.
    """

    def __init__(self, encoder: Path) -> None:
        """The upper layers of an encoder in the hub's layout, and new heads. All are trained."""
        super().__init__()
        from transformers import AutoModel

        base = AutoModel.from_pretrained(encoder, local_files_only=True, attn_implementation="eager")
        dim = base.config.hidden_size
        self.layers = nn.ModuleList(list(base.encoder.layer)[-JOINT_LAYERS:])
        self.segment, self.flag = nn.Embedding(2, dim), nn.Embedding(2 * FLAGS, dim)
        self.features = nn.Linear(TOKEN_FEATURES, dim)
        # As large as the states they are added to, or matches would be learned slowly.
        for module, scale in ((self.segment, 0.02), (self.flag, 0.2), (self.features, 0.2)):
            nn.init.normal_(module.weight, std=scale)
        nn.init.zeros_(self.features.bias)
        self.token = nn.Sequential(nn.Linear(dim + TOKEN_FEATURES, 96), nn.GELU(), nn.Linear(96, 1))
        inputs = 2 * dim + TOP + 2 * TOKEN_FEATURES + 2
        self.verdict = nn.Sequential(nn.Linear(inputs, 128), nn.GELU(), nn.Dropout(0.1), nn.Linear(128, 1))

    def forward(
        self, states: Tensor, segment: Tensor, flag: Tensor, mask: Tensor, claim: Tensor, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        hidden = states + self.segment(segment) + self.flag(flag + FLAGS * segment) + self.features(features)
        attention = ((mask - 1) * FAR)[:, None, None, :]
        for layer in self.layers:
            out = layer(hidden, attention_mask=attention)
            hidden = out[0] if isinstance(out, tuple) else out
        tokens = self.token(torch.cat([hidden, features], -1)).squeeze(-1)
        elsewhere = (1 - claim) * FAR
        worst = (tokens - elsewhere).topk(TOP, 1).values.clamp(min=-20)
        peak = (hidden - elsewhere[..., None]).amax(1).clamp(min=-50)
        count = claim.sum(1, keepdim=True)
        mean = (features * claim[..., None]).sum(1) / count
        least = (features + elsewhere[..., None]).amin(1)
        average = (tokens * claim).sum(1, keepdim=True) / count
        seen = torch.cat([hidden[:, 0], peak, worst, mean, least, average, torch.log(count)], 1)
        return self.verdict(seen).squeeze(-1), tokens
