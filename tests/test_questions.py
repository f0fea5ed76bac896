"""What an estimator asks, what answers make of its fit, and the command line's two ways to give them."""

import csv
import json
import re
import sys
from io import StringIO

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from rvqvae import InputError, RobustVQVAE
from rvqvae.commands.answer import read_answers
from rvqvae.commands.main import main
from rvqvae.commands.terminal import ask_in_terminal, half_blocks
from rvqvae.io.pictures import Side
from rvqvae.io.sources import open_source
from rvqvae.membership.answers import Quantised
from rvqvae.membership.decision import Interval
from rvqvae.questions import EXAMPLES, Inquiry, outlook

KINDS, FOREIGN = 6, 5


def draw(n, seed):
    """Vectors of six kinds, as far from one another, and which are of the one that a person calls foreign."""
    centres = 4 * np.random.default_rng(0).normal(size=(KINDS, 10))
    rng = np.random.default_rng(seed)
    kind = rng.integers(KINDS, size=n)
    return (centres[kind] + rng.normal(size=(n, 10))).astype(np.float32), kind == FOREIGN


X, FOREIGN_ROWS = draw(600, 1)


@pytest.fixture(scope="module")
def plain():
    return RobustVQVAE(epochs=0, random_state=0).fit(X)


@pytest.fixture
def fitted(plain, tmp_path):
    """A fit of its own for each test."""
    plain.save(tmp_path / "plain")
    return RobustVQVAE.load(tmp_path / "plain")


def truth(rows):
    return bool(FOREIGN_ROWS[rows].mean() < 0.5)


def taught(model, n=12):
    for _ in range(n):
        question = model.ask(1)[0]
        model.answer({question.id: truth(question.rows)})
    return model


def test_a_few_answers_settle_what_no_rule_can_know(fitted):
    assert (fitted.inlier_mask_ == FOREIGN_ROWS).mean() > 0.1
    taught(fitted)
    assert (~fitted.inlier_mask_ == FOREIGN_ROWS).all() and fitted.verdict_ == "contaminated"
    low, high = fitted.contamination_interval_
    assert low <= fitted.contamination_ == FOREIGN_ROWS.mean() <= high < 0.35
    assert np.array_equal(fitted.inlier_mask_, fitted.scores_ >= fitted.offset_)
    new, foreign = draw(300, 2)
    assert ((fitted.predict(new) < 0) == foreign).mean() > 0.99
    assert roc_auc_score(foreign, -fitted.score_samples(new)) > 0.99


def test_questions_say_what_they_are_about(fitted):
    questions = fitted.ask(40)
    assert len({q.id for q in questions}) == len(questions) == 40 and len(fitted.ask()) == 8
    for q in questions:
        assert len(q.rows) and q.reason and q.gain >= 0 and q.id.startswith(fitted.inquiry_.run)
        assert {*q.examples} <= {*q.rows} and 1 <= len(q.examples) <= EXAMPLES
        assert q.probability == pytest.approx(fitted.outlier_probability_[q.rows].mean())
    assert len(questions[0].rows) > 1 == len(questions[-1].rows)
    gain = sum(q.gain for q in questions[:3])
    assert outlook(questions[:3]) == f"3 more answers would change about {gain:.0f} images."
    assert outlook([]) == "No further answer is expected to set an image right."


def test_an_answer_holds_until_a_later_one_and_a_row_before_its_group(fitted):
    question = next(q for q in fitted.ask(20) if len(q.rows) > 3)
    fitted.answer({question.id: False})
    assert not fitted.inlier_mask_[question.rows].any()
    row = int(question.rows[0])
    fitted.answer({np.int64(row): True})
    assert fitted.inlier_mask_[row] and not fitted.inlier_mask_[question.rows[1:]].any()
    with pytest.warns(UserWarning, match="was answered False before, and is now True"):
        fitted.answer({question.id: True})
    assert fitted.inlier_mask_[question.rows].all()
    assert fitted.answers_ == {question.id: True, row: True}
    fitted.set_contamination(0.4)
    assert fitted.inlier_mask_[question.rows].all()


