"""The index against brute force over decoded vectors; what it stores; what it refuses."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.base import clone

from rvqvae.errors import InputError
from rvqvae.retrieval import ProductIndex, scan


def vectors(n, dim=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def filled(n=300, m=4, k=16, dim=8, seed=0) -> ProductIndex:
    return (
        ProductIndex(m, k, random_state=seed)
        .fit(vectors(max(n, k), dim, seed))
        .add(vectors(n, dim, seed + 1))
    )


def brute_force(index, queries, k, symmetric):
    """Distances to decoded vectors, and the first k by distance, then position."""
    stored = index.inverse_transform(index.codes_).astype(np.float64)
    seen = index.inverse_transform(index.transform(queries)) if symmetric else queries
    distances = np.array([[np.square(s - q).sum() for s in stored] for q in seen.astype(np.float64)])
    order = np.array(
        [sorted(range(len(stored)), key=lambda i: (round(row[i], 9), i))[:k] for row in distances]
    )
    return distances, order


@pytest.mark.parametrize("mode", ["asymmetric", "symmetric"])
@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 150), q=st.integers(1, 40), m=st.sampled_from([1, 2, 4, 8]), seed=st.integers(0, 10**6)
)
def test_distances_and_neighbours_equal_brute_force(mode, n, q, m, seed):
    index, queries = filled(n, m, 7, seed=seed), vectors(q, seed=seed + 2)
    k = 1 + seed % n
    expected, order = brute_force(index, queries, k, mode == "symmetric")
    np.testing.assert_allclose(index.distances(queries, mode), expected, rtol=1e-9, atol=1e-9)
    distances, ids = index.kneighbors(queries, k, mode)
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(distances, np.take_along_axis(expected, order, 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("m", [1, 3, 4])
@pytest.mark.parametrize("q", [1, 2, 40])
@pytest.mark.parametrize("k", [1, 10, 400])
def test_blocks_change_nothing(monkeypatch, m, q, k):
    index, queries = filled(2000, m, 5, dim=12), vectors(q, 12, 9)
    expected = index.kneighbors(queries, k)
    monkeypatch.setattr(scan, "BLOCK", 100)
    monkeypatch.setattr(scan, "LONG", 333)
    for one, other in zip(index.kneighbors(queries, k), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pairs_of_codes_and_single_ones_find_the_same(monkeypatch):
    index, queries = filled(3000, 4, 16), vectors(5, seed=7)
    alone = [index.kneighbors(queries[i : i + 1], 20) for i in range(5)]
    monkeypatch.setattr(scan, "LONG", 500)
    for i, expected in enumerate(alone):
        for one, other in zip(index.kneighbors(queries[i : i + 1], 20), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_many_equal_codes_come_in_the_order_of_adding():
    index = ProductIndex(2, 4, random_state=0).fit(vectors(50))
    index.add(np.repeat(vectors(1, seed=3), 500, 0))
    distances, ids = index.kneighbors(vectors(3, seed=4), 70)
    np.testing.assert_array_equal(ids, np.tile(np.arange(70), (3, 1)))
    assert (distances == distances[:, :1]).all()


def test_symmetric_tables_and_their_diagonal():
    tables = filled().tables_
    np.testing.assert_array_equal(tables, tables.transpose(0, 2, 1))
    assert (tables.diagonal(axis1=1, axis2=2) == 0).all() and tables.shape == (4, 16, 16)


def test_what_is_stored_is_at_symmetric_distance_zero_from_itself():
    index, x = filled(), vectors(300, seed=1)
    distances = index.distances(x[:20], "symmetric")
    assert (np.diag(distances) == 0).all() and len(np.unique(index.distances(x[:20]))) > 1000


def test_more_bytes_find_more_true_neighbours_and_fitting_helps():
    x, queries = vectors(2000, 16), vectors(50, 16, 5)
    true = np.argsort(((queries[:, None] - x) ** 2).sum(2), 1)[:, :10]
    share = []
    for m in (1, 4, 16):
        found = ProductIndex(m, 64, random_state=0).fit(x).add(x).kneighbors(queries, return_distance=False)
        share.append(np.mean([np.isin(t, f).mean() for t, f in zip(true, found, strict=True)]))
    assert share[0] < share[1] < share[2] > 0.8
    error = [np.square(i.inverse_transform(i.transform(x)) - x).mean()
             for i in (ProductIndex(4, 64, max_iter=n, random_state=0).fit(x) for n in (1, 25))]  # fmt: skip
    assert error[1] < error[0]


def test_adding_in_parts_is_adding_at_once_and_ids_are_reported():
    x = vectors(100, seed=1)
    whole, parts = filled(100), filled(100)
    parts.fit(vectors(100))
    assert len(parts) == 0
    parts.add(x[:1]).add(x[1:33]).add(x[33:])
    np.testing.assert_array_equal(whole.codes_, parts.codes_)
    named = clone(whole).fit(vectors(100)).add(x, ids=np.arange(100) * 7 - 50)
    ids = whole.kneighbors(x[:9], 5, return_distance=False)
    np.testing.assert_array_equal(named.kneighbors(x[:9], 5, return_distance=False), ids * 7 - 50)
    assert whole.codes_.dtype == np.uint8 and whole.codes_.nbytes == 400


def test_a_seed_repeats_and_another_differs():
    one, same, other = (ProductIndex(4, 16, random_state=s).fit(vectors(2000)).codebooks_ for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_constant_part_is_no_error():
    x = vectors(50)
    x[:, :2] = 3
    index = ProductIndex(4, 16, random_state=0).fit(x).add(x)
    assert (index.codes_[:, 0] == index.codes_[0, 0]).all()
    np.testing.assert_allclose(index.inverse_transform(index.codes_)[:, :2], 3)


def test_codebooks_from_elsewhere():
    index = filled()
    again = ProductIndex.from_codebooks(index.codebooks_).add(vectors(300, seed=1))
    np.testing.assert_array_equal(again.codes_, index.codes_)
    assert again.get_params() | {"random_state": 0} == index.get_params()


def test_save_and_load(tmp_path):
    index, queries = filled(), vectors(6, seed=9)
    index.save(tmp_path / "a.index")
    loaded = ProductIndex.load(tmp_path / "a.index")
    for mode in ("asymmetric", "symmetric"):
        for one, other in zip(
            index.kneighbors(queries, 5, mode), loaded.kneighbors(queries, 5, mode), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert len(loaded.add(queries)) == 306 and len(index) == 300
    assert loaded.get_params() == index.get_params() | {"random_state": None}
    assert [p.name for p in tmp_path.iterdir()] == ["a.index"]
    empty = ProductIndex.from_codebooks(index.codebooks_)
    empty.save(tmp_path / "b.index")
    assert len(ProductIndex.load(tmp_path / "b.index")) == 0


@pytest.mark.parametrize(
    "change, match",
    [
        ({"codes": np.zeros((300, 3), np.uint8)}, "codes of shape"),
        ({"codes": np.full((300, 4), 16, np.uint8)}, "codes of shape"),
        ({"codes": np.zeros((300, 4), np.int32)}, "int32"),
        ({"ids": np.zeros(299, np.int64)}, "299 ids"),
        ({"ids": np.zeros((300, 1), np.int64)}, "300 ids"),
        ({"codebooks": np.full((4, 16, 2), np.nan, np.float32)}, "not finite"),
        ({"codebooks": np.zeros((4, 300, 2), np.float32)}, "n_codewords=300"),
        ({"codebooks": np.zeros((4, 16), np.float32)}, r"\(4, 16\)"),
        ({"metadata": {}}, "product_index"),
        ({"metadata": {"product_index": "{"}}, "JSON"),
        ({"metadata": {"product_index": '{"format": 99, "max_iter": 1}'}}, "99"),
        ({"metadata": {"product_index": '{"format": 1, "max_iter": "x"}'}}, "int"),
        ({"metadata": {"product_index": '{"format": 1, "max_iter": 0}'}}, "max_iter=0"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_together_is_refused(tmp_path, change, match):
    index = filled()
    index.save(tmp_path / "a")
    arrays = load_file(tmp_path / "a")
    metadata = change.get("metadata", {"product_index": json.dumps({"format": 1, "max_iter": 25})})
    save_file(arrays | {k: v for k, v in change.items() if k != "metadata"}, tmp_path / "b", metadata)
    with pytest.raises(InputError, match=match):
        ProductIndex.load(tmp_path / "b")


def test_damaged_and_missing_files_are_refused(tmp_path):
    filled().save(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    for name, broken in (
        ("cut", content[:-1]),
        ("short", content[:5]),
        ("empty", b""),
        ("pickle", b"\x80\x04."),
    ):
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(InputError, match="not a complete index"):
            ProductIndex.load(tmp_path / name)
    with pytest.raises(InputError, match="is not a file"):
        ProductIndex.load(tmp_path)


def test_bad_input_names_value_limit_and_remedy():
    index, x = filled(), vectors(20)
    cases = [
        (lambda: ProductIndex(3).fit(vectors(300)), "8 dimensions cannot be cut into 3 equal parts"),
        (lambda: ProductIndex(4).fit(x), "20 vectors are too few for n_codewords=256"),
        (lambda: ProductIndex(4, 8).fit(np.ones((20, 8))), "all 20 vectors are equal"),
        (lambda: ProductIndex(0).fit(x), "n_codebooks=0.*from 1 to 1024"),
        (lambda: ProductIndex(4, 257).fit(x), "n_codewords=257.*from 2 to 256"),
        (lambda: ProductIndex(4, 8.5).fit(x), r"n_codewords=8\.5"),
        (lambda: ProductIndex(4, 8).fit(x * 1e20), "out of range: scale the columns"),
        (lambda: ProductIndex(4, 8).fit(x).kneighbors(x), "the index is empty: add"),
        (lambda: index.kneighbors(x, 301), "n_neighbors=301, but the index holds 300"),
        (lambda: index.kneighbors(x, 0), "n_neighbors=0"),
        (lambda: index.kneighbors(x, 5, "both"), "mode='both'.*'asymmetric' or 'symmetric'"),
        (lambda: index.kneighbors(vectors(3, 9)), "9 features"),
        (lambda: index.kneighbors(x[0]), "1D array"),
        (lambda: index.add(np.where(x > 1, np.nan, x)), "NaN"),
        (lambda: index.add(x, ids=[1, 2]), r"ids are int64 \(2,\): give \(20,\)"),
        (lambda: index.add(x, ids=np.ones(20)), "ids are float64"),
        (lambda: index.inverse_transform([[0, 1]]), r"give \(N, 4\) integers"),
        (lambda: index.inverse_transform([[0, 1, 2, 16]]), "from 0 to 16: each must be from 0 to 15"),
        (lambda: ProductIndex.from_codebooks(np.zeros((2, 3))), r"shape \(2, 3\)"),
    ]
    for call, match in cases:
        with pytest.raises(ValueError, match=match):
            call()
    assert len(index) == 300
