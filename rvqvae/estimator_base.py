"""The base of all estimators: what samples they take, and how they are saved."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from rvqvae.devices import usable_device
from rvqvae.errors import InputError
from rvqvae.io.arrays import as_nchw
from rvqvae.io.samples import are_images, as_python, check_values, form_of
from rvqvae.model_card import Card, write_card
from rvqvae.model_folder import Stored, complete, read_model, write_model

OF_THIS_MACHINE = ("device", "directory", "progress")
"""Parameters that are not saved."""


class SampleEstimator(BaseEstimator):
    """Takes uint8 images (N,H,W), (N,H,W,3) or (N,1|3,H,W), or a float matrix (N, d).

    Subclasses call `_samples` with ``reset=True`` in ``fit``, and say in `_stored` and `_restore` what they
    learned. A class that does not keep it in ``network_`` overrides ``__sklearn_is_fitted__``.

    Attributes
    ----------
    shape_ : (C, H, W) or (d,), of a sample; layout_, dtype_ : the form of the training data.
    metadata_ : dict, what was saved with the model.
    """

    _finite: ClassVar[bool | str] = True
    """Whether every value of a matrix must be finite, in the words of scikit-learn."""

    def save(self, path: str | os.PathLike[str], metadata: dict[str, Any] | None = None) -> None:
        """Write the folder ``path``: safetensors and JSON, and README.md, which says what the model is.

        ``metadata`` (plain values) comes back with it.
        """
        check_is_fitted(self)
        params = {k: _plain(v) for k, v in self.get_params().items() if k not in OF_THIS_MACHINE}
        arrays, fitted = self._stored()
        facts = {
            "estimator": type(self).__name__,
            "params": {k: v for k, v in params.items() if isinstance(v, str | int | float | list | None)},
            "shape": list(self.shape_),
            "layout": self.layout_,
            "dtype": self.dtype_,
            "columns": list(getattr(self, "feature_names_in_", [])),
            "metadata": getattr(self, "metadata_", {}) | (metadata or {}),
            "fitted": fitted,
        }
        write_model(Path(path), Stored(arrays, facts))
        write_card(Path(path), self._card())

    def _card(self) -> Card:
        """What README.md says: the name, the first line of the documentation, the parameters."""
        room, name = type(self).__module__.rpartition(".")[0], type(self).__name__
        params = {k: v for k, v in self.get_params().items() if k not in OF_THIS_MACHINE}
        what = (type(self).__doc__ or name).partition("\n")[0]
        return Card(f"{room}.{name}" if room else name, what, self.shape_, {}, params)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | None = None) -> Self:
        """The model that `save` of the same class wrote. The history is not kept with it."""
        path, usable = Path(path), usable_device(device)
        arrays, facts = read_model(path)
        if (name := facts.get("estimator")) != cls.__name__:
            raise InputError(f"{path} holds a {name!r}, not a {cls.__name__}: load it with its own class")
        with complete(path):
            params = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["params"].items()}
            model = cls(**params, device=device)
            model._check_parameters()
            model.shape_ = tuple(facts["shape"])
            if not model.shape_ or not all(type(side) is int and side > 0 for side in model.shape_):
                raise ValueError(f"shape {model.shape_}")
            model.layout_, model.dtype_ = str(facts["layout"]), np.dtype(facts["dtype"]).name
            if (model.layout_ == "vectors") != (len(model.shape_) == 1):
                raise ValueError(f"layout {model.layout_!r}")
            model.n_features_in_ = prod(model.shape_)
            if columns := list(map(str, facts["columns"])):
                if len(columns) != model.n_features_in_:
                    raise ValueError(f"{len(columns)} columns")
                model.feature_names_in_ = np.array(columns, object)
            model.metadata_ = dict(facts["metadata"])
            model._restore(Stored(arrays, dict(facts["fitted"])), usable)
        return model

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def _stored(self) -> Stored:
        """What was learned."""
        raise NotImplementedError

    def _restore(self, stored: Stored, device: str) -> None:
        """Take up what `_stored` gave; parameters and ``shape_`` are set. Raises any error if it is damaged.

        What the facts claim must cost no memory before the arrays have been seen to be there.
        """
        raise NotImplementedError

    def _check_parameters(self) -> None:
        """InputError for a parameter that is out of range."""

    def _samples(self, X: ArrayLike, reset: bool = False) -> NDArray[Any]:
        """As uint8 (N,C,H,W) or float32 (N,d), of the shape that the model was trained on."""
        samples: NDArray[Any] = as_nchw(X) if are_images(X) else self._vectors(X, reset)
        if reset:
            if len(samples) < 2:
                raise InputError(f"{len(samples)} sample is too few to fit: give at least 2")
            self.layout_, self.dtype_ = form_of(X)
            self.shape_: tuple[int, ...] = samples.shape[1:]
            self.n_features_in_ = prod(self.shape_)
            self.metadata_: dict[str, Any] = {}
            # torch warns of arrays that it may not write to.
            return np.require(samples, requirements="W")
        if samples.shape[1:] != self.shape_:
            raise InputError(
                f"samples of shape {samples.shape[1:]} do not fit this model, which was trained on "
                f"{self.shape_}: resize or convert them"
            )
        return samples

    def _vectors(self, X: ArrayLike, reset: bool) -> NDArray[np.float32]:
        if not reset and self.layout_ != "vectors":
            raise InputError(f"this model was trained on images of shape {self.shape_}: give images")
        kinds = [np.float64, np.float32]
        vectors = validate_data(
            self, X, dtype=kinds, reset=reset, ensure_min_samples=2 if reset else 1,
            ensure_all_finite=self._finite,
        )  # fmt: skip
        check_values(vectors)
        return np.asarray(vectors, np.float32)


def _plain(value: Any) -> Any:
    """As JSON would give it back."""
    return list(map(as_python, value)) if isinstance(value, tuple | list) else as_python(value)