def test_an_answer_to_the_whole_replaces_those_to_its_parts(fitted):
    question = next(q for q in fitted.ask(20) if fitted.inquiry_.parts[int(q.id.split("-g")[1])].halves)
    fitted.answer({question.id: None})
    place = int(question.id.split("-g")[1])
    half = f"{fitted.inquiry_.run}-g{fitted.inquiry_.parts[place].halves[0]}"
    assert half in {q.id for q in fitted.ask(99)} and question.id not in {q.id for q in fitted.ask(99)}
    fitted.answer({half: False})
    with pytest.warns(UserWarning) as said:
        fitted.answer({question.id: True})
    assert any("a part of it" in str(w.message) for w in said)
    assert fitted.answers_ == {question.id: True} and fitted.inlier_mask_[question.rows].all()


def test_answers_survive_save_load_and_clone(plain, fitted, tmp_path):
    taught(fitted)
    fitted.save(tmp_path / "model")
    loaded = RobustVQVAE.load(tmp_path / "model")
    assert loaded.answers_ == fitted.answers_ and np.array_equal(loaded.scores_, fitted.scores_)
    assert np.array_equal(loaded.score_samples(X[:50]), fitted.score_samples(X[:50]))
    assert [q.id for q in loaded.ask()] == [q.id for q in fitted.ask()]
    again = clone(fitted).fit(X)
    assert again.answers_ == fitted.answers_ and np.array_equal(again.inlier_mask_, fitted.inlier_mask_)
    assert clone(fitted).fit(X[::-1]).answers_ == {} == clone(plain).fit(X).answers_


@pytest.mark.parametrize(
    "answers, message",
    [
        ({600: True}, "has 600 rows"),
        ({-1: True}, "has 600 rows"),
        ({True: True}, "is no question"),
        ({"g0": True}, "is no question"),
        ({"00000000-g0": True}, "another run"),
        ({0: "yes"}, "give True, False or None"),
        (dict.fromkeys(range(600), False), "nothing would belong"),
    ],
)
def test_bad_answers_lose_nothing(fitted, answers, message):
    fitted.answer({3: False})
    scores = fitted.scores_.copy()
    with pytest.raises(InputError, match=message):
        fitted.answer({4: False} | answers)
    assert fitted.answers_ == {3: False} and np.array_equal(fitted.scores_, scores)
    assert not fitted.inlier_mask_[3]
    with pytest.raises(InputError, match="ask for 1"):
        fitted.ask(0)


def test_every_group_foreign_is_refused(fitted):
    run, parts = fitted.inquiry_.run, fitted.inquiry_.parts
    groups = {f"{run}-g{place}": False for place, part in enumerate(parts) if part.first}
    with pytest.raises(InputError, match="nothing would belong"):
        fitted.answer(groups)
    assert fitted.answers_ == {}


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    """The folders of 80 discs of four sizes, and of their cleaning."""
    root = tmp_path_factory.mktemp("cleaned")
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    y, x = np.ogrid[:16, :16]
    for i in range(80):
        disc = (y - 8) ** 2 + (x - rng.integers(6, 10)) ** 2 < (2 + i % 4) ** 2
        pixels = np.clip(180 * disc + rng.normal(20, 8, (16, 16)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{i:02d}.png")
    assert main(["clean", str(root / "photos"), "--out", str(root / "out"), "--no-train"]) == 0
    return root


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def reviewed(root, answers, groups=(), **changes):
    """A file as the page exports it."""
    run = RobustVQVAE.load(root / "out" / "model").inquiry_.run
    rows = rows_of(root / "out" / "manifest.csv")
    for row in rows:
        row |= {"answer": answers.get(row["path"], ""), "group": "", "group_answer": "", "run": run} | changes
    for row, (group, answer) in zip(rows, groups, strict=False):
        row |= {"group": group, "group_answer": answer}
    with (root / "reviewed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(root / "reviewed.csv")


def command(root, *more):
    return main(["clean", str(root / "photos"), "--out", str(root / "out"), "--no-train", *more])


def test_the_command_learns_from_a_reviewed_manifest(cleaned, capsys):
    before = {row["path"]: row for row in rows_of(cleaned / "out" / "manifest.csv")}
    answers = {"03.png": "no", "07.png": "no", "00.png": "yes"}
    path = reviewed(cleaned, answers, groups=[("0", "yes")])
    capsys.readouterr()
    assert command(cleaned, "--answers", path) == 0
    said = capsys.readouterr().out
    after = {row["path"]: row for row in rows_of(cleaned / "out" / "manifest.csv")}
    assert after["03.png"]["keep"] == after["07.png"]["keep"] == "false" != after["00.png"]["keep"]
    assert "outlier" in after["03.png"]["reason"] and "outlier" not in after["00.png"]["reason"]
    dropped = sum(before[p]["keep"] == "true" != after[p]["keep"] for p in before)
    assert f"1 answers about groups and 3 about images: {dropped} that were kept are dropped" in said
    summary = json.loads((cleaned / "out" / "summary.json").read_text())
    assert summary["answers"] == {"groups": 1, "images": 3}
    assert summary["dropped"] == sum(row["keep"] == "false" for row in after.values())
    model = RobustVQVAE.load(cleaned / "out" / "model")
    assert len(model.answers_) == 4 and model.metadata_["size"] == [16, 16]
    # Again, nothing changes, and what was said before is not said anew.
    assert command(cleaned, "--answers", path) == 0
    assert ": 0 that were kept are dropped, 0 that were dropped are kept" in capsys.readouterr().out
    path = reviewed(cleaned, {"00.png": "no"})
    assert command(cleaned, "--answers", path) == 0
    assert "'00.png' was answered 'yes', and is now 'no'" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"run": "00000000"}, "line 2: these are answers about run '00000000'"),
        ({"answer": "maybe"}, "line 2: answer 'maybe' is none"),
        ({"path": "strange.png"}, "line 2: 'strange.png' is no image that this run"),
        ({"group": "999", "group_answer": "no"}, "line 2: group '999' is none of the "),
        ({"group": "one", "group_answer": "no"}, "line 2: group 'one' is none of the "),
        ({"answer": ""}, "holds no answer: answer on the page"),
    ],
)
def test_answers_that_do_not_fit_are_refused(cleaned, capsys, changes, message):
    path = reviewed(cleaned, {f"{i:02d}.png": "yes" for i in range(80)}, **changes)
    before = (cleaned / "out" / "manifest.csv").read_bytes()
    capsys.readouterr()
    assert command(cleaned, "--answers", path) == 2
    assert message in capsys.readouterr().err
    assert (cleaned / "out" / "manifest.csv").read_bytes() == before


