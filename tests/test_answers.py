"""The rule that learns from answers: what was answered holds, and speaks for its neighbours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from rvqvae.membership.answers import (
    LEAST,
    NOISE,
    TARGET,
    Answers,
    Quantised,
    Space,
    best_candidates,
    kernel,
    learn,
    parts_of,
)  # fmt: skip


def scene(n=300, kinds=6, seed=0):
    """Vectors in tight kinds, the kind of each, and log odds that know nothing of kinds 0 to 2."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(kinds, size=n)
    vectors = (rng.normal(size=(kinds, 8))[kind] + 0.2 * rng.normal(size=(n, 8))).astype(np.float32)
    log_odds = np.where(kind < 3, -0.3, -3.0) + 0.3 * rng.normal(size=n)
    space = Space.of(Quantised.of(vectors))
    return space, parts_of(space.vectors, kind), log_odds, kind


SPACE, PARTS, LOG_ODDS, KIND = scene()
FIRST = [place for place, part in enumerate(PARTS) if part.first]
SAID = st.builds(
    Answers,
    st.dictionaries(st.sampled_from(FIRST), st.sampled_from([-1, 0, 1])),
    st.dictionaries(st.integers(0, 299), st.sampled_from([-1, 1]), max_size=20),
)


def told(answers):
    return learn(SPACE, PARTS, LOG_ODDS, answers).log_odds


def test_no_answer_changes_nothing():
    assert np.array_equal(told(Answers()), LOG_ODDS)


@settings(max_examples=40, deadline=None)
@given(SAID)
def test_answers_hold_in_any_order(said):
    result = told(said)
    single = np.zeros(300, int)
    single[list(said.samples)] = list(said.samples.values())
    for place, value in said.parts.items():
        rows = PARTS[place].inner
        assert (value * result[rows[single[rows] == 0]] >= LEAST * abs(value)).all()
    assert (result * single)[single != 0].min(initial=9) >= LEAST
    turned = Answers(dict(reversed(said.parts.items())), dict(reversed(said.samples.items())))
    assert np.array_equal(told(turned), result)


@settings(max_examples=40, deadline=None)
@given(SAID, st.sampled_from(FIRST))
def test_a_group_that_belongs_is_no_likelier_foreign_for_it(said, place):
    without = Answers({k: v for k, v in said.parts.items() if k != place}, {})
    belongs = Answers({**without.parts, place: -1}, {})
    rows = PARTS[place].inner
    assert (told(belongs)[rows] <= np.maximum(told(without)[rows], -LEAST)).all() or (
        expit(told(belongs)[rows]).mean() <= expit(told(without)[rows]).mean()
    )


def test_matches_the_slow_twin():
    """Row by row, by the textbook: posterior mean = mean + k (K + noise)^-1 (target - mean)."""
    said = Answers({FIRST[0]: 1, FIRST[3]: -1}, {7: 1})
    observed = [(r, 1, 10) for r in PARTS[FIRST[0]].representatives]
    observed += [(r, -1, 10) for r in PARTS[FIRST[3]].representatives] + [(7, 1, 1)]
    z = [SPACE(np.array([row]))[0] for row in range(300)]

    def k(a, b):
        far = np.sum((a - b) ** 2)
        wide = np.exp(-far / (2 * SPACE.length**2))
        short = np.exp(-far / (2 * (SPACE.length / 2) ** 2))
        return 8 * short + 8 * wide + 8 * np.dot(a, b) / SPACE.length**2

    mean = [min(max(x, -5), 5) for x in LOG_ODDS]
    gram = np.array([[k(z[a], z[b]) + (a == b) * NOISE * n for b, _, _ in observed] for a, _, n in observed])
    off = np.linalg.solve(gram, [TARGET * v - mean[r] for r, v, _ in observed])
    shift = [sum(w * k(x, z[r]) for w, (r, _, _) in zip(off, observed, strict=True)) for x in z]
    slow = np.add(mean, shift)
    free = np.setdiff1d(np.arange(300), np.r_[PARTS[FIRST[0]].inner, PARTS[FIRST[3]].inner, 7])
    learned = learn(SPACE, PARTS, LOG_ODDS, said)
    np.testing.assert_allclose(learned.log_odds[free], slow[free], atol=1e-8)
    again = learned(SPACE(free), LOG_ODDS[free], SPACE.length)
    np.testing.assert_allclose(again, slow[free], atol=1e-8)
    # Leaving an answer out is the same as never having had it.
    rest = learn(SPACE, PARTS, LOG_ODDS, Answers({FIRST[0]: 1}, {7: 1}))
    shown = PARTS[FIRST[3]].representatives
    assert learned.others[FIRST[3]] == pytest.approx(rest.log_odds[shown].mean(), abs=1e-6)


