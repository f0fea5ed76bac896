"""The suite: how sets are drawn, what a simulated user answers, what the figures are, the whole command."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from pipelines import ablate_judge, suite
from pipelines.common.domains import Folder, Scenario
from pipelines.judging import mixtures, own, peers, tables
from pipelines.judging.cases import Case, Decision, Row
from pipelines.judging.own import OWN
from pipelines.judging.review import LIBRARIES, REVIEWERS, Review, User, settled
from pipelines.judging.tabular import Tables
from pipelines.train_judge import TABLE, read_table
from rvqvae import RobustVQVAE
from rvqvae.errors import InputError
from rvqvae.features.pretrained import extract_views
from rvqvae.membership import Judge

FAR = {"id": "far-0", "kind": "far", "inliers": {"domain": "rings"}, "outliers": [{"domain": "bars"}]}
FAR |= {"rate": 0.2, "n": 120, "seed": 5}
CLEAN = FAR | {"id": "clean-1", "kind": "clean", "outliers": [], "rate": 0.0, "n": 100}
NEAR = {"id": "near-2", "kind": "near", "inliers": {"domain": "rings", "classes": [0]}}
NEAR |= {"outliers": [{"domain": "rings", "classes": [1, 2]}], "rate": 0.1, "n": 40, "seed": 7}
SCATTER = FAR | {"id": "scatter-3", "kind": "scatter", "outliers": [{"domain": "bars"}, {"domain": "dots"}]}
SCATTER |= {"rate": 0.05}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three domains of 120 images of 16 pixels, one of them grey, and four scenarios."""
    place = tmp_path_factory.mktemp("domains")
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.arange(16), np.arange(16))
    for name in ("rings", "bars", "dots"):
        made = []
        for i in range(120):
            x, y, size = *rng.uniform(6, 10, 2), 2 + 0.5 * (i % 3)
            distance = np.hypot(across - x, down - y)
            shape = {
                "rings": abs(distance - size) < 1,
                "bars": abs(across - x) < size,
                "dots": distance < size / 2,
            }
            made.append(np.clip(200 * shape[name] + rng.normal(20, 8, (16, 16)), 0, 255))
        grey = np.array(made).astype(np.uint8)
        images = grey if name == "rings" else np.stack([grey, grey // 2, grey // 3], 3)
        kinds = {"y": np.arange(120) % 3} if name != "dots" else {}
        np.savez(place / f"{name}.npz", x=images, **kinds)
    (place / "scenarios.json").write_text(json.dumps([FAR, CLEAN, NEAR, SCATTER]))
    return place


@pytest.fixture(scope="module")
def case(root, tmp_path_factory):
    folder = Folder(root)
    return Case.of(folder, folder.scenarios()[0], tmp_path_factory.mktemp("views"))


def test_a_folder_gives_its_sets(root):
    folder = Folder(root)
    far, clean, near, scatter = folder.scenarios()
    images, truth = folder.draw(far)
    assert images.shape == (120, 16, 16) and images.dtype == np.uint8 and truth.sum() == 24
    inliers = {image.tobytes() for image in folder.domain("rings").images}
    assert all((image.tobytes() in inliers) != out for image, out in zip(images, truth, strict=True))
    again, _ = folder.draw(far)
    assert (again == images).all()
    assert not folder.draw(clean)[1].any()
    images, truth = folder.draw(near)
    kinds = {image.tobytes(): kind for image, kind in zip(*folder.domain("rings"), strict=True)}
    assert all((kinds[image.tobytes()] == 0) != out for image, out in zip(images, truth, strict=True))
    assert folder.draw(scatter)[1].sum() == 6


def test_relatives_are_left_out_together():
    def families(inliers, outliers, beside=""):
        parts = [{"domain": name} for name in outliers]
        return Scenario("", "", {"domain": inliers}, parts, 0.1, 9, 0, beside).families

    assert families("icons_oxygen", ["surface"]) == {"icons", "materials"}
    assert families("units", ["glyph_digits", "cards"]) == {"wesnoth"}
    assert families("cards", ["shapes"], "textures") == {"cards", "shapes", "materials"}


def test_scenarios_without_their_domains_are_left_out(root, tmp_path):
    for name in ("rings", "bars"):
        (tmp_path / f"{name}.npz").write_bytes((root / f"{name}.npz").read_bytes())
    (tmp_path / "scenarios.json").write_text((root / "scenarios.json").read_text())
    assert [s.id for s in Folder(tmp_path).scenarios()] == ["far-0", "clean-1", "near-2"]
    with pytest.raises(InputError, match="that can be read"):
        Folder(tmp_path / "none").scenarios()


def test_our_own_sets_are_what_they_are_called(root):
    folder = Folder(root)
    made = mixtures.own_scenarios(folder)
    assert {s.kind for s in made} == set(mixtures.DRAWS) and len({s.id for s in made}) == len(made)
    for scenario in made:
        images, truth = mixtures.draw(folder, scenario)
        assert images.shape[1:] == folder.domain(scenario.inliers["domain"]).images.shape[1:]
        assert len(images) == len(truth) and abs(truth.mean() - scenario.rate) < 0.02
        if scenario.kind == "corrupted":
            known = {image.tobytes() for image in folder.domain(scenario.inliers["domain"]).images}
            assert [image.tobytes() not in known for image in images] == truth.tolist()


@pytest.mark.parametrize(
    ("share", "right"), [(0.0, True), (0.2, True), (0.5, None), (0.8, False), (1.0, False)]
)
def test_the_user_answers_by_the_majority(share, right):
    truth = np.arange(100) < 100 * share
    assert User(truth, 0.0, 0).belongs(np.arange(100)) is right


def test_the_user_errs_as_often_as_told():
    truth = np.arange(2000) % 2 == 0
    user = User(truth, 0.1, 3)
    said = user.outliers(np.arange(2000))
    assert (said != truth).sum() == user.wrong and abs(user.wrong / user.answers - 0.1) < 0.02
    assert (User(truth, 0.1, 3).outliers(np.arange(2000)) == said).all()


def test_reviewed_images_are_settled():
    score, out = np.array([3.0, 1.0, 2.0]), np.array([True, False, False])
    said = settled(score, out, np.array([0, 1]), np.array([False, True]))
    assert said.is_outlier.tolist() == [False, True, False] and np.argsort(said.score).tolist() == [0, 2, 1]


def test_off_topic_ranks_small_branches_first(case):
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal([9, 1], 0.1, (20, 2)), rng.normal([1, 9], 0.1, (3, 2))])
    lone = Case(case.scenario, case.samples[:23], case.is_outlier[:23], case.cache)
    lone.views = [np.zeros((23, 1)), features]
    assert set(np.argsort(-peers.off_topic(lone))[:3]) == {20, 21, 22}


