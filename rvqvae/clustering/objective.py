"""What IMSAT optimises: information between data and codes, and how far a perturbation moves a prediction.

Source: Hu, Miyato, Tokui, Matsumoto and Sugiyama 2017, "Learning discrete representations via information
maximizing self-augmented training" (ICML; arXiv 1702.08720). All in nats, from logits, over one batch.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-12
"""Probability below which a product of probabilities counts as zero."""


class Code(Protocol):
    """A discrete code Y of the data X, as logits (B, m) describe it."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, m)."""

    def divergence(self, logits: Tensor, moved: Tensor) -> Tensor:
        """(B,) KL[p(y | logits) || p(y | moved)] >= 0 of two (B, m)."""

    def terms(self, logits: Tensor) -> dict[str, Tensor]:
        """Scalars; ``"information"`` first, which is to be maximised, then what it consists of."""


class Clusters(NamedTuple):
    """Y is one of K clusters; maximises mu H(Y) - H(Y | X).

    mu = 1 is the mutual information. A larger mu makes the clusters equally large: it is the penalty form of
    the paper's KL[p(y) || uniform] <= delta (its eq. 11), with the authors' released value as the default.
    """

    balance: float = 4.0
    """mu."""

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)

    def divergence(self, logits: Tensor, moved: Tensor) -> Tensor:
        return F.kl_div(moved.log_softmax(1), logits.log_softmax(1), reduction="none", log_target=True).sum(1)

    def terms(self, logits: Tensor) -> dict[str, Tensor]:
        log_p = logits.log_softmax(1)
        conditional = -(log_p.exp() * log_p).sum(1).mean()
        marginal = _entropy(log_p.exp().mean(0))
        information = self.balance * marginal - conditional
        return {"information": information, "marginal_entropy": marginal, "conditional_entropy": conditional}


class Bits(NamedTuple):
    """Y is D bits, independent given X; maximises sum_d I(Y_d; X) - sum_{d != e} I(Y_d; Y_e).

    The expansion of I(Y_1, ..., Y_D; X) up to pairs (its section 2.3): informative bits, none of them twice.
    """

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def divergence(self, logits: Tensor, moved: Tensor) -> Tensor:
        p = logits.sigmoid()
        on, off = (F.logsigmoid(sign * logits) - F.logsigmoid(sign * moved) for sign in (1, -1))
        return (p * on + (1 - p) * off).sum(1)

    def terms(self, logits: Tensor) -> dict[str, Tensor]:
        p = logits.sigmoid()
        conditional = F.binary_cross_entropy_with_logits(logits, p, reduction="none").sum(1).mean()
        mean = p.mean(0)
        marginal = _entropy(mean) + _entropy(1 - mean)
        redundancy = pairwise_information(p).sum()
        return {
            "information": marginal - conditional - redundancy,
            "marginal_entropy": marginal,
            "conditional_entropy": conditional,
            "redundancy": redundancy,
        }


def pairwise_information(p: Tensor) -> Tensor:
    """(D, D) I(Y_d; Y_e) of bits whose probabilities are ``p`` (B, D), with zeros on the diagonal.

    The joint probabilities of a pair are the batch means of products, as the bits are independent given X.
    """
    on, mean = p.T @ p / len(p), p.mean(0)
    one, other = mean[:, None].expand_as(on), mean[None, :].expand_as(on)
    cells = (
        (on, one * other),
        (one - on, one * (1 - other)),
        (other - on, (1 - one) * other),
        (1 - one - other + on, (1 - one) * (1 - other)),
    )
    information = sum(
        joint.clamp_min(TINY) * (joint.clamp_min(TINY) / apart.clamp_min(TINY)).log()
        for joint, apart in cells
    )
    assert isinstance(information, Tensor)
    return information * (1 - torch.eye(len(mean), device=p.device))


def _entropy(p: Tensor) -> Tensor:
    """Sum of -p log p, with a finite slope at zero."""
    return torch.special.entr(p.clamp_min(TINY)).sum()
