"""The review page asks in a real browser, and learns from answers as Python does."""

import numpy as np
import pytest
from report_page import (
    ASKING,
    DUPLICATE,
    LOG_ODDS,
    NAMES,
    PARTS,
    ROWS,
    SPACE,
    UNREADABLE,
    VECTORS,
    VIEW,
    counts,
    expected,
    exported,
    same,
    scored,
    table,
)

from rvqvae import RobustVQVAE
from rvqvae.commands.answer import learn_from
from rvqvae.membership.answers import Answers, best_candidates, learn
from rvqvae.report import View


def learned(said):
    return learn(SPACE, PARTS, LOG_ODDS, said)


def expit(odds):
    return 1 / (1 + np.exp(-np.asarray(odds)))


SAID = [
    Answers(),
    Answers({0: -1}),
    Answers({0: 0}),
    Answers({0: 1, 3: -1, 5: 0, 6: 1}),
    Answers({}, {3: -1, 59: 1, 8: 0}),
    Answers({}, {3: 1, 59: 1, 8: 1}),
    Answers({0: 1, 1: -1, 4: -1}, {1: 1, 30: -1}, frozenset([1])),
]


@pytest.mark.parametrize("said", SAID)
def test_page_learns_and_asks_as_python_does(visit, said):
    page = visit(view=ASKING)
    given = [[*map(list, said.parts.items())], [*map(list, said.samples.items())], list(said.confirmed)]
    odds, others, asked = page.evaluate(
        """([parts, samples, confirmed]) => {
          const said = { parts: new Map(parts), samples: new Map(samples), confirmed: new Set(confirmed) };
          const learned = relearn(said);
          return [[...learned.logOdds], [...learned.others], questions(learned, said, 40)];
        }""",
        given,
    )
    slow = learned(said)
    np.testing.assert_allclose(expit(odds), expit(slow.log_odds), atol=1e-3)
    assert dict(others) == pytest.approx(slow.others, abs=1e-3)
    wanted = best_candidates(SPACE, PARTS, slow, said, 40)
    assert [(one["part"], one["sample"], one["why"]) for one in asked] == [q[:2] + q[3:] for q in wanted]
    np.testing.assert_allclose([one["gain"] for one in asked], [q.gain for q in wanted], atol=1e-3)


def test_questions_are_answered_by_keyboard(visit, tmp_path):
    page = visit(view=ASKING)
    assert page.inner_text("#step") == "Question 1 of about 8"
    page.keyboard.press("q")
    asked, said, again = [], {}, set()
    for step, (key, value) in enumerate((("b", -1), ("d", 1), ("m", 0), ("b", -1)), 2):
        place = page.evaluate("upcoming[0].part")
        assert page.locator("#samples li").count() == min(12, len(PARTS[place].inner))
        page.keyboard.press(key)
        assert page.inner_text("#step") == f"Question {step} of about 8"
        again |= {place} & {*said}
        said[place] = value
        asked.append(place)
    assert len(said) > 2
    now = expit(learned(Answers(said, {}, frozenset(again))).log_odds)
    assert counts(page) == (sum(now <= 0.5), sum(now > 0.5))
    page.reload()
    rows = table(page, tmp_path / "reviewed.csv")
    words = {-1: "yes", 1: "no", 0: "mixed"}
    for i, row in enumerate(rows[:60]):
        group = max((place for place in asked if i in PARTS[place].rows), default=None)
        assert (row["group_answer"], row["answer"]) == (words.get(said.get(group), ""), "")
        assert float(row["reviewed_probability"]) == pytest.approx(now[i], abs=1e-3)
        moved = row["keep"] != str(ROWS[i].keep).lower()
        assert row["keep"] == ("true" if now[i] <= 0.5 else "false")
        assert (row["reason"] == "learned from answers in review") == moved
    page.keyboard.press("q")
    for _ in asked:
        page.keyboard.press("u")
    assert page.evaluate("upcoming[0].part") == asked[0] and counts(page) == expected(0.5)
    assert same(exported(page, tmp_path / "reviewed.csv"), ROWS)


def test_reviewed_images_are_answers(visit, tmp_path):
    page = visit(view=ASKING)
    page.keyboard.press("n")
    row = page.evaluate("currentRow()")
    page.keyboard.press("k")
    found = page.evaluate("[...probability].slice(0, 60)")
    np.testing.assert_allclose(found, expit(learned(Answers({}, {row: -1})).log_odds), atol=1e-3)
    rows = table(page, tmp_path / "reviewed.csv")
    assert [i for i, one in enumerate(rows) if one["answer"]] == [row] and rows[row]["answer"] == "yes"


def test_reviewed_images_are_no_questions(visit):
    page = visit(view=ASKING)
    page.keyboard.press("n")
    for key in "kdk":
        page.keyboard.press(key)
    assert page.inner_text("#step") == "Question 1 of about 8"
    page.keyboard.press("q")
    page.keyboard.press("b")
    assert page.inner_text("#step") == "Question 2 of about 8"


