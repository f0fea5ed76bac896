"""One interface for the family of autoencoders: a network that says its loss, an estimator that trains it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rvqvae.devices import in_double, usable_device
from rvqvae.errors import InputError, check_number, check_whole
from rvqvae.estimator_base import OF_THIS_MACHINE, SampleEstimator
from rvqvae.family.networks import build_decoder, build_encoder
from rvqvae.io.samples import draw_seed, form_of, in_form
from rvqvae.model_folder import Stored
from rvqvae.optimization import Checkpoint, Loop, generator_of
from rvqvae.progress import Progress
from rvqvae.vqvae.networks import squared_error, to_float

BATCH = 512
"""Samples per forward pass outside of training: bounds the memory."""


class Network(nn.Module):
    """What a member of the family defines. This one is the plain autoencoder; others override its parts.

    ``bounded``: outputs pass through a sigmoid, as pixels lie in [0, 1]. The weights, and all else that a
    saved model needs, are parameters and buffers; constructors draw no numbers but through torch's
    initialisers, because a saved network is rebuilt without storage.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, bounded: bool) -> None:
        super().__init__()
        self.encoder, self.decoder, self.bounded = encoder, decoder, bounded

    def encode(self, x: Tensor) -> Tensor:
        """(B, *shape) float, pixels in [0, 1] -> (B, latent) float."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """(B, latent) -> (B, *shape) float."""
        out = self.decoder(z)
        return out.sigmoid() if self.bounded else out

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalar terms, "loss" first, for `Loop`. All randomness comes from ``generator``, of the CPU."""
        return {"loss": squared_error(x, self.decode(self.encode(x))).mean()}

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, *shape)."""
        return self.decode(self.encode(x))

    def score(self, x: Tensor) -> Tensor:
        """(B,) higher = more normal: minus the mean squared error."""
        return -squared_error(x, self.reconstruct(x))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, *shape) new samples, of members that have a distribution."""
        raise InputError(f"{type(self).__name__} has no distribution to sample from: use VAE or BiGAN")

    def before_epoch(self, number: int, data: Tensor, generator: torch.Generator) -> None:
        """Called before epoch ``number`` (from 0) with the training data, uint8 (N,C,H,W) or float (N,d)."""


class RelativeNetwork(Network):
    """Its error is a share of the data's variance, which is measured before the first epoch."""

    variance: Tensor

    def __init__(self, encoder: nn.Module, decoder: nn.Module, bounded: bool) -> None:
        super().__init__(encoder, decoder, bounded)
        self.register_buffer("variance", torch.ones(()))

    def relative_error(self, x: Tensor, output: Tensor) -> Tensor:
        """Scalar."""
        return squared_error(x, output).mean() / self.variance

    def before_epoch(self, number: int, data: Tensor, generator: torch.Generator) -> None:
        if number == 0:
            # Constant data have no variance to measure the error by.
            self.variance.fill_(max(float(to_float(data).var()), 1e-8))


