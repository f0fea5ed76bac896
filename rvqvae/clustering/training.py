"""Information maximising self-augmented training of a perceptron."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rvqvae.clustering.augmentation import adversarial_direction, affine, neighbour_distances, unit_steps
from rvqvae.clustering.network import Perceptron, untouched_statistics
from rvqvae.clustering.objective import Code
from rvqvae.devices import bfloat16_pays, in_double
from rvqvae.errors import InputError
from rvqvae.optimization import Checkpoint, Loop, generator_of
from rvqvae.progress import OnEpoch

AUGMENTATIONS = ("vat", "rpt", "affine")
UNIT = 10.0
"""Mean distance to the t-th neighbour after scaling. MNIST in -1..1, for which the authors set the trial
step and the start of the network, has 9.998."""
READ = 4096
"""Samples that go through the network at a time once it is trained."""


class Settings(NamedTuple):
    """How to train; the defaults are the authors', but for the schedule of the learning rate."""

    augmentations: tuple[str, ...] = ("vat",)
    """Of "vat" (adversarial steps), "rpt" (random steps) and "affine" (images only)."""
    information: float = 0.1
    """Weight of the information against the self-augmentation (lambda)."""
    radius: float = 0.25
    """Length of a step over the distance to the neighbour."""
    neighbour: int = 10
    """Which neighbour, from 1."""
    epochs: int = 50
    batch_size: int = 250
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4


class Scale(NamedTuple):
    """The network's input: samples less their mean, in one unit for all columns."""

    mean: Tensor
    """(d,) float32."""
    factor: float

    def __call__(self, samples: Tensor) -> Tensor:
        """(B, ...) of any dtype to (B, d) float32."""
        return (samples.flatten(1).float() - self.mean) * self.factor


class Neighbourhood(NamedTuple):
    """How the network sees the training samples, and how far it may be moved from each."""

    scale: Scale
    distances: Tensor
    """(N,) float32 to the t-th neighbour; of mean `UNIT`."""


def neighbourhood(
    samples: Tensor,
    neighbour: int,
    distances: Tensor | None = None,
    progress: Callable[[int], object] | None = None,
) -> Neighbourhood:
    """Of samples (N, ...) of any dtype, whose ``distances`` (N,) are measured here unless they are given.

    Raises InputError if all samples are equal.
    """
    flat = samples.flatten(1)
    mean = torch.stack([part.float().mean(0) * len(part) for part in flat.split(READ)]).sum(0) / len(flat)
    if distances is None:
        distances = neighbour_distances(flat, neighbour, shift=mean, progress=progress)
    if not bool((flat != flat[:1]).any()) or not float(distances.mean()) > 0:
        raise InputError(
            f"all {len(flat)} samples are equal, or nearly: there is nothing to tell apart; give others"
        )
    factor = UNIT / float(distances.mean())
    return Neighbourhood(Scale(mean, factor), distances * factor)


def train(
    samples: Tensor,
    known: Neighbourhood,
    network: Perceptron,
    code: Code,
    settings: Settings,
    *,
    seed: int,
    directory: str | os.PathLike[str] | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[dict[str, float]]:
    """Fit ``network`` to samples (N, ...), uint8 images (N, C, H, W) where ``"affine"`` is asked for.

    Minimises ``augmentation - lambda * information``, where ``augmentation`` sums, over the kinds, how far
    each kind of step moves the predictions (Kullback-Leibler divergence). With a ``directory``, the same call
    goes on where one was cut short. ``on_epoch`` is called after each epoch. Leaves the network in
    evaluation mode, and returns the means of all epochs. InputError where the loss is not finite.
    """
    n = len(samples)
    batch = min(settings.batch_size, n)
    steps = n // batch
    loop = Loop(
        network.parameters(), steps * batch, epochs=settings.epochs, batch_size=batch,
        learning_rate=settings.learning_rate, weight_decay=settings.weight_decay, seed=seed,
    )  # fmt: skip
    generator, kind = torch.Generator(samples.device), samples.device.type
    kept = Checkpoint(directory, network, loop, samples, seed, code, settings)

    def predict(x: Tensor) -> Tensor:
        with torch.autocast(kind, torch.bfloat16, enabled=bfloat16_pays(kind)):
            return network(x).float()

    def loss_of(rows: Tensor) -> dict[str, Tensor]:
        # Within one outer context the weights are rounded once for all passes of a step.
        with torch.autocast(kind, enabled=False):
            return losses(rows)

    def losses(rows: Tensor) -> dict[str, Tensor]:
        rows = rows.to(samples.device)
        chosen = samples[rows]
        x = known.scale(chosen)
        logits = predict(x)
        length = settings.radius * known.distances[rows, None]
        moved = {}
        with untouched_statistics(network):
            for name in settings.augmentations:
                if name == "vat":
                    direction = adversarial_direction(predict, code.divergence, x, logits, generator)
                    other = x + length * direction
                elif name == "rpt":
                    other = x + length * unit_steps(x, generator)
                else:
                    other = known.scale(affine(chosen.float(), generator))
                moved[name] = code.divergence(logits.detach(), predict(other)).mean()
        terms = code.terms(logits)
        augmentation = sum(moved.values(), torch.zeros((), device=x.device))
        return {"loss": augmentation - settings.information * terms["information"], **terms, **moved}

    network.train()
    for epoch in range(len(kept.history), settings.epochs):
        generator.manual_seed(generator_of(seed, epoch, 1).initial_seed())
        # Batches of one size, as a small one says little of the marginal entropy, and one sample breaks
        # batch norm; who is left out changes with the epoch.
        order = torch.randperm(n, generator=generator_of(seed, epoch))[: steps * batch]
        for rows in order.split(batch):
            loop.step(loss_of(rows))
        terms = loop.means()
        kept.add(terms)
        if on_epoch is not None:
            on_epoch(epoch + 1, terms)
    network.eval()
    return kept.history


@torch.inference_mode()
def probabilities(samples: Tensor, scale: Scale, network: Perceptron, code: Code) -> Tensor:
    """(N, m) float32 of samples (N, ...), on the CPU."""
    precise = in_double(network)
    weight = next(precise.parameters())
    logits = [precise(scale(part.to(weight.device)).to(weight.dtype)) for part in samples.split(READ)]
    return torch.cat([code.probabilities(part).float().cpu() for part in logits])