def test_a_manifest_without_answers_is_none(cleaned):
    with pytest.raises(InputError, match="lacks the column 'answer'"):
        read_answers(
            cleaned / "out" / "manifest.csv", RobustVQVAE.load(cleaned / "out" / "model").inquiry_, []
        )


@pytest.fixture
def keen(monkeypatch):
    """No question is too little to ask; what is typed, in turn."""
    monkeypatch.setattr("rvqvae.membership.answers.WORTH", 0.0)
    monkeypatch.setattr("rvqvae.commands.terminal.WORTH", 0.0)

    def type_in(*words):
        typed = iter(words)
        monkeypatch.setattr("builtins.input", lambda _: next(typed))

    return type_in


def test_the_command_asks_in_the_terminal(cleaned, capsys, keen):
    given = RobustVQVAE.load(cleaned / "out" / "model").answers_
    keen("what", "u", "m", "y", "u", "y", "q")
    assert command(cleaned, "--ask") == 0
    said = capsys.readouterr().out
    assert "Question 1 of about 8: do these" in said and "Type y, n, m or q." in said
    assert [line.split()[1] for line in said.splitlines() if line.startswith("Question")] == [*"12323"]
    assert ".png" in said and "Learned from" in said
    assert len(RobustVQVAE.load(cleaned / "out" / "model").answers_) == len(given) + 2


def test_terminals_are_shown_pictures(cleaned, keen, monkeypatch):
    found = RobustVQVAE.load(cleaned / "out" / "model")
    screen = Console(file=StringIO(), force_terminal=True, color_system="truecolor", width=80)
    monkeypatch.setattr("rvqvae.commands.terminal.Console", lambda: screen)
    monkeypatch.setitem(sys.modules, "textual_image.renderable", None)
    keen("q")
    names = [f"{i:02d}.png" for i in range(80)]
    with open_source(cleaned / "photos") as source:
        ask_in_terminal(found, names, source, Side((16, 16), 1))
    lines = screen.file.getvalue().splitlines()
    assert len(lines) > 20 and {line.count("▀") for line in lines} <= {0, 80}


def test_half_blocks_are_pixels_two_by_two():
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 2, 3))
    text = half_blocks(picture, 2)
    assert text.plain == "▀▀\n▀▀\n"
    seen = np.array([[part.style.color.triplet, part.style.bgcolor.triplet] for part in text.spans])
    assert np.array_equal(
        seen.reshape(2, 2, 2, 3).transpose(0, 2, 1, 3).reshape(4, 2, 3), np.asarray(picture)
    )