def test_rows_are_an_obvious_count(case):
    rng = np.random.default_rng(0)
    said = Decision(rng.random(120), rng.random(120) < 0.3, interval=(0.1, 0.3), asked=rng.random(120) < 0.2)
    row = case.row("m", said, 1.0, 2, 3)
    truth = case.is_outlier.tolist()
    out, asked = said.is_outlier.tolist(), said.asked.tolist()
    assert row.left_in == sum(t and not o for t, o in zip(truth, out, strict=True)) / 24
    assert row.thrown_out == sum(o and not t for t, o in zip(truth, out, strict=True)) / 96
    assert row.reached == sum(t and (o or a) for t, o, a in zip(truth, out, asked, strict=True)) / 24
    pairs = [
        s > r
        for s, t in zip(said.score, truth, strict=True)
        if t
        for r, u in zip(said.score, truth, strict=True)
        if not u
    ]
    assert row.auroc == pytest.approx(np.mean(pairs)) and (row.groups, row.singles) == (2, 3)


def test_ours_is_what_ships(case):
    """Views that are kept, and a judge of our own, change nothing where nothing is left out."""
    case.views = extract_views(case.samples)
    (stage, *_) = OWN["rvqvae"](case, User(case.is_outlier, 0.0, 0), Review(), False)
    est = RobustVQVAE(epochs=0, prior_epochs=0, random_state=case.seed).fit(case.samples)
    assert (stage.said.score == -est.scores_).all() and stage.said.verdict == est.verdict_
    assert stage.said.interval == est.contamination_interval_


