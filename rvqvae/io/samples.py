"""Samples and seeds as estimators take them: what an array of images is, and in which form it goes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral
from os import PathLike
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils import check_random_state

from rvqvae.errors import InputError
from rvqvae.io.arrays import from_nchw, layout_of

MAX_VALUE = 1e15
"""In a matrix of features: the squares of larger values leave the range of float32."""


def are_images(X: ArrayLike) -> bool:
    """Whether ``X`` is an array of images, or a list or Series of them; InputError for names of files."""
    if isinstance(X, str | bytes | PathLike):
        raise _no_samples(X)
    if isinstance(X, Iterator) or (isinstance(X, dict) and not issparse(X)):
        raise InputError(f"samples are a {type(X).__name__}: give an array or a list")
    if isinstance(X, list | tuple) or getattr(X, "ndim", 2) == 1:
        first = next(iter(cast(Iterable[Any], X)), None)
        if isinstance(first, str | bytes | PathLike):
            raise _no_samples(first)
        return first is not None and np.ndim(first) in (2, 3)
    values: Any = getattr(X, "values", X)  # Of a table, such as one with a column of paths.
    if getattr(values, "dtype", None) is not None and values.dtype.kind in "OUST":
        names = (value for value in np.ravel(np.asarray(values, object)) if isinstance(value, str | PathLike))
        if (name := next(names, None)) is not None:
            raise _no_samples(name)
    return getattr(X, "ndim", 2) in (3, 4)


def _no_samples(name: object) -> InputError:
    return InputError(
        f"{str(name)!r} is a name, not an image: read the files first, rvqvae.load_images('FOLDER').images"
    )


def check_values(vectors: NDArray[Any]) -> None:
    """InputError for a value above MAX_VALUE; NaN is left alone."""
    if (largest := np.nanmax(np.abs(vectors), initial=0)) > MAX_VALUE:
        raise InputError(f"a value of {largest:.2g} is out of range: scale the columns below {MAX_VALUE:g}")


def form_of(X: ArrayLike) -> tuple[str, str]:
    """Layout and dtype in which samples are given back."""
    if are_images(X):
        return layout_of(X), "uint8"
    dtype = np.asarray(X).dtype
    return "vectors", dtype.name if dtype.kind == "f" else "float64"


def in_form(samples: NDArray[Any], layout: str, dtype: str) -> NDArray[Any]:
    return samples.astype(dtype) if layout == "vectors" else from_nchw(samples, layout)  # type: ignore[arg-type]


def draw_seed(random_state: int | np.random.RandomState | None) -> int:
    if not isinstance(random_state, Integral):
        return int(check_random_state(random_state).randint(2**31 - 1))
    if not 0 <= random_state < 2**31:
        raise InputError(f"random_state={random_state} is out of range: it must be from 0 to 2**31 - 1")
    return int(random_state)


def as_python(value: Any) -> Any:
    """numpy's numbers, which a grid search gives, as Python's."""
    return value.item() if isinstance(value, np.generic) else value