def test_outliers_are_the_minority_until_half_is_answered():
    space, parts, log_odds, _ = scene(seed=3)
    log_odds = log_odds + 2.9  # as after many answers that nothing belongs
    first = [place for place, part in enumerate(parts) if part.first]
    few = Answers({first[0]: 1}, {})
    learned = learn(space, parts, log_odds, few)
    assert learned.excess > 0 and (learned.log_odds > 0).mean() <= 0.5 + len(parts[first[0]].inner) / 300
    assert (learned.log_odds[parts[first[0]].inner] > 0).all()
    free = np.setdiff1d(np.arange(300), parts[first[0]].inner)
    np.testing.assert_allclose(
        learned(space(free), log_odds[free], space.length), learned.log_odds[free], atol=1e-8
    )
    # Whoever says so of half of the samples has looked.
    all_said = learn(space, parts, log_odds, Answers(dict.fromkeys(first, 1), {}))
    assert all_said.excess == 0 and (all_said.log_odds > 0).mean() > 0.9


def test_parts_cover_each_group_once_at_every_level():
    for group in range(6):
        first = [PARTS[p] for p in FIRST if KIND[PARTS[p].rows[0]] == group]
        assert np.array_equal(np.sort(np.concatenate([p.rows for p in first])), np.flatnonzero(group == KIND))
    for part in PARTS:
        assert set(part.representatives) <= set(part.inner) <= set(part.rows)
        if part.halves:
            halves = np.concatenate([PARTS[p].rows for p in part.halves])
            assert np.array_equal(np.sort(halves), np.sort(part.rows))


def test_a_mixed_part_is_asked_in_halves_and_a_contradicted_answer_again():
    mixed = next(p for p in FIRST if PARTS[p].halves)
    said = Answers({mixed: 0})
    asked = best_candidates(SPACE, PARTS, learn(SPACE, PARTS, LOG_ODDS, said), said, 99)
    assert mixed not in {q.part for q in asked} and {*PARTS[mixed].halves} <= {q.part for q in asked}
    inside = [p for p in FIRST if KIND[PARTS[p].rows[0]] == 5]
    said = Answers({inside[0]: 1, inside[1]: -1, **{p: -1 for p in FIRST if p not in inside}})
    asked = best_candidates(SPACE, PARTS, learn(SPACE, PARTS, LOG_ODDS, said), said, 3)
    assert (inside[0], "check") in {(q.part, q.why) for q in asked}
    said = said._replace(confirmed=frozenset([inside[0]]))
    asked = best_candidates(SPACE, PARTS, learn(SPACE, PARTS, LOG_ODDS, said), said, 3)
    assert inside[0] not in {q.part for q in asked}


def test_samples_come_last_and_differ():
    asked = best_candidates(SPACE, PARTS, learn(SPACE, PARTS, LOG_ODDS, Answers()), Answers(), 30)
    rows = [q.row for q in asked if q.part < 0]
    assert len(asked) == 30 and len({*rows}) == len(rows) > 0
    assert all(q.part >= 0 for q in asked[: 30 - len(rows)])


@pytest.mark.parametrize("n", [2, 5, 100, 9000])
def test_any_size(n):
    space, parts, log_odds, _ = scene(n, kinds=2)
    asked = best_candidates(space, parts, learn(space, parts, log_odds, Answers()), Answers(), 4)
    said = Answers({q.part: 1 for q in asked if q.part >= 0}, {q.row: 1 for q in asked if q.part < 0})
    assert np.isfinite(learn(space, parts, log_odds, said).log_odds).all()


def test_equal_vectors_and_one_byte():
    space = Space.of(Quantised.of(np.zeros((40, 3), np.float32)))
    parts = parts_of(space.vectors, np.zeros(40, int))
    result = learn(space, parts, np.zeros(40), Answers({0: 1})).log_odds
    assert (result[parts[0].inner] >= LEAST).all() and np.isfinite(result).all()
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    quantised = Quantised.of(vectors)
    assert np.abs(quantised(slice(50)) - vectors).max() <= 0.5001 * quantised.scale.max()
    assert kernel(vectors, vectors, 1.0).shape == (50, 50)