def test_the_judge_has_not_learned_from_the_families(case):
    """The twin: cut the table by hand, and fit."""
    found, known = own.left_out(frozenset({"cards", "icons"}), "images"), own.table()
    sets = [i for i, f in enumerate(known.families) if not {"cards", "icons"} & set(f.split(","))]
    rows = np.isin(known.set, sets)
    assert 0 < rows.mean() < 1
    columns = [list(known.names).index(name) for name in found.names]
    twin = Judge.fit(
        list(found.names),
        known.x[rows][:, columns].astype(float),
        known.y[rows],
        known.weight[rows],
        known.set[rows],
    )
    table = np.random.default_rng(0).normal(size=(50, len(found.names)))
    assert found(table, list(found.names)) == pytest.approx(twin(table, list(found.names)))


def test_questions_keep_to_their_budget(case):
    class Counting(User):
        asked: ClassVar[list[int]] = []

        def belongs(self, rows):
            self.asked.append(len(rows))
            return super().belongs(rows)

    user = Counting(case.is_outlier, 0.0, 0)
    stages = list(OWN["rvqvae"](case, user, Review(3, 7, 0.0), True))
    assert [(stage.groups, stage.singles) for stage in stages] == [(0, 0), (3, 0), (3, 7)]
    assert sum(n > 1 for n in user.asked) <= 3 and sum(n == 1 for n in user.asked) == 7
    wrong = [(s.said.is_outlier != case.is_outlier).mean() for s in stages]
    assert wrong[-1] <= wrong[0]


def row_of(name, rate, **given):
    kind = "clean" if rate == 0 else "far"
    blank = Row(name, kind, "a/b", rate, 100, "m", 0, 0, *[float("nan")] * 6, "", 0.5)
    return blank._replace(**given)


def test_a_summary_counts_each_set_once():
    rows = [
        row_of("a", 0.2, auroc=0.9, left_in=0.5, thrown_out=0.1, low=0.1, high=0.3, verdict="clean"),
        row_of("b", 0.1, auroc=0.7, left_in=0.1, thrown_out=0.0, low=0.2, high=0.3, verdict="contaminated"),
        row_of("c", 0.0, thrown_out=0.4, low=0.0, high=0.05, verdict="contaminated"),
    ]
    found = tables.summarise(rows)
    assert (found.sets, found.contaminated, found.clean) == (3, 2, 1)
    assert found.auroc == pytest.approx(0.8) and found.left_in == pytest.approx(0.3)
    assert found.thrown_out == pytest.approx(0.5 / 3) and found.worst == found.clean_worst == 0.4
    assert found.holds == pytest.approx(2 / 3) and found.width == pytest.approx(0.1)
    assert (found.false_clean, found.false_contaminated, found.said_clean) == (1, 1, 0)


def test_calibration_bins_hold_everything():
    said, truth = np.array([0.0, 0.01, 0.4, 0.97, 1.0]), np.array([False, True, False, True, True])
    found = tables.calibration(said, truth, np.array([1.0, 3, 1, 1, 1]))
    assert found[0][2:] == pytest.approx((0.0075, 0.75, 4 / 7)) and found[-1][3] == 1.0
    assert sum(line[-1] for line in found) == pytest.approx(1)


def test_the_whole_command(root, tmp_path, capsys):
    out = tmp_path / "out"
    given = {
        "root": str(root),
        "out": str(out),
        "views": str(tmp_path / "views"),
        "processes": 1,
        "tracking": False,
    }
    pytest.importorskip("pythresh", reason="in the dependency group peers")
    suite.suite(**given, methods=("rvqvae", "ellipsoid+IQR"), limit=2)
    assert "rvqvae, by kind" in capsys.readouterr().out
    first = (out / "rows.csv").read_text()
    suite.suite(**given, methods=("rvqvae", "ellipsoid+IQR", "SelfClean"), limit=2)
    both = (out / "rows.csv").read_text()
    assert both.startswith(first) and both.count("SelfClean") == 2
    assert {"table.md", "calibration.png", "wrong.png"} <= {path.name for path in out.iterdir()}
    with pytest.raises(InputError, match="another experiment"):
        suite.suite(**given, answers=3)