def page_of(root):
    text = (root / "out" / "report.html").read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def test_the_page_follows_the_answers(cleaned):
    rules = page_of(cleaned)["view"]["log_odds"]
    assert command(cleaned, "--answers", reviewed(cleaned, {"05.png": "no"}, groups=[("1", "yes")])) == 0
    data, rows = page_of(cleaned), rows_of(cleaned / "out" / "manifest.csv")
    model = RobustVQVAE.load(cleaned / "out" / "model")
    assert data["columns"] == {name: [row[name] for row in rows] for name in rows[0]}
    assert ["image", [5], False] in data["given"] and ["part", 1, -1] in data["given"]
    assert len(data["given"]) == len(model.answers_) + len(model.inquiry_.said.confirmed)
    assert data["view"]["log_odds"] == rules and data["view"]["run"] == model.inquiry_.run
    kept = sum(row["keep"] == "true" for row in rows)
    assert f'<dd id="count-kept">{kept}</dd>' in (cleaned / "out" / "report.html").read_text()


def test_a_page_of_another_version_stays(cleaned, capsys):
    page = cleaned / "out" / "report.html"
    before = page.read_text()
    page.write_text(old := before.replace("sha256-", "sha256-0"))
    assert command(cleaned, "--answers", reviewed(cleaned, {"11.png": "no"})) == 0
    assert "report.html is of another version, and stays" in capsys.readouterr().out
    assert page.read_text() == old
    assert {row["path"]: row for row in rows_of(cleaned / "out" / "manifest.csv")}["11.png"][
        "keep"
    ] == "false"
    page.write_text(before)


def test_lines_that_contradict_each_other_are_told(cleaned, capsys):
    path = reviewed(cleaned, {}, groups=[("2", "yes"), ("2", "no")])
    assert command(cleaned, "--answers", path) == 0
    assert "line 3: 'no' contradicts an earlier line: the later counts" in capsys.readouterr().out
    model = RobustVQVAE.load(cleaned / "out" / "model")
    assert model.answers_[f"{model.inquiry_.run}-g2"] is False


def test_answers_are_taken_back_one_call_at_a_time(fitted):
    scores = fitted.scores_.copy()
    fitted.answer({3: False}).answer({4: False})
    assert fitted.undo().answers_ == {3: False} and not fitted.inlier_mask_[3]
    assert fitted.undo().answers_ == {}
    np.testing.assert_allclose(fitted.scores_, scores)
    with pytest.raises(InputError, match="no answer to take back"):
        fitted.undo()


def test_a_wrong_answer_about_a_sample_does_not_end_the_doubt():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 4)).astype(np.float32)
    inquiry = Inquiry(Quantised.of(vectors), np.arange(500) // 50, np.full(500, -8.0))
    inquiry.answer({0: False, **dict.fromkeys(range(1, 20), True)}, 0.0)
    low, high = inquiry.interval(0.0, (-2.0, 2.0))
    assert low == 0 < high < 0.2
    inquiry.answer({row: row >= 200 for row in range(500)}, 0.0)
    assert inquiry.interval(0.0, (-2.0, 2.0)) == (0.4, 0.4)


def test_the_doubt_ends_sooner_where_the_suspicious_all_belong(monkeypatch):
    doubts = []
    monkeypatch.setattr(
        "rvqvae.questions.rate_interval", lambda odds, doubt: doubts.append(doubt) or Interval(0, 0)
    )
    vectors = Quantised.of(np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32))
    suspicious, usual = (dict.fromkeys(range(start, start + 16), True) for start in (480, 0))
    for wrong in ({}, {490: False}, {490: False, 491: False}):
        inquiry = Inquiry(vectors, np.arange(500) // 50, np.linspace(-8, -2, 500))
        inquiry.answer(suspicious | wrong, 0.0)
        inquiry.interval(0.0, (-2.0, 4.0))
    inquiry = Inquiry(vectors, np.arange(500) // 50, np.linspace(-8, -2, 500))
    inquiry.answer(usual, 0.0)
    inquiry.interval(0.0, (-2.0, 4.0))
    (_, nothing), (_, one), (_, two), (_, not_looked_at) = doubts
    assert nothing == one < two < not_looked_at == 4.0  # one answer may be wrong
