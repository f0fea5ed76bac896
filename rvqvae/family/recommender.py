"""Autoencoder of incomplete rows (AutoRec, Sedhain et al. 2015), which predicts what is missing.

Ours: a part of what was observed is hidden from the encoder in training (Vincent et al. 2008), as it has to
predict what it was not shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rvqvae.errors import InputError, check_number
from rvqvae.family.base import Autoencoder, Network
from rvqvae.family.regularised import mask


class Incomplete(Network):
    """NaN is missing: zero to the encoder, and no part of the error."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, bounded: bool, hidden_share: float) -> None:
        super().__init__(encoder, decoder, bounded)
        self.hidden_share = hidden_share

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x.nan_to_num(0))

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        shown = mask(x.nan_to_num(0), self.hidden_share, generator)
        observed = x.isfinite().sum().clamp_min(1)
        return {"loss": _errors(self.decode(self.encoder(shown)), x).sum() / observed}

    def score(self, x: Tensor) -> Tensor:
        return -_errors(self.reconstruct(x), x).sum(1) / x.isfinite().sum(1).clamp_min(1)


def _errors(predicted: Tensor, x: Tensor) -> Tensor:
    """(B, d) squared errors, zero where nothing was observed."""
    # The missing are filled before the subtraction: the gradient of NaN is NaN, even times zero.
    return (predicted - torch.where(x.isfinite(), x, predicted)).square()


@dataclass(repr=False, eq=False, kw_only=True)
class AutoRec(Autoencoder):
    """For matrices with NaN where nothing is known; `reconstruct` predicts every entry.

    Scale the values to about unit size first, and centre them: a missing value looks like zero.
    ``hidden_share`` of the observed values is kept from the encoder in training.
    """

    hidden_share: float = 0.5
    _finite: ClassVar[bool | str] = "allow-nan"

    def _network(self, shape: tuple[int, ...]) -> Network:
        if len(shape) != 1:
            raise InputError(f"samples of shape {shape} are images: AutoRec needs a matrix (N, d)")
        return Incomplete(*self._pair(shape), False, self.hidden_share)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number("hidden_share", self.hidden_share, 0, 0.99)