def test_what_cannot_be_measured_is_said_first(root, tmp_path):
    given = {"root": str(root), "out": str(tmp_path / "out")}
    for bad, word in [
        ({"methods": ("nobody",)}, "nobody"),
        ({"reviewers": ("nobody",), "answers": 5}, "nobody"),
        ({"methods": ()}, "nothing to measure"),
        ({"error": 0.7}, "error"),
        ({"limit": 0}, "limit"),
    ]:
        with pytest.raises(InputError, match=word):
            suite.suite(**given, **bad)
    assert not Path(given["out"]).exists()


@pytest.mark.parametrize("name", [*peers.SCORES, *REVIEWERS])
def test_each_peer_says_something(case, name):
    library = (peers.LIBRARIES | LIBRARIES).get(name, "sklearn")
    pytest.importorskip(library, reason="in the dependency group peers")
    pytest.importorskip("pythresh", reason="in the dependency group peers")
    if name in REVIEWERS:
        user = User(case.is_outlier, 0.0, 0)
        said = REVIEWERS[name](case, user, 10)
        assert user.answers == 10
    else:
        said = peers.decide(name, case)
    assert said.score.shape == (120,) and np.isfinite(said.score).all()
    assert said.is_outlier is None or said.is_outlier.shape == (120,)


def test_tables_are_made_of_classes():
    source = Tables()
    scenarios = source.scenarios()
    assert len(scenarios) >= 10
    for scenario in scenarios:
        if scenario.id.startswith("PyOD"):
            pytest.importorskip("pyod", reason="in the dependency group peers")
        x, truth = source.draw(scenario)
        assert len(x) == len(truth) and np.isfinite(x).all() and 0.08 < truth.mean() < 0.12
    wine, truth = source.draw(next(s for s in scenarios if s.id == "wine, 0 rare"))
    assert truth.sum() == round((178 - 59) / 9) and wine.mean(0) == pytest.approx(np.zeros(13), abs=1e-9)


def test_answers_end_in_a_table_and_a_figure(root, tmp_path):
    pytest.importorskip("pythresh", reason="in the dependency group peers")
    out = tmp_path / "out"
    given = {"root": str(root), "out": str(out), "views": str(tmp_path / "views"), "processes": 1}
    suite.suite(**given, limit=1, answers=2, images=2, reviewers=("top of the list",), tracking=False)
    assert "## With answers" in (out / "table.md").read_text() and (out / "answers.png").exists()
    rows = [line.split(",")[5:8] for line in (out / "rows.csv").read_text().splitlines()[1:]]
    assert rows == [
        ["rvqvae", "0", "0"],
        ["rvqvae", "2", "0"],
        ["rvqvae", "2", "2"],
        ["top of the list", "0", "4"],
    ]


def test_evidence_is_worth_what_the_judge_loses_without_it(tmp_path, monkeypatch):
    known = read_table(Path(__file__).parents[1] / TABLE)
    rows = known.set < 25
    few = known._replace(
        x=known.x[rows], y=known.y[rows], set=known.set[rows], kind=known.kind[:25],
        families=known.families[:25], doubt={},
    )  # fmt: skip
    monkeypatch.setattr(ablate_judge, "read_table", lambda path: few)
    monkeypatch.setattr(
        ablate_judge,
        "EVIDENCE",
        {name: ablate_judge.EVIDENCE[name] for name in ("nothing", "absolute distances")},
    )
    ablate_judge.ablate_judge(out=tmp_path / "ablation.md")
    lines = [line.split("|")[1:-1] for line in (tmp_path / "ablation.md").read_text().splitlines()[4:6]]
    (_, none, _, whole, *_), (_, some, _, without, *_) = lines
    assert int(none) == 0 < int(some) < len(known.names)
    assert float(whole) < float(without)
