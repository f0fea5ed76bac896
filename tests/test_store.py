"""A model's folder: what is saved comes back, and nothing else is believed."""

import hashlib
import json
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from data.recipes import load as load_data
from rvqvae import RobustVQVAE, contaminate
from rvqvae.clustering import IMSAT
from rvqvae.errors import InputError
from rvqvae.model_card import NAME as CARD
from rvqvae.model_folder import ARRAYS, FACTS, FORMAT, NEXT


def quick(**changes):
    return RobustVQVAE(**({"epochs": 1, "prior_epochs": 1, "random_state": 0, "channels": 8} | changes))


def rows(n=120, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.fixture(scope="module")
def images():
    """200 digits and clothes, 20 % clothes."""
    digits, clothes = (load_data(name)[0] for name in ("mnist", "fashion_mnist"))
    return contaminate(digits[:, None], clothes[:, None], 0.2, 0, total=200).images[:, 0]


@pytest.fixture(scope="module")
def vectors():
    model = quick(contamination=0.1).fit(rows())
    assert model.fit_prior()
    return model


@pytest.fixture(scope="module")
def saved(vectors, tmp_path_factory):
    """A folder that no test changes."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    vectors.save(folder, {"size": [28, 28]})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it to spoil."""
    return shutil.copytree(saved, tmp_path / "model")


def assert_same(model, loaded, x):
    assert np.array_equal(loaded.score_samples(x), model.score_samples(x))
    assert np.array_equal(loaded.predict(x), model.predict(x))
    assert np.array_equal(loaded.reconstruct(x), model.reconstruct(x))
    assert loaded.reconstruct(x).dtype == model.reconstruct(x).dtype
    for name in ("contamination_", "contamination_interval_", "verdict_", "offset_", "n_features_in_"):
        assert getattr(loaded, name) == getattr(model, name)


def rewrite(folder, change):
    """``change`` the tensors and facts of a model, keeping the two files in step."""
    tensors, facts = load((folder / ARRAYS).read_bytes()), json.loads((folder / FACTS).read_text())
    change(tensors, facts)
    arrays = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    facts["sha256"] = hashlib.sha256(arrays).hexdigest()
    (folder / ARRAYS).write_bytes(arrays)
    (folder / FACTS).write_text(json.dumps(facts))


# round trip --------------------------------------------------------------------------------------------


def test_vectors_come_back(vectors, saved):
    loaded = RobustVQVAE.load(saved)
    assert_same(vectors, loaded, rows(seed=1))
    assert loaded.reconstruct(rows()).dtype == np.float64
    assert np.array_equal(loaded.sample(5), vectors.sample(5)) and loaded.sample(5).dtype == np.float64
    assert loaded.metadata_ == {"size": [28, 28]}
    kept = {name: v for name, v in loaded.get_params().items() if name not in ("device", "directory")}
    assert kept == {name: vectors.get_params()[name] for name in kept}


@pytest.mark.parametrize(
    "changes", [{}, {"features": "learned", "prior_epochs": 0, "contamination": 0.0}], ids=str
)
def test_images_come_back(images, tmp_path, changes):
    model = quick(**changes).fit(images)
    model.save(tmp_path)
    loaded = RobustVQVAE.load(tmp_path)
    assert_same(model, loaded, images[:80])
    assert np.array_equal(loaded.anomaly_map(images[:5]), model.anomaly_map(images[:5]))
    if model.prior_epochs == 0:
        with pytest.raises(InputError, match="prior_epochs=0 leaves out"):
            loaded.sample(1)
    else:
        assert np.array_equal(loaded.sample(3), model.sample(3)) and loaded.sample(3).shape == (3, 28, 28)


def test_a_loaded_model_can_be_saved_again(vectors, saved, tmp_path):
    RobustVQVAE.load(saved).save(tmp_path / "again", {"more": 1})
    again = RobustVQVAE.load(tmp_path / "again")
    assert_same(vectors, again, rows(seed=1))
    assert again.metadata_ == {"size": [28, 28], "more": 1}
    assert (tmp_path / "again" / ARRAYS).read_bytes() == (saved / ARRAYS).read_bytes()


def test_a_moved_threshold_is_saved_and_a_loaded_one_moves(vectors, tmp_path):
    x = rows()
    model = quick(contamination=0.1).fit(x).set_contamination(0.3)
    model.save(tmp_path)
    loaded = RobustVQVAE.load(tmp_path)
    assert np.array_equal(loaded.predict(x) == 1, model.inlier_mask_) and loaded.contamination_ == 0.3
    assert np.array_equal(loaded.scores_, model.scores_)
    moved = loaded.set_contamination(0.1)
    assert np.array_equal(moved.inlier_mask_, model.set_contamination(0.1).inlier_mask_)


def test_numbers_of_numpy_are_kept_and_paths_are_not(tmp_path):
    changes = {"epochs": np.int64(1), "contamination": np.float32(0.25), "device": "cpu"}
    quick(**changes, directory=str(tmp_path / "state"), progress=print).fit(rows()).save(tmp_path / "model")
    params = RobustVQVAE.load(tmp_path / "model").get_params()
    assert params["epochs"] == 1 and params["contamination"] == 0.25
    assert params["directory"] is params["progress"] is None
    assert str(tmp_path) not in (tmp_path / "model" / FACTS).read_text()


def test_names_of_columns_are_kept(tmp_path):
    table = pd.DataFrame(rows(), columns=list("abcdef"))
    quick().fit(table).save(tmp_path)
    loaded = RobustVQVAE.load(tmp_path)
    assert loaded.score_samples(table).shape == (120,)
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.score_samples(table[list("bacdef")])


def test_what_was_trained_elsewhere_loads_on_a_cpu(saved):
    loaded = RobustVQVAE.load(saved, device="cpu")
    modules = (loaded._model, loaded._prior)
    assert {str(t.device) for module in modules for t in module.state_dict().values()} == {"cpu"}
    with pytest.raises(InputError, match="device='nowhere' cannot be used"):
        RobustVQVAE.load(saved, device="nowhere")


# saving ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [False, True])
def test_the_card_says_what_the_model_is(vectors, saved, tmp_path, answered):
    model = RobustVQVAE.load(saved)
    if answered:
        model.answer({0: True, 3: False})
    model.save(tmp_path / "model")
    text = (tmp_path / "model" / CARD).read_text()
    assert "`rvqvae.RobustVQVAE.load(FOLDER)`" in text and f"vectors of {model.shape_[0]} numbers" in text
    assert f"{model.verdict_}: {model.contamination_:.1%} of {len(model.scores_):,} samples" in text
    assert f"answered about 0 groups and {2 * answered} samples" in text
    assert all(f"| {name} | " in text for name in ("contamination", "caution", "torch"))


def test_a_card_of_any_model_names_its_class(tmp_path):
    IMSAT(n_clusters=2, epochs=1, hidden=(4,), random_state=0).fit(rows(seed=1)[:40]).save(tmp_path)
    text = (tmp_path / CARD).read_text()
    assert (
        "# IMSAT" in text
        and "`rvqvae.clustering.IMSAT.load(FOLDER)`" in text
        and "| n_clusters | 2 |" in text
    )


def test_only_two_files_beside_the_card_and_no_pickle(saved):
    assert {path.name for path in saved.iterdir()} == {ARRAYS, FACTS, CARD}
    for path in saved.iterdir():
        with pytest.raises(Exception):  # noqa: B017
            pickle.loads(path.read_bytes())
    assert json.loads((saved / FACTS).read_text())["format"] == FORMAT


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def other():
    return quick(contamination=0.3, random_state=1).fit(rows(seed=3))


@pytest.mark.parametrize("moment", range(8))
def test_a_save_killed_at_any_moment_leaves_a_whole_model(vectors, other, folder, monkeypatch, moment):
    """Every call that changes a file may be the last."""
    x, left = rows(seed=1), [moment]

    def before(function):
        def call(*args, **kwargs):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, before(getattr(os, name)))
        try:
            other.save(folder)
        except Killed:
            assert moment < 7
        else:
            assert moment >= 7
    found = RobustVQVAE.load(folder)
    assert_same(other if found.contamination == 0.3 else vectors, found, x)
    assert found.contamination == (0.3 if moment >= 4 else 0.1)
    other.save(folder)
    assert {path.name for path in folder.iterdir()} == {ARRAYS, FACTS, CARD}
    assert_same(other, RobustVQVAE.load(folder), x)