def test_all_that_was_answered_comes_back_from_the_export(visit, tmp_path):
    near = np.random.default_rng(1).normal(0, 0.3, (300, 6)).astype(np.float32)
    vectors = np.repeat(VECTORS, 5, axis=0) + near
    model = RobustVQVAE(epochs=0, random_state=0).fit(vectors)
    rows = [scored(f"{i}.png", p, model.threshold_) for i, p in enumerate(model.outlier_probability_)]
    inquiry, cut = model.inquiry_, -model.offset_
    view = View(model.embedding_, vectors[:, :2], model.groups_, inquiry.rules - cut, cut)
    page = visit(rows, threshold=model.threshold_, view=view)
    page.keyboard.press("q")
    asked = []
    while len(asked) < 40 and asked.count("sample") < 2:
        if page.locator("#answered").is_visible():
            page.click("#ask-further")
        part, why = page.evaluate("[upcoming[0].part, upcoming[0].why]")
        asked.append(why)
        mixed = (len(asked) < 4 and inquiry.parts[part].halves) or asked.count("sample") == 2
        page.keyboard.press("m" if mixed else "bdb"[len(asked) % 3])
    said, learned = page.evaluate(
        "[Object.values(said()).map((each) => [...each]), view.rows.map((_, i) => chanceOf(i))]"
    )
    exported(page, tmp_path / "reviewed.csv")
    learn_from(model, tmp_path / "reviewed.csv", [row.path for row in rows])
    parts, samples, confirmed = inquiry.said
    assert [dict(said[0]), dict(said[1]), {*said[2]}] == [parts, samples, confirmed]
    assert confirmed and {0, 1, -1} == {*parts.values()} and len({*samples.values()}) == 2
    assert any(not parts[place] and {*inquiry.parts[place].halves} <= {*parts} for place in parts)
    np.testing.assert_allclose(model.outlier_probability_, learned, atol=1e-3)


def test_single_images_are_asked_about_last(visit, tmp_path):
    page = visit(view=ASKING)
    page.keyboard.press("q")
    for step in range(30):
        if page.locator("#answered").is_visible():
            page.click("#ask-further")
        if page.inner_text("#questions-title") == "Does this one belong?":
            break
        page.keyboard.press("d" if step % 2 else "b")
    assert page.locator("#samples li").count() == 1
    row = page.evaluate("upcoming[0].sample")
    page.keyboard.press("m")
    assert page.evaluate("upcoming[0].sample") != row
    page.keyboard.press("d")
    rows = table(page, tmp_path / "reviewed.csv")
    assert rows[row]["answer"] == "mixed" and [one["answer"] for one in rows].count("no") == 1
    page.keyboard.press("u")
    page.keyboard.press("u")
    assert page.evaluate("upcoming[0].sample") == row


def test_no_question_is_asked_that_changes_nothing(visit):
    rows = [scored(row.path, 1e-4) for row in ROWS[:60]]
    page = visit(rows, view=ASKING._replace(log_odds=np.full(60, -9.2)))
    assert page.locator("#answered").is_visible() and page.locator("#asked").is_hidden()
    page.keyboard.press("q")
    page.keyboard.press("d")
    assert counts(page) == (60, 0)
    page.click("#ask-further")
    assert page.inner_text("#step") == "Question 1 of about 8"
    assert page.inner_text("#gain") == "Three more answers would change hardly any image."
    page.keyboard.press("b")
    assert counts(page) == (60, 0)


def test_an_answer_by_which_nothing_belongs_is_not_taken(visit, tmp_path):
    page = visit(
        [scored(row.path, 0.9) for row in ROWS[:60]], view=ASKING._replace(log_odds=np.full(60, 2.2))
    )
    page.keyboard.press("q")
    page.keyboard.press("d")
    # Until answers are about half of the images, as many are kept.
    assert "nothing would belong" not in page.inner_text("#effect") and counts(page)[0] == 30
    step = page.inner_text("#step")
    page.keyboard.press("d")
    assert "nothing would belong" in page.inner_text("#effect") and page.inner_text("#step") == step
    said = {row["group_answer"] for row in table(page, tmp_path / "reviewed.csv")}
    assert "foreign" in said or len(said) > 1


GIVEN = Answers({0: 1, 1: -1, 4: 0}, {1: 1, 30: -1, 7: 0})


def test_a_page_begins_with_the_answers_that_it_was_given(visit, tmp_path):
    cut = np.log(2)
    now = expit(learn(SPACE, PARTS, LOG_ODDS - cut, GIVEN).log_odds + cut)
    rows = [*(scored(name, p, 2 / 3) for name, p in zip(NAMES, now, strict=True)), UNREADABLE, DUPLICATE]
    view = ASKING._replace(said=GIVEN, log_odds=LOG_ODDS - cut, cut=cut)
    page = visit(rows, threshold=2 / 3, view=view)
    assert page.evaluate("probability === modelled") and page.locator("#undo").is_disabled()
    np.testing.assert_allclose(page.evaluate("view.rows.map((_, i) => chanceOf(i))"), now, atol=1e-3)
    first = table(page, tmp_path / "reviewed.csv")
    assert [first[i]["answer"] for i in (1, 30, 7, 8)] == ["no", "yes", "mixed", ""]
    assert [row["keep"] for row in first[:60]] == [str(row.keep).lower() for row in rows[:60]]
    # A later answer counts, and only that is taken back; one that is opened again is said to be open.
    page.evaluate("toggle(20, false)")
    assert page.evaluate("probability !== modelled") and page.locator("#undo").is_enabled()
    page.keyboard.press("u")
    assert page.evaluate("probability === modelled") and page.locator("#undo").is_disabled()
    page.evaluate("toggle(30, true)")
    assert table(page, tmp_path / "reviewed.csv")[30]["answer"] == "mixed"


def test_the_page_names_both_ways_to_apply_it(visit):
    commands = visit(view=ASKING).locator("#apply code").all_inner_texts()
    assert [text.split(" reviewed.csv")[0] for text in commands] == [
        "rvqvae clean --manifest",
        "rvqvae clean --answers",
    ]
    assert visit(view=VIEW).locator("#apply code:visible").count() == 1


def test_nothing_is_asked_without_groups(visit):
    page = visit(view=VIEW)
    assert page.locator("#questions").is_hidden()
    page.keyboard.press("b")
    page.keyboard.press("q")
    assert counts(page) == expected(0.5)
