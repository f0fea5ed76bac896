"""Batches and files that threads share out come back as one thread would give them."""

from concurrent.futures import ThreadPoolExecutor
from threading import current_thread
from time import sleep

import numpy as np
import pytest
import torch

from rvqvae.batches import AT_ONCE, map_batches
from rvqvae.features.pretrained import extract_features
from rvqvae.io.reading import CHUNK, _in_order


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_features_are_the_same_of_one_thread_and_of_more(threads):
    images = np.random.default_rng(0).integers(0, 256, (70, 1, 20, 20), dtype=np.uint8)
    threads(1)
    one = extract_features(images)
    for n in (2, AT_ONCE):
        threads(n)
        np.testing.assert_array_equal(extract_features(images), one)
        assert torch.get_num_threads() == n


def test_threads_share_out_the_batches(threads):
    threads(3 * AT_ONCE)
    seen = []

    def work(rows):
        sleep(0.01)
        seen.append((current_thread().name, torch.get_num_threads(), torch.is_inference_mode_enabled()))
        return (torch.arange(rows.start, rows.stop),)

    (rows,) = map_batches(101, 10, work)
    assert rows.tolist() == list(range(101))
    names, inner, inference = zip(*seen, strict=True)
    assert len(set(names)) == AT_ONCE and set(inner) == {3} and all(inference)


def test_an_error_ends_the_work(threads):
    threads(2)
    begun = []

    def work(rows):
        begun.append(rows)
        sleep(0.01)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        map_batches(1000, 1, work)
    assert len(begun) < 10 and torch.get_num_threads() == 2


@pytest.mark.parametrize("slow", [True, False])
def test_threads_read_slow_files_alone(slow, monkeypatch):
    monkeypatch.setattr("rvqvae.io.reading.QUICK", 0 if slow else np.inf)

    def name_of(i):
        return i, current_thread().name

    with ThreadPoolExecutor(2, "reader") as pool:
        found = list(_in_order(pool, name_of, range(8 * CHUNK)))
    assert [i for i, _ in found] == list(range(8 * CHUNK))
    names = {name for _, name in found[CHUNK:]}
    assert all(name.startswith("reader") for name in names) if slow else names == {current_thread().name}
