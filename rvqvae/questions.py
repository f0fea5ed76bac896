"""Questions about a fit and their answers: `RobustVQVAE.ask` and `RobustVQVAE.answer`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from rvqvae.detector import Judged, Scorer
from rvqvae.errors import InputError
from rvqvae.membership import answers as rule
from rvqvae.membership.decision import Interval, rate_interval, verdict_of
from rvqvae.model_folder import Stored, check_shapes

Key = str | int
Said = bool | None
"""True: belongs; False: does not belong; None: mixed, or not known."""
VALUES: dict[Said, int] = {True: -1, False: 1, None: 0}
SAID = {value: said for said, value in VALUES.items()}
EXAMPLES = 12
DOUBT_AFTER: tuple[tuple[int, float, float], ...] = ((3, -3.5, 2.4), (8, -4.0, 1.6), (28, -5.0, 1.25))
"""After so many answers, all log odds of unanswered samples may be wrong together by so many nats (see
`rate_interval`), measured on the development scenarios."""
FEW = 8
"""Number of answers from which one of them may be wrong."""
NOTHING_FOUND = ((3, -3.5, 2.4), (16, -5.0, 1.0))
"""As DOUBT_AFTER, if all answers, but one that may be wrong, are "belongs". The most suspicious is asked
about first: after 16 answers this held of every clean development scenario, and of 1 in 124 with outliers."""


class Question(NamedTuple):
    """A question whose answer is worth having: do these samples belong?"""

    id: str
    rows: NDArray[np.int64]
    """Rows of the training data: part of a group, or one sample."""
    probability: float
    """Mean probability of being an outlier."""
    examples: NDArray[np.int64]
    """Up to 12 of the rows, typical ones first."""
    reason: str
    """Why it is asked."""
    gain: float
    """Samples that the answer is expected to set right."""


def outlook(questions: Sequence[Question]) -> str:
    """The expected gain of answering these, as a sentence."""
    gain = sum(question.gain for question in questions)
    if not questions or questions[0].gain < rule.WORTH:
        return "No further answer is expected to set an image right."
    answers = "1 more answer" if len(questions) == 1 else f"{len(questions)} more answers"
    return f"{answers} would change about {gain:,.0f} images."


class Inquiry:
    """The questions about one fit and their answers.

    ``vectors`` (N, d): the joint view; ``groups`` (N,); ``log_odds`` (N,): by the judge alone.
    """

    def __init__(
        self,
        vectors: rule.Quantised,
        groups: NDArray[np.int64],
        log_odds: NDArray[np.float64],
    ) -> None:
        self.vectors, self.groups, self.rules = vectors, groups, log_odds
        self.said = rule.Answers()
        self._before: list[rule.Answers] = []
        self._last: tuple[float, rule.Learned] | None = None
        self.run = rule.run_of(vectors, groups)
        """Id of the fit, which the ids of its questions begin with."""

    @classmethod
    def of(cls, judged: Judged) -> Inquiry:
        """The inquiry about a fit, without answers."""
        return cls(rule.Quantised.of(judged.vectors), judged.groups, judged.log_odds)

    @cached_property
    def space(self) -> rule.Space:
        return rule.Space.of(self.vectors)

    @cached_property
    def parts(self) -> list[rule.Part]:
        return rule.parts_of(self.vectors, self.groups)

    @property
    def answers(self) -> dict[Key, Said]:
        """All answers, by id or row."""
        parts = {self._id(place): SAID[value] for place, value in self.said.parts.items()}
        return parts | {row: SAID[value] for row, value in self.said.samples.items()}

    @property
    def confirmed(self) -> set[str]:
        """Ids of the groups whose answer was given twice."""
        return {self._id(place) for place in self.said.confirmed}

    def learned(self, cut: float) -> rule.Learned:
        """The process given all answers. Log odds above ``cut`` mean outliers; its own are minus the cut."""
        if self._last is None or self._last[0] != cut:
            parts = self.parts if self.said.parts else []  # They take time, and a loaded model may need none.
            self._last = cut, rule.learn(self.space, parts, self.rules - cut, self.said)
        return self._last[1]

    def odds(
        self, vectors: NDArray[np.float32], log_odds: NDArray[np.float64], cut: float
    ) -> NDArray[np.float64]:
        """(n,) log odds of new samples, from their joint view (n, d) and the judge's log odds (n,)."""
        if not any([*self.said.parts.values(), *self.said.samples.values()]):
            return log_odds
        moved = self.learned(cut)(vectors - self.space.centre, log_odds - cut, self.space.length)
        return np.asarray(moved + cut)

    def ask(self, n: int, cut: float) -> list[Question]:
        """The ``n`` questions most worth asking, or as many as there are."""
        if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
            raise InputError(f"n={n!r} is out of range: ask for 1 question or more")
        learned = self.learned(cut)
        asked = rule.best_candidates(self.space, self.parts, learned, self.said, int(n))
        return [self._question(one, expit(learned.log_odds + cut)) for one in asked]

    def answer(self, answers: Mapping[Key, Said], cut: float) -> list[str]:
        """Take ``answers`` by id or row, in order. Return warnings about answers that replace others.

        Raises InputError, and takes none, for ids of another run, rows that do not exist, values other than
        True, False and None, and if every sample would be an outlier.
        """
        before, notes = self.said, list[str]()
        parts, samples, confirmed = dict(before.parts), dict(before.samples), set(before.confirmed)
        for key, said in answers.items():
            kind, place = self._place(key)
            if isinstance(said, np.bool_):
                said = bool(said)
            if said is not None and not isinstance(said, bool):
                raise InputError(f"answer {said!r} to {key!r} is none: give True, False or None")
            value, old = VALUES[said], (parts if kind == "g" else samples)
            if place in old and old[place] != value:
                notes.append(
                    f"{key!r} was answered {SAID[old[place]]} before, and is now {said}: the later counts"
                )
            if kind == "g":
                if place in parts:
                    confirmed.add(place)
                for inside in self._inside(place) if value else ():
                    if inside in parts:
                        notes.append(
                            f"the answer to {key!r} replaces that to {self._id(inside)!r}, a part of it"
                        )
                        del parts[inside]
            old[place] = value
        # A half is asked about after its whole was mixed, which a reviewed manifest has no place for.
        wholes = (
            {half: whole for whole, part in enumerate(self.parts) for half in part.halves} if parts else {}
        )
        for place in [*parts]:
            while (place := wholes.get(place, -1)) >= 0:
                parts.setdefault(place, 0)
        self._before.append(before)
        self.said, self._last = rule.Answers(parts, samples, frozenset(confirmed)), None
        if (self.learned(cut).log_odds > 0).all():
            self.undo()
            raise InputError(
                "by these answers nothing would belong, and there must be something that does: none of them "
                "is taken; answer True for what belongs"
            )
        return notes

    def undo(self) -> None:
        """Take back the answers of the last call of `answer`; InputError if there are none."""
        if not self._before:
            raise InputError("there is no answer to take back: answer first")
        self.said, self._last = self._before.pop(), None

    def interval(self, cut: float, doubt: tuple[float, float]) -> Interval:
        """95 % interval of the contamination; ``doubt`` is the judge's, as in `rate_interval`.

        A few of the answered samples may be wrong. The doubt about all others, those in answered groups too,
        shrinks with the number of answers, and faster if they find nothing foreign. On every second
        development scenario, with 2 % of the answers wrong, it holds the truth in .94 of the sets after 5
        answers, .97 after 8, .96 after 28, .95 after 58, at a median width of .22, .18, .03 and .01.
        """
        said = [*self.said.parts.values(), *self.said.samples.values()]
        count, after = len(said), DOUBT_AFTER
        if sum(value >= 0 for value in said) <= (count >= FEW):
            # Whoever keeps what looks usual, as in a review, has not looked where outliers would be.
            usual = np.median(self.rules)
            count, after = sum(self.rules[row] >= usual for row in self.said.samples), NOTHING_FOUND
            count += len(self.said.parts)
        counts, low, high = zip((0, *doubt), *after, strict=True)
        odds = self.learned(cut).log_odds + cut
        known = [row for row, value in self.said.samples.items() if value]
        foreign = sum(self.said.samples[row] > 0 for row in known)
        wrong = rule.ERROR * len(known) + 2 * np.sqrt(rule.ERROR * len(known))
        rest = np.delete(odds, known)
        if not len(rest):
            return Interval(foreign / len(odds), foreign / len(odds))
        ends = rate_interval(
            rest, (float(np.interp(count, counts, low)), float(np.interp(count, counts, high)))
        )
        return Interval(
            (max(foreign - wrong, 0) + ends.low * len(rest)) / len(odds),
            (min(foreign + wrong, len(known)) + ends.high * len(rest)) / len(odds),
        )

    def stored(self) -> Stored:
        """All of it as arrays and facts, to save."""
        arrays = {
            "values": self.vectors.values, "scale": self.vectors.scale, "groups": self.groups,
            "log_odds": self.rules,
        }  # fmt: skip
        facts = {
            "parts": [[place, value] for place, value in self.said.parts.items()],
            "samples": [[row, value] for row, value in self.said.samples.items()],
            "confirmed": sorted(self.said.confirmed),
        }
        return Stored({name: torch.as_tensor(array) for name, array in arrays.items()}, facts)

    @classmethod
    def restored(cls, stored: Stored, width: int) -> Inquiry:
        """The inverse of `stored`, for vectors of this ``width``. Raises any error if it is damaged."""
        arrays, facts = stored
        n = len(arrays["log_odds"])
        wanted = {"values": (n, width), "scale": (width,), "groups": (n,), "log_odds": (n,)}
        check_shapes(arrays, wanted)
        values, scale, groups, log_odds = (
            arrays[name].numpy() for name in ("values", "scale", "groups", "log_odds")
        )
        inquiry = cls(rule.Quantised(values, scale), groups, log_odds)
        parts, samples = (
            {int(place): int(value) for place, value in facts[name]} for name in ("parts", "samples")
        )
        confirmed = frozenset(map(int, facts["confirmed"]))
        if {*parts.values(), *samples.values()} - SAID.keys():
            raise ValueError("answers that are none")
        if any(not 0 <= row < n for row in samples):
            raise ValueError("answers to rows that do not exist")
        if parts and not 0 <= min(parts) <= max(parts) < len(inquiry.parts):
            raise ValueError("answers to parts that do not exist")
        inquiry.said = rule.Answers(parts, samples, confirmed)
        return inquiry

    def _question(self, asked: rule.Candidate, probability: NDArray[np.float64]) -> Question:
        about = f"{asked.gain:,.0f} images" if asked.gain >= 1.5 else "1 image"
        why = {
            "likely": f"nothing else is likelier not to belong; the answer should set {about} right",
            "doubt": f"in doubt; the answer should set {about} right",
            "check": "other answers contradict yours: look again, the later answer counts",
            "sample": f"near even odds, like its neighbours; the answer should set {about} right",
        }[asked.why]
        if asked.gain < rule.WORTH:
            why = f"{'in doubt' if asked.part >= 0 else 'near even odds'}; hardly an image depends on it"
        if asked.part < 0:
            rows = shown = np.array([asked.row])
        else:
            rows = self.parts[asked.part].inner
            # Asked again, others are shown.
            spaced = np.linspace(0, len(rows) - 1, 2 * EXAMPLES)[asked.why == "check" :: 2]
            shown = rows[np.unique(np.rint(spaced).astype(int))]
        key = self._id(asked.part) if asked.part >= 0 else f"{self.run}-i{asked.row}"
        return Question(key, rows, float(probability[rows].mean()), shown, why, asked.gain)

    def _id(self, place: int) -> str:
        return f"{self.run}-g{place}"

    def _place(self, key: Any) -> tuple[str, int]:
        """For an id or a row: "g" and the index of the part, or "i" and the row."""
        if isinstance(key, Integral) and not isinstance(key, bool):
            kind, place, run = "i", int(key), self.run
        elif isinstance(key, str) and (found := re.fullmatch(r"([0-9a-f]{8})-([gi])(\d{1,18})", key)):
            run, kind, place = found[1], found[2], int(found[3])
        else:
            raise InputError(f"{key!r} is no question: give the id of one that ask() returned, or a row")
        if run != self.run:
            raise InputError(f"{key!r} is a question of another run, not of {self.run}: ask this one")
        end = len(self.parts) if kind == "g" else len(self.rules)
        if not 0 <= place < end:
            what = "groups asked about" if kind == "g" else "rows"
            raise InputError(f"{key!r} does not exist: this run has {end:,} {what}, from 0")
        return kind, place

    def _inside(self, place: int) -> list[int]:
        halves = self.parts[place].halves
        return [*halves, *(inside for half in halves for inside in self._inside(half))]


