"""The prior: causality, exact incremental sampling, likelihoods that are likelihoods, training."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_pixelcnn import slow_sample
from torch import Tensor

from rvqvae.config import PriorConfig
from rvqvae.errors import InputError
from rvqvae.priors import GatedPixelCNN, fit_prior

TINY = PriorConfig(
    channels=8, layers=1, kernel_size=3, dropout=0.2, epochs=4, batch_size=32, learning_rate=1e-2
)


def random_model(n_codes: int = 7, n_classes: int = 0, seed: int = 0, **changes: float) -> GatedPixelCNN:
    """A prior with weights large enough that every input matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GatedPixelCNN(n_codes, replace(TINY, **changes), n_classes)  # type: ignore[arg-type]
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.3)
    return model.eval()


def random_codes(n: int, height: int, width: int, n_codes: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(n_codes, size=(n, height, width)))


def checkerboards(n: int, seed: int = 0) -> Tensor:
    """4x4 boards of codes 0 and 1 in either phase, the last cell replaced by 2 in a quarter of them."""
    rng = np.random.default_rng(seed)
    boards = (np.indices((4, 4)).sum(0) + rng.integers(2, size=(n, 1, 1))) % 2
    boards[rng.random(n) < 0.25, -1, -1] = 2
    return torch.from_numpy(boards)


# --- causality ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_logits_depend_on_all_earlier_positions_and_on_no_other(kernel_size: int) -> None:
    """By the gradient of each position's logits with respect to the embedded input: no blind spot."""
    size = 5
    model = random_model(layers=5, kernel_size=kernel_size).double()
    embedded: list[Tensor] = []

    def keep(_module: object, _inputs: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    model.embedding.register_forward_hook(keep)
    logits = model(random_codes(1, size, size, 7))
    for i, j in itertools.product(range(size), repeat=2):
        (gradient,) = torch.autograd.grad(logits[0, :, i, j].square().sum(), embedded[0], retain_graph=True)
        seen = gradient[0].abs().sum(2).flatten() > 0
        earlier = torch.arange(size * size) < i * size + j
        torch.testing.assert_close(seen, earlier)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(0, 5), st.integers(0, 100))
def test_a_later_code_changes_no_earlier_logit(i: int, j: int, seed: int) -> None:
    model = random_model(kernel_size=5)
    before = random_codes(1, 5, 6, 7, seed)
    after = before.clone()
    after[0, i, j] = (after[0, i, j] + 1) % 7
    with torch.no_grad():
        changed = (model(before) != model(after)).any(1).flatten()
    assert not changed[: i * 6 + j + 1].any()


# --- sampling -------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 4),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    kernel_size=st.sampled_from([3, 5]),
    layers=st.integers(1, 3),
    n_classes=st.sampled_from([0, 3]),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_p=st.sampled_from([0.05, 0.6, 1.0]),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_sample_is_the_slow_sampler_integer_for_integer(
    n: int,
    shape: tuple[int, int],
    kernel_size: int,
    layers: int,
    n_classes: int,
    temperature: float,
    top_p: float,
    batch_size: int,
    seed: int,
) -> None:
    model = random_model(6, n_classes, seed, kernel_size=kernel_size, layers=layers)
    labels = torch.arange(n) % n_classes if n_classes else None
    how = {"seed": seed, "temperature": temperature, "top_p": top_p, "labels": labels}
    fast = model.sample(n, shape, batch_size=batch_size, **how)  # type: ignore[arg-type]
    assert fast.dtype == torch.int64
    assert torch.equal(fast, slow_sample(model, n, shape, **how))  # type: ignore[arg-type]


def test_default_width_on_a_7x7_grid_is_the_slow_sampler() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GatedPixelCNN(256, PriorConfig())
    assert torch.equal(model.sample(3, (7, 7), seed=5), slow_sample(model, 3, (7, 7), seed=5))


@pytest.mark.parametrize("n", [1, 8, 9, 20])
def test_a_grid_depends_on_the_seed_and_its_index_only(n: int) -> None:
    model = random_model(50)
    first = model.sample(20, (4, 5), seed=3)
    assert model.sample(n, (4, 5), seed=3, batch_size=8).equal(first[:n])
    assert not model.sample(20, (4, 5), seed=4).equal(first)


