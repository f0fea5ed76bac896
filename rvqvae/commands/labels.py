"""Which labels are likely wrong, as columns of the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rvqvae.io.manifest import Row
from rvqvae.membership.labels import check_labels

MISLABELLED, OUTLYING = "likely mislabelled", "outlier of its class"


def label_issues(
    rows: Sequence[Row], vectors: NDArray[np.float32], given: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Fields to change, by index of ``rows``, whose images lie at ``vectors`` (N, d).

    If they were not ``given`` by the user, labels are names of folders, which need not be classes: they are
    checked only if images of one folder look alike.
    """
    names = sorted({row.label for row in rows if row.label})
    numbers = {name: number for number, name in enumerate(names)} | {"": -1}
    checked = check_labels(vectors, np.array([numbers[row.label] for row in rows]))
    if not given and not checked.telling:
        return
    for i, row in enumerate(rows):
        fields: dict[str, Any] = {"label_probability": float(checked.probability[i])}
        kind = OUTLYING if checked.outlying[i] else ""
        if checked.suggestion[i] >= 0:
            kind, fields["suggested_label"] = MISLABELLED, names[checked.suggestion[i]]
        if kind:
            fields["issues"] = "; ".join(filter(None, [row.issues, kind]))
        yield i, fields