class Asking(BaseEstimator):
    """Mixin of an estimator that asks about its training data and learns from the answers.

    The estimator has ``offset_``, a ``_scorer``, and ``_seen`` as `verdict_of` takes it.
    """

    offset_: float
    _scorer: Scorer
    _seen: float
    _inquiry: Inquiry | None = None

    def ask(self, n: int = 8) -> list[Question]:
        """The ``n`` questions most worth asking about the training data, or as many as there are.

        Parts of groups come first, then single samples. `outlook` gives their expected gain.
        """
        return self.inquiry_.ask(n, -self.offset_)

    def answer(self, answers: Mapping[Key, Said]) -> Self:
        """Learn from answers, by id of the question or by row: True belongs, False does not, None is mixed or
        not known.

        An answer decides the samples that it is about, where a sample's own answer counts before its group's,
        and informs about samples nearby, new ones too. A later answer replaces an earlier one (UserWarning).
        Scores, probabilities, sets, interval and verdict change at once, the networks at the next `train`.
        `save`, `load` and `clone` keep answers: a clone that is fitted to the same data has them. Raises
        InputError, and takes none, for ids of another run, rows that do not exist, other values, and if
        nothing would belong.
        """
        for note in self.inquiry_.answer(answers, -self.offset_):
            warnings.warn(note, stacklevel=2)
        self._heed()
        return self

    def remember(self, other: Asking) -> Self:
        """Take over the answers of ``other``, once this is fitted to the same data."""
        self._inquiry = other._inquiry
        return self

    def undo(self) -> Self:
        """Take back the last call of `answer` since the fit or `load`; InputError if there is none."""
        self.inquiry_.undo()
        self._heed()
        return self

    @property
    def answers_(self) -> dict[Key, Said]:
        """All answers, by id or row."""
        return self.inquiry_.answers

    def _inquire(self, judged: Judged) -> None:
        """Begin a new inquiry. Answers about the same data are kept, those of the cloned estimator too."""
        before, self._inquiry = self._inquiry, Inquiry.of(judged)
        if before is not None and before.answers and before.run == self._inquiry.run:
            self._inquiry.said = before.said
            self._heed()

    def _odds(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """(N,) log odds of being an outlier, by judge and answers."""
        judged = self._scorer(samples)
        return self.inquiry_.odds(judged.vectors, judged.log_odds, -self.offset_)

    @property
    def inquiry_(self) -> Inquiry:
        """The questions about the training data and their answers."""
        check_is_fitted(self)
        assert self._inquiry is not None
        return self._inquiry

    def _heed(self) -> None:
        """Update scores, sets, interval and verdict of the training data by judge and answers."""
        inquiry, cut = self.inquiry_, -self.offset_
        self._follow()
        self.contamination_ = float((~self.inlier_mask_).mean())
        low, high = inquiry.interval(cut, self._scorer.judge.doubt)
        self.contamination_interval_ = (min(low, self.contamination_), max(high, self.contamination_))
        self.verdict_ = verdict_of(self.contamination_interval_, len(self.scores_), self._seen)

    def _follow(self) -> None:
        """Update scores, sets and probabilities of the training data by judge and answers."""
        cut = -self.offset_
        self.scores_ = -(self.inquiry_.learned(cut).log_odds + cut)
        self.inlier_mask_ = self.scores_ >= self.offset_
        self.outlier_probability_ = expit(-self.scores_)

    def __sklearn_clone__(self) -> Self:
        copy: Self = super().__sklearn_clone__()
        return copy.remember(self)