def test_metadata_that_json_cannot_hold_leaves_the_old_model(vectors, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for value in (object(), {1, 2}, np.zeros(2)):
        with pytest.raises(InputError, match="metadata must be plain values"):
            vectors.save(folder, {"value": value})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# loading what is not a model ---------------------------------------------------------------------------


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [ARRAYS, FACTS, NEXT])
@pytest.mark.parametrize("dump", [lambda x, f: f.write(pickle.dumps(x)), torch.save], ids=["pickle", "torch"])
def test_a_pickle_is_never_run(folder, tmp_path, name, dump):
    (folder / ARRAYS).unlink()
    with open(folder / name, "wb") as file:
        dump(Malicious(tmp_path / "ran"), file)
    if name != FACTS:
        facts = json.loads((folder / FACTS).read_text())
        facts["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        (folder / FACTS).write_text(json.dumps(facts))
    with pytest.raises(InputError):
        RobustVQVAE.load(folder)
    assert not (tmp_path / "ran").exists()


SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(st.sampled_from([ARRAYS, FACTS]), st.floats(0, 1, exclude_max=True))
def test_truncated_files(saved, folder, name, share):
    content = (saved / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError):
        RobustVQVAE.load(folder)
    (folder / name).write_bytes(content)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(st.data(), st.booleans())
def test_mutated_arrays(saved, folder, data, in_step):
    """With the checksum in step, too: only then does the content reach the readers of the format."""
    content = bytearray((saved / ARRAYS).read_bytes())
    limit = 4000 if in_step else len(content) - 1  # where the header of the format lies
    for at in data.draw(st.lists(st.integers(0, limit), min_size=1, max_size=4)):
        content[at] ^= data.draw(st.integers(1, 255))
    (folder / ARRAYS).write_bytes(content)
    facts = json.loads((saved / FACTS).read_text())
    if in_step:
        facts["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / FACTS).write_text(json.dumps(facts))
    try:
        RobustVQVAE.load(folder).score_samples(rows(3))
    except InputError:
        return
    assert in_step or bytes(content) == (saved / ARRAYS).read_bytes()


@settings(max_examples=80, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_mutated_facts(saved, folder, data):
    content = bytearray((saved / FACTS).read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.sampled_from(b'0123456789-.{}[]",:nulltrueE ') | st.integers(0, 255))
    (folder / FACTS).write_bytes(content)
    with suppress(InputError):
        RobustVQVAE.load(folder).score_samples(rows(3))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(value, path=()):
    """Paths to everything in nested dicts."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_facts_of_any_other_kind(saved, folder, data):
    facts = json.loads((saved / FACTS).read_text())
    *way, last = data.draw(st.sampled_from(list(places(facts))))
    place = facts
    for key in way:
        place = place[key]
    if data.draw(st.booleans()):
        place[last] = data.draw(ANYTHING)
    else:
        del place[last]
    (folder / FACTS).write_text(json.dumps(facts))
    with suppress(InputError):
        model = RobustVQVAE.load(folder)
        model.score_samples(rows(3))
        model.reconstruct(rows(3))


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"[]", b"{}", b"null", b"1", b'"format"', b"\xff\xfe", b"[" * 100_000, b'{"format": 2}',
     b'{"format": ' + b"1" * 5000 + b"}", b'{"format": 2, "sha256": 3}'],
    ids=lambda content: repr(content[:12]),
)  # fmt: skip
def test_facts_that_are_garbage(folder, content):
    (folder / FACTS).write_bytes(content)
    with pytest.raises(InputError):
        RobustVQVAE.load(folder)


@pytest.mark.parametrize("version", [1, 3, 5])
def test_another_format_is_named(folder, version):
    rewrite(folder, lambda tensors, facts: facts.update(format=version))
    wanted = rf"has model format {version}, and this version of rvqvae reads 4: use the version that saved it"
    with pytest.raises(InputError, match=wanted):
        RobustVQVAE.load(folder)


def test_missing_files(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for path in ("empty", "file", "nothing", "a\0b"):
        with pytest.raises(InputError, match="is not a model folder"):
            RobustVQVAE.load(tmp_path / path)
    (folder / ARRAYS).unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is missing, or not the one"):
        RobustVQVAE.load(folder)
    (folder / ARRAYS).mkdir()
    with pytest.raises(InputError, match="is not a complete model"):
        RobustVQVAE.load(folder)


def test_two_saves_are_never_mixed_up(folder, tmp_path):
    quick(random_state=1).fit(rows()).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / ARRAYS, folder / ARRAYS)
    with pytest.raises(InputError, match=r"not the one that model\.json was written with"):
        RobustVQVAE.load(folder)


def test_every_array_is_needed_in_its_shape(folder, saved):
    names = sorted(load((saved / ARRAYS).read_bytes()))
    assert len(names) > 40
    for name in names:
        spoilt = [
            lambda t, _, name=name: t.update({name: torch.zeros(*t[name].shape, 2)}),
            lambda t, _, name=name: t.update({name: torch.zeros(t[name].numel() + 1)}),
        ]
        if not name.startswith("codes."):  # a model may be without
            spoilt.append(lambda t, _, name=name: t.pop(name))
        for change in spoilt:
            shutil.copytree(saved, folder, dirs_exist_ok=True)
            rewrite(folder, change)
            with pytest.raises(InputError, match="is not a complete model"):
                RobustVQVAE.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 10**9}, {"residual_blocks": 10**9}, {"inlier_codes": 10**12}, {"code_dim": 10**9},
        {"channels": 200_000}, {"outlier_codes": 10**30}, {"channels": 1e9}, {"unknown": 1},
    ],
    ids=str,
)  # fmt: skip
def test_huge_claims_cost_nothing(folder, change):
    rewrite(folder, lambda _, facts: facts["fitted"]["model"].update(change))
    with pytest.raises(InputError, match=r"is not a complete model|out of range"):
        RobustVQVAE.load(folder)


@pytest.mark.parametrize(
    "change", [{"layers": 10**9}, {"channels": 10**9}, {"kernel_size": 10**9 + 1}], ids=str
)
def test_huge_priors_cost_nothing(folder, change):
    rewrite(folder, lambda _, facts: facts["fitted"]["prior"].update(change))
    with pytest.raises(InputError, match=r"is not a complete model|out of range"):
        RobustVQVAE.load(folder)


@pytest.mark.parametrize("shape", [[7], [10**9], [1, 28, 28], [], [0], ["6"], [6.0], 6, [-6]], ids=str)
def test_another_shape_of_samples(folder, shape):
    rewrite(folder, lambda _, facts: facts.update(shape=shape))
    with pytest.raises(InputError):
        RobustVQVAE.load(folder)


def test_other_sizes_of_images(images, tmp_path):
    quick(prior_epochs=0, features="learned").fit(images[:60]).save(tmp_path)
    for shape in ([1, 27, 27], [1, 29, 28], [3, 28, 28], [1, 28], [1, 10**6, 10**6]):
        rewrite(tmp_path, lambda _, facts, shape=shape: facts.update(shape=shape))
        with pytest.raises(InputError, match="is not a complete model"):
            RobustVQVAE.load(tmp_path)


def test_a_header_that_claims_more_than_there_is(folder):
    header = json.dumps(
        {"centre": {"dtype": "F64", "shape": [10**12], "data_offsets": [0, 8 * 10**12]}}
    ).encode()
    for length in (len(header), 10**15, 2**64 - 1):
        content = length.to_bytes(8, "little") + header + bytes(64)
        (folder / ARRAYS).write_bytes(content)
        facts = json.loads((folder / FACTS).read_text())
        facts["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / FACTS).write_text(json.dumps(facts))
        with pytest.raises(InputError, match="is not a complete model"):
            RobustVQVAE.load(folder)
