"""What a prior that draws one code after another gets wrong about wholes: a critic sees whole grids.

The residual energy-based model of Deng et al. 2020 (arXiv:2004.11714), of grids in place of texts: a network
learns to tell training grids from the prior's own draws (noise-contrastive estimation), so that its logit is
the log ratio of both densities; of several draws one is then taken by that ratio. Ours: its `POWER`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from rvqvae.optimization import Loop

if TYPE_CHECKING:
    from rvqvae.priors.pixelcnn import GatedPixelCNN

POWER = 2.0
"""Of the ratio by which one is taken: a critic that is kept from learning by heart is too careful."""
WIDTH, HIDDEN = 128, 64
PASSES, BATCH, RATE = 6, 64, 2e-3
MOST_DRAWN = 8192
"""Draws that it learns from at most; they go round."""


class Critic(nn.Module):
    """Logits (B,) of grids (B, h, w) being real rather than drawn, from ``codewords`` (n_codes, D)."""

    words: Tensor

    def __init__(self, codewords: Tensor) -> None:
        super().__init__()
        words = codewords.detach().float()
        self.register_buffer("words", (words - words.mean(0)) / words.std().clamp_min(1e-12))
        self.body = nn.Sequential(
            nn.Dropout2d(0.1),
            nn.Conv2d(words.shape[1], WIDTH, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GroupNorm(8, WIDTH),
            nn.SiLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1),
            nn.GroupNorm(8, WIDTH),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(16 * WIDTH, HIDDEN),
            nn.SiLU(),
            nn.Dropout(0.3),
            nn.Linear(HIDDEN, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        return self.body(self.words[codes].permute(0, 3, 1, 2)).squeeze(1)

    @torch.no_grad()
    def choose(self, codes: Tensor, choices: int, seed: int) -> Tensor:
        """One of every ``choices`` of ``codes`` (n * choices, h, w), by the ratio of densities: (n, h, w).

        The i-th depends on the seed and on its own choices alone. With one choice nothing changes.
        """
        logits = torch.cat([self(part) for part in codes.split(512)]).double().view(-1, choices)
        uniform = torch.from_numpy(np.random.default_rng([seed, 3]).random(logits.shape)).to(logits)
        gumbel = -(-uniform.clamp_min(1e-300).log()).log()
        best = (POWER * logits + gumbel).argmax(1)
        return codes.view(-1, choices, *codes.shape[1:])[torch.arange(len(best), device=codes.device), best]


def fit_critic(
    prior: GatedPixelCNN, codes: Tensor, codewords: Tensor, *, seed: int, weights: ArrayLike | None = None
) -> Critic:
    """A critic of ``prior``, in evaluation mode, from the grids (N, h, w) that the prior was fitted to.

    ``weights`` (N,) >= 0: how much each counts. The global random state is untouched.

    On 7,000 digits, 7 x 7 codes, 16 passes of the prior, 2,000 samples were .690 legible to a classifier, of
    Fréchet distance 182 and coverage .472; one of 8 by a critic, .776, 150 and .552. That took 44 CPU seconds
    to learn and 36 to draw, beside 70 for the prior. `POWER` is by distance and coverage: in a trial, where
    one draw gave .678, 190 and .455, and one of 8 .803, 148 and .567, distance and coverage with 1 were 158
    and .532; with the likeliest of the 8, 155 and .566. Longer, critics learn the training grids by heart.
    One of 16 by a critic that saw decoded images, shifted and turned, had 137 and .583, for longer training.
    """
    device = prior.embedding.weight.device
    codes = codes.to(device, torch.int64)
    importance = torch.ones(len(codes)) if weights is None else torch.as_tensor(weights).float().cpu()
    importance = (importance / importance.mean()).to(device)
    height, width = prior.grid_shape
    # Of another seed than samples will be: it must not know these by heart.
    own = int(np.random.SeedSequence([seed, 4]).generate_state(1)[0])
    drawn = prior.sample(min(len(codes), MOST_DRAWN), (height, width), seed=own)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        critic = Critic(codewords.cpu()).to(device).to(memory_format=torch.channels_last)
        loop = Loop(
            critic.parameters(), len(codes), epochs=PASSES, batch_size=BATCH, learning_rate=RATE, seed=seed,
            weight_decay=0.01, rise=0.3,
        )  # fmt: skip
        critic.train()
        for epoch in range(PASSES):
            for rows in loop.batches(epoch):
                others = drawn[(rows + epoch * len(codes)) % len(drawn)]
                real, made = critic(torch.cat([codes[rows], others])).chunk(2)
                loss = (importance[rows] * F.softplus(-real)).mean() + F.softplus(made).mean()
                loop.step({"loss": loss})
            loop.means()
    return critic.eval()