def test_sampling_leaves_the_model_and_the_global_random_state_alone() -> None:
    model = random_model(dropout=0.5).train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    assert model.sample(4, (3, 3), seed=0).equal(model.eval().sample(4, (3, 3), seed=0))
    assert torch.random.get_rng_state().equal(state)
    assert all(value.equal(weights[name]) for name, value in model.state_dict().items())
    assert next(model.parameters()).dtype == torch.float32


def test_samples_follow_the_distribution() -> None:
    """Frequencies of all 16 grids of a 2x2 binary model against their probabilities."""
    model = random_model(2)
    grids = torch.tensor(list(itertools.product(range(2), repeat=4))).reshape(-1, 2, 2)
    expected = model.log_prob(grids).exp().detach()
    index = (model.sample(20_000, (2, 2), seed=0).flatten(1) * torch.tensor([8, 4, 2, 1])).sum(1)
    found = torch.bincount(index, minlength=16) / 20_000
    assert (found - expected).abs().max() < 4 * math.sqrt(0.25 / 20_000)


def test_temperature_and_top_p_narrow_the_samples() -> None:
    model = random_model(20)

    def kinds(**how: float) -> int:
        return len(model.sample(200, (1, 1), seed=0, **how).unique())  # type: ignore[arg-type]

    assert kinds(temperature=0.2) < kinds() <= kinds(temperature=5.0)
    assert kinds(top_p=0.5) < kinds()
    with torch.no_grad():
        mode = model(torch.zeros(1, 1, 1, dtype=torch.int64)).argmax()
    for how in ({"temperature": 1e-3}, {"top_p": 1e-9}):
        assert (model.sample(50, (1, 1), seed=0, **how) == mode).all()  # type: ignore[arg-type]


# --- likelihood -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (1, 5), (4, 1)])
def test_probabilities_of_all_grids_sum_to_one(shape: tuple[int, int]) -> None:
    model = random_model(3).double()
    grids = torch.tensor(list(itertools.product(range(3), repeat=math.prod(shape)))).reshape(-1, *shape)
    with torch.no_grad():
        assert model.log_prob(grids).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_conditional_probabilities_sum_to_one_and_differ_between_classes() -> None:
    model = random_model(2, n_classes=2).double()
    grids = torch.tensor(list(itertools.product(range(2), repeat=4))).reshape(-1, 2, 2)
    with torch.no_grad():
        p = torch.stack([model.log_prob(grids, torch.full((16,), c)).exp() for c in range(2)])
    torch.testing.assert_close(p.sum(1), torch.ones(2, dtype=torch.float64))
    assert (p[0] - p[1]).abs().max() > 1e-3


def test_log_prob_does_not_depend_on_how_grids_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    model, codes = random_model(n_classes=2), random_codes(5, 3, 3, 7)
    labels = torch.tensor([0, 1, 1, 0, 1])
    whole = model.log_prob(codes, labels)
    assert whole.shape == (5,)
    monkeypatch.setattr("rvqvae.priors.pixelcnn._CHUNK", 2)
    torch.testing.assert_close(model.log_prob(codes, labels), whole)
    assert model.log_prob(codes[:0], labels[:0]).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_any_integer_dtype_is_accepted(dtype: torch.dtype) -> None:
    model, codes = random_model(), random_codes(3, 3, 3, 7)
    torch.testing.assert_close(model(codes.to(dtype)), model(codes))


# --- training -------------------------------------------------------------------------------------