@dataclass(repr=False, eq=False, kw_only=True)
class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SampleEstimator):
    """Plain autoencoder, and the base of the family: squared error through ``latent_dim`` numbers.

    Members are keyword-only dataclasses, which is all that scikit-learn asks of a constructor; they
    override `_network` and add their own fields.

    A trained network is evaluated in float64, so that batch, order and processor move no score, code or
    pixel by more than 1e-6 of its size. PyTorch's float32 would.

    Parameters
    ----------
    latent_dim : width of the code.
    hidden : widths of the encoder's layers; the decoder mirrors them. () is linear up to the sigmoid.
    channels : width of convolutions in place of the perceptron; None for the perceptron. Images only.
    epochs, batch_size, learning_rate : of the training, see `Loop`.
    random_state : int, RandomState instance or None.
    device : where the network runs; by default "cuda" if there is one, else "cpu".
    directory : where the training is kept after every epoch; the same fit goes on from there.
    progress : called with "train", epochs done and epochs in all.

    Attributes
    ----------
    network_ : the trained `Network`; history_ : list of dict, the terms of every epoch.
    """

    latent_dim: int = 32
    hidden: tuple[int, ...] = (512, 256)
    channels: int | None = None
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    random_state: int | np.random.RandomState | None = None
    device: str | None = None
    directory: str | os.PathLike[str] | None = None
    progress: Progress | None = None

    def _network(self, shape: tuple[int, ...]) -> Network:
        """For samples of ``shape``, (C, H, W) or (d,)."""
        return Network(*self._pair(shape), bounded=len(shape) == 3)

    def _pair(self, shape: tuple[int, ...], outputs: int | None = None) -> tuple[nn.Module, nn.Module]:
        """Encoder to ``outputs`` numbers, by default the code, and decoder from the code."""
        encoder = build_encoder(shape, outputs or self.latent_dim, self.hidden, self.channels)
        return encoder, build_decoder(shape, self.latent_dim, self.hidden, self.channels)

    def _loop(self, network: Network, n: int, seed: int) -> Loop:
        return Loop(
            network.parameters(), n, epochs=self.epochs, batch_size=self.batch_size,
            learning_rate=self.learning_rate, seed=seed,
        )  # fmt: skip

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn from uint8 images (N,H,W), (N,H,W,3) or (N,1|3,H,W), or a float matrix (N, d); no labels."""
        self._check_parameters()
        device, seed = usable_device(self.device), draw_seed(self.random_state)
        data = torch.as_tensor(self._samples(X, reset=True))
        with torch.random.fork_rng([device] if device.startswith("cuda") else []):
            torch.manual_seed(seed)
            network = self._network(self.shape_).to(device)
            self.history_ = self._train(network.train(), data, seed)
        self.network_ = network.eval()
        return self

    def _train(self, network: Network, data: Tensor, seed: int) -> list[dict[str, float]]:
        loop = self._loop(network, len(data), seed)
        device = next(network.parameters()).device
        settings = {k: v for k, v in self.get_params().items() if k not in ("random_state", *OF_THIS_MACHINE)}
        kept = Checkpoint(self.directory, network, loop, data, type(self).__name__, seed, settings)
        for number in range(len(kept.history), self.epochs):
            noise = generator_of(seed, number, 1)
            network.before_epoch(number, data, noise)
            for rows in loop.batches(number):
                loop.step(network.losses(to_float(data[rows].to(device)), noise))
            kept.add(loop.means())
            if self.progress is not None:
                self.progress("train", number + 1, self.epochs)
        return kept.history

    def encode(self, X: ArrayLike) -> NDArray[np.float32]:
        """(N, latent_dim) codes."""
        check_is_fitted(self)
        return self._mapped(X, lambda network, x: network.encode(x)).astype(np.float32)

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """`encode`, as scikit-learn calls it."""
        return self.encode(X)

    def reconstruct(self, X: ArrayLike) -> NDArray[Any]:
        """Each sample through its code, in the layout and dtype of ``X``."""
        check_is_fitted(self)
        return in_form(_as_data(self._mapped(X, lambda network, x: network.reconstruct(x))), *form_of(X))

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """(N,) float64, higher = more normal; see the network's ``score``."""
        check_is_fitted(self)
        return self._mapped(X, lambda network, x: network.score(x)).astype(np.float64)

    def sample(self, n: int, random_state: int | np.random.RandomState | None = None) -> NDArray[Any]:
        """``n`` new samples, in the layout and dtype of the training data; not every member can."""
        check_is_fitted(self)
        generator = generator_of(draw_seed(random_state), 2)
        with torch.inference_mode():
            drawn = in_double(self.network_).draw(check_whole("n", n), generator).cpu().numpy()
        return in_form(_as_data(drawn), self.layout_, self.dtype_)

    def _stored(self) -> Stored:
        return Stored(self.network_.state_dict(), {})

    def _restore(self, stored: Stored, device: str) -> None:
        with torch.device("meta"):
            network = self._network(self.shape_)
        network.load_state_dict(stored.arrays, assign=True)
        self.network_ = network.to(device).eval()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim

    def _mapped(self, X: ArrayLike, function: Callable[[Any, Tensor], Tensor]) -> NDArray[Any]:
        """``function`` of the network and the samples, batch by batch, in float64."""
        samples, network = self._samples(X), in_double(self.network_)
        with torch.inference_mode():
            parts = [function(network, x).cpu().numpy() for x in batches(samples, network)]
        return np.concatenate(parts)

    def _check_parameters(self) -> None:
        for name in ("latent_dim", "epochs", "batch_size"):
            check_whole(name, getattr(self, name))
        for width in self.hidden:
            check_whole("hidden", width)
        check_number("learning_rate", self.learning_rate, 0, 1, above=True)


def batches(samples: NDArray[Any], network: nn.Module) -> Iterator[Tensor]:
    """uint8 (N,C,H,W) or float (N,d) as batches where ``network`` lies, in its precision."""
    weight = next(network.parameters())
    for begin in range(0, len(samples), BATCH):
        # A copy, as the samples may be a read-only map of a file.
        yield to_float(torch.as_tensor(np.array(samples[begin : begin + BATCH]))).to(weight)


def _as_data(samples: NDArray[Any]) -> NDArray[Any]:
    """Images (N, C, H, W) in [0, 1] -> uint8; vectors pass through."""
    if samples.ndim != 4:
        return samples
    return (samples.clip(0, 1) * 255).round().astype(np.uint8)