def test_training_learns_checkerboards() -> None:
    history: list[dict[str, float]] = []
    model = fit_prior(
        checkerboards(512), 3, replace(TINY, epochs=20), seed=0, on_epoch=lambda _epoch, m: history.append(m)
    )
    assert model.grid_shape == (4, 4) and not model.training
    with torch.no_grad():
        held_out = -model.log_prob(checkerboards(256, seed=1)).mean().item()
        untrained = -GatedPixelCNN(3, TINY).eval().log_prob(checkerboards(256, seed=1)).mean().item()
    entropy = math.log(2) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert entropy - 0.15 < held_out < entropy + 0.15 < untrained
    assert len(history) == 20
    assert history[-1]["nats_per_position"] < history[0]["nats_per_position"]
    boards = model.sample(400, (4, 4), seed=0)
    phase = (torch.arange(4)[:, None] + torch.arange(4) + boards[:, :1, :1]) % 2
    phase[:, -1, -1] = boards[:, -1, -1].where(boards[:, -1, -1] == 2, phase[:, -1, -1])
    assert (boards == phase).flatten(1).all(1).float().mean() > 0.97
    assert (boards[:, -1, -1] == 2).float().mean().item() == pytest.approx(0.25, abs=0.08)
    assert boards[:, 0, 0].float().mean().item() == pytest.approx(0.5, abs=0.12)


def test_without_labels_classes_are_drawn_by_their_weighted_share() -> None:
    labels = torch.arange(90) % 3
    codes = labels[:, None, None].expand(90, 2, 2)
    weights = torch.tensor([1.0, 2.0, 0.0])[labels]
    model = fit_prior(codes, 3, replace(TINY, epochs=60), seed=0, weights=weights, labels=labels, n_classes=3)
    torch.testing.assert_close(model.class_share, torch.tensor([1 / 3, 2 / 3, 0.0]))
    drawn = model.sample(600, (2, 2), seed=0)
    assert (drawn == 1).float().mean().item() == pytest.approx(2 / 3, abs=0.06)
    assert drawn.equal(torch.cat([model.sample(600, (2, 2), seed=0, batch_size=7)]))
    assert model.sample(5, (2, 2), seed=0).equal(drawn[:5])


def test_training_is_reproducible_and_leaves_the_global_random_state_alone() -> None:
    codes, state = random_codes(40, 3, 3, 4), torch.random.get_rng_state()
    one = fit_prior(codes, 4, TINY, seed=1).log_prob(codes)
    assert torch.random.get_rng_state().equal(state)
    torch.manual_seed(99)
    assert fit_prior(codes.numpy(), 4, TINY, seed=1).log_prob(codes).equal(one)
    assert not fit_prior(codes, 4, TINY, seed=2).log_prob(codes).equal(one)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 12},
        {"layers": 2},
        {"kernel_size": 5},
        {"dropout": 0.4},
        {"epochs": 1},
        {"batch_size": 8},
        {"learning_rate": 1e-3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_result(change: dict[str, float]) -> None:
    codes = random_codes(40, 3, 3, 4)
    plain = fit_prior(codes, 4, TINY, seed=0).log_prob(codes)
    assert not fit_prior(codes, 4, replace(TINY, **change), seed=0).log_prob(codes).equal(plain)  # type: ignore[arg-type]


@pytest.mark.parametrize("epochs", range(1, 8))
def test_any_number_of_steps_trains(epochs: int) -> None:
    fit_prior(random_codes(2, 2, 2, 4), 4, replace(TINY, epochs=epochs), seed=0)


def test_weights_select_what_is_learned() -> None:
    codes = torch.cat([torch.zeros(60, 3, 3), torch.ones(60, 3, 3)]).long()
    only_zeros = fit_prior(codes, 2, TINY, seed=0, weights=np.repeat([1.0, 0.0], 60))
    assert only_zeros.log_prob(codes[:1]) > only_zeros.log_prob(codes[-1:]) + 2
    mostly_ones = fit_prior(codes, 2, TINY, seed=0, weights=torch.tensor([0.1, 1.0]).repeat_interleave(60))
    assert mostly_ones.log_prob(codes[:1]) < mostly_ones.log_prob(codes[-1:])
    scaled = fit_prior(codes, 2, TINY, seed=0, weights=np.full(120, 8.0))
    assert scaled.log_prob(codes).equal(fit_prior(codes, 2, TINY, seed=0).log_prob(codes))


def test_labels_condition_the_samples() -> None:
    labels = torch.arange(120) % 2
    codes = labels[:, None, None].expand(120, 3, 3)
    model = fit_prior(codes, 2, replace(TINY, epochs=10), seed=0, labels=labels, n_classes=2)
    drawn = model.sample(40, (3, 3), seed=0, labels=torch.arange(40) % 2)
    assert (drawn == codes[:40]).float().mean() > 0.9


def test_the_state_dict_carries_the_grid() -> None:
    trained = fit_prior(random_codes(8, 3, 4, 5), 5, replace(TINY, epochs=1), seed=0)
    loaded = GatedPixelCNN(5, TINY)
    loaded.load_state_dict(trained.state_dict())
    assert loaded.grid_shape == (3, 4)
    assert loaded.sample(3, (3, 4), seed=0).equal(trained.sample(3, (3, 4), seed=0))
    with pytest.raises(InputError, match=r"grid 4x3 .* trained on 3x4"):
        loaded.sample(1, (4, 3), seed=0)
    with pytest.raises(InputError, match="trained on 3x4"):
        loaded(random_codes(1, 4, 4, 5))


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": -3}, "n=-3"),
        ({"seed": -1}, "seed=-1"),
        ({"grid_shape": (0, 3)}, "grid 0x3"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"labels": torch.zeros(2, dtype=torch.int64)}, "unconditional"),
    ],
)
def test_sample_refuses_bad_arguments(change: dict[str, object], message: str) -> None:
    arguments = {"n": 2, "grid_shape": (3, 3), "seed": 0, **change}
    with pytest.raises(InputError, match=message):
        random_model().sample(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(3, 3, dtype=torch.int64), r"shape \(3, 3\)"),
        (torch.zeros(1, 3, 3), "float32"),
        (torch.full((1, 3, 3), 7), r"outside \[0, 7\)"),
        (torch.full((1, 3, 3), -1), r"from -1 to -1"),
        (torch.zeros(1, 0, 3, dtype=torch.int64), "grid 0x3"),
    ],
)
def test_bad_codes_are_refused(codes: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        random_model()(codes)
    with pytest.raises(InputError, match=message):
        random_model().log_prob(codes)
    with pytest.raises(InputError, match=message):
        fit_prior(codes, 7, TINY, seed=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "give labels"),
        (torch.tensor([0]), r"shape \(1,\)"),
        (torch.tensor([0, 2]), r"outside \[0, 2\)"),
        (torch.tensor([0.0, 1.0]), "float32"),
    ],
)
def test_bad_labels_are_refused(labels: Tensor | None, message: str) -> None:
    model = random_model(n_classes=2)
    with pytest.raises(InputError, match=message):
        model(random_codes(2, 3, 3, 7), labels)
    if labels is not None:
        with pytest.raises(InputError, match=message):
            model.sample(2, (3, 3), seed=0, labels=labels)
    with pytest.raises(InputError, match=message):
        fit_prior(random_codes(2, 3, 3, 7), 7, TINY, seed=0, labels=labels, n_classes=2)


def test_models_need_two_codes_and_no_negative_classes() -> None:
    with pytest.raises(InputError, match="n_codes=1"):
        GatedPixelCNN(1, TINY)
    with pytest.raises(InputError, match="n_classes=-1"):
        GatedPixelCNN(4, TINY, -1)


@pytest.mark.parametrize(
    ("n", "weights", "message"),
    [
        (1, None, "1 grids"),
        (0, None, "0 grids"),
        (4, [1, 0, 0, 0], "1 grids of positive weight"),
        (4, [1, 1], r"shape \(2,\)"),
        (4, [1, 1, -1, 1], "finite and >= 0"),
        (4, [1, 1, math.nan, 1], "finite and >= 0"),
    ],
)
def test_fit_refuses_too_few_grids_and_bad_weights(n: int, weights: list[float] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_prior(random_codes(n, 3, 3, 7), 7, TINY, seed=0, weights=weights)


def test_a_loss_that_is_not_finite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        GatedPixelCNN,
        "log_prob",
        lambda self, codes, labels, told: torch.full((len(codes),), math.nan, requires_grad=True),
    )
    with pytest.raises(
        InputError, match=r"loss is nan at batch 1 of 1, learning rate .*; lower the learning rate"
    ):
        fit_prior(random_codes(4, 3, 3, 7), 7, TINY, seed=0)
