"""The review page's file: what it holds, and that nothing in it runs or is fetched."""

import base64
import hashlib
import html
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from report_page import (
    ASKING,
    GROUPS,
    HEAT,
    IMAGES,
    LOG_ODDS,
    PROBABILITY,
    ROWS,
    VECTORS,
    VIEW,
    data_of,
    pixels,
    scored,
    summary_of,
    thumbnail,
    write,
)

from rvqvae.errors import InputError
from rvqvae.io.manifest import Row
from rvqvae.io.reading import read_source
from rvqvae.membership.answers import Answers
from rvqvae.report import Pictures, View, heat_maps, review, update_report
from rvqvae.report.pictures import _thumbnail_size, make_sheets
from rvqvae.report.projection import project


def test_page_holds_every_row(tmp_path):
    columns = data_of(write(tmp_path / "report.html"))["columns"]
    assert tuple(columns) == Row._fields
    assert columns["path"] == [row.path for row in ROWS]
    assert columns["reason"] == [row.reason for row in ROWS]
    np.testing.assert_array_equal(
        [float(text) for text in columns["score"][:-2]], [r.score for r in ROWS[:-2]]
    )


def test_page_is_self_contained_and_its_policy_lets_nothing_else_run(tmp_path):
    page = write(tmp_path / "report.html", title="<b>&")
    assert "://" not in page and "//cdn" not in page
    assert not re.search(r"@import|url\((?!#)|<link[^>]+href=\"(?!data:,)|<(script|img)[^>]+src=", page)
    assert "innerHTML" not in page and "<b>&" not in page and "&lt;b&gt;&amp;" in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data: file: 'self';") and "unsafe" not in policy
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_names_cannot_end_the_data(tmp_path):
    page = write(tmp_path / "report.html")
    assert len(re.findall("<script", page)) == len(re.findall("</script", page)) == 2
    assert "<!--" not in page and "onerror=alert(1)>" in data_of(page)["columns"]["path"][6]


def test_same_input_gives_the_same_bytes(tmp_path):
    assert write(tmp_path / "a.html") == write(tmp_path / "b.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_review_belongs_to_its_manifest(tmp_path):
    keys = {data_of(write(tmp_path / "a.html", rows))["run"] for rows in (ROWS, ROWS, ROWS[:-1])}
    assert len(keys) == 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [60, 1001])
def test_every_picture_is_in_a_sheet_inside_the_page_or_beside_it(tmp_path, channels, count):
    rows = [scored(f"{i}.png", i / count) for i in range(count)]
    slope = np.add.outer(np.arange(36), np.arange(48))  # JPEG keeps it
    tones = 7 * np.arange(count)[:, None, None, None] % 120 + 20 * np.arange(channels)[:, None, None]
    images = slope // 2 + tones
    pictures = Pictures(images.astype(np.uint8), np.arange(count))
    data = data_of(write(tmp_path / "report.html", rows, pictures=pictures))
    urls = data["sheets"]["urls"]
    if count > 1000:
        assert urls == [f"report_files/sheet-{i:03d}.jpg" for i in range(4)]
        sheets = [np.asarray(Image.open(tmp_path / url)) for url in urls]
    else:
        assert not list(tmp_path.glob("report_files")) and len(urls) == 1
        sheets = list(map(pixels, urls))
    assert data["places"] == list(range(count))[::-1]  # The most outlying first.
    for row in (0, 1, 17, count - 1):
        found = thumbnail(data, row, sheets).astype(int).reshape(36, 48, -1).transpose(2, 0, 1)
        assert np.abs(found - images[row]).mean() < 2


def test_no_picture_is_without_a_thumbnail_in_a_large_set():
    images = np.broadcast_to(IMAGES[:1, :, :8, :8], (25_300, 1, 8, 8))
    written = []
    sheets = make_sheets(images, np.arange(25_300), lambda number, content: written.append(number) or "")
    assert len(sheets.places) == 25_300 and written == list(range(99))


def test_thumbnails_keep_the_ratio_and_a_total_size():
    for count, size in ((1, (64, 128)), (10_000, (45, 90)), (20_000, (32, 64)), (10**6, (32, 64))):
        assert _thumbnail_size((100, 200), count) == size
    assert _thumbnail_size((28, 20), 1) == (28, 20)


def test_heat_is_clear_where_inliers_are_and_has_one_scale(tmp_path):
    heat = np.array([[0, 1], [np.nan, 1.5], [2, 3], [4, 1e6]], dtype=np.float32)
    shown = data_of(write(tmp_path / "r.html", heat={3: heat, 4: np.ones((9, 12), np.float32)}))["heat"]
    alpha = pixels(shown["3"])[..., 3]
    assert alpha[0, 0] == alpha[0, 1] == alpha[1, 0] == 0 < alpha[1, 1] < alpha[2, 0] < alpha[2, 1]
    assert alpha[2, 1] == alpha[3, 0] == alpha[3, 1]
    assert not pixels(shown["4"])[..., 3].any()


def test_twins_are_told_from_reasons(tmp_path):
    near = scored("big.png", 0.7)._replace(reason="outlier; near duplicate of two\nlines.png")
    lost = scored("x.png", 0.7)._replace(reason="near duplicate of nowhere.png")
    other = "label conflict: the same image in another class folder is"
    one = scored("cat/1.png", 0.1)._replace(reason=f"{other} dog/1.png")
    two = scored("dog/1.png", 0.1)._replace(reason=f"{other} cat/1.png")
    data = data_of(write(tmp_path / "r.html", [*ROWS, near, lost, one, two]))
    assert data["twins"] == [[61, 0, "exact"], [62, 2, "near"], [65, 64, "conflict"]]


def test_vectors_travel_as_bytes(tmp_path):
    view = data_of(write(tmp_path / "r.html", view=VIEW))["view"]
    codes = np.frombuffer(base64.b64decode(view["codes"]), np.int8).reshape(VECTORS.shape)
    scale = np.array(view["scale"], np.float32)
    assert np.abs(codes * scale - VECTORS).max() <= scale.max() / 2 * 1.001
    points = np.frombuffer(base64.b64decode(view["points"]), "<u2").reshape(-1, 2)
    np.testing.assert_allclose(points / 65535, VIEW.points, atol=1e-5)


def test_map_keeps_neighbours_together():
    rng = np.random.default_rng(1)
    kinds = rng.integers(0, 5, 900)
    vectors = (5 * np.eye(5)[kinds] + rng.normal(size=(900, 5))).astype(np.float32)
    points = project(vectors)
    assert points.shape == (900, 2) and points.min() == 0 and points.max() == 1
    np.testing.assert_array_equal(points, project(vectors))
    nearest = np.square(points[:, None] - points).sum(2) + 9 * np.eye(900)
    assert (kinds[nearest.argmin(1)] == kinds).mean() > 0.9
    for n in (0, 1, 2, 30):
        few = project(vectors[:n])
        assert few.shape == (n, 2) and np.isfinite(few).all()
    assert np.isfinite(project(np.zeros((60, 3), np.float32))).all()


def test_bad_input_is_refused_in_words(tmp_path):
    with pytest.raises(InputError, match=r"threshold is 1\.5"):
        write(tmp_path / "r.html", threshold=1.5)
    with pytest.raises(InputError, match=r"rows 0 to 99.*62 rows"):
        write(tmp_path / "r.html", pictures=Pictures(IMAGES[:2], np.array([0, 99])))
    with pytest.raises(InputError, match=r"float64.*give uint8"):
        write(tmp_path / "r.html", pictures=Pictures(np.zeros((2, 1, 9, 9)), np.array([0, 1])))
    with pytest.raises(InputError, match=r"6 vectors for 60 pictures"):
        write(tmp_path / "r.html", view=View(VECTORS[:6], VIEW.points[:6]))
    with pytest.raises(InputError, match=r"shape \(1, 9, 12\)"):
        write(tmp_path / "r.html", heat={0: np.zeros((1, 9, 12), np.float32)})
    assert not list(tmp_path.iterdir())


def test_heat_maps_that_come_later_give_the_page_that_has_them_from_the_start(tmp_path):
    whole = write(tmp_path / "whole.html", heat=HEAT, view=ASKING)
    assert write(tmp_path / "late.html", view=ASKING) != whole
    summary = summary_of(ROWS)
    assert update_report(tmp_path / "late.html", summary=summary, rows=ROWS, said=Answers(), heat=HEAT)
    late = (tmp_path / "late.html").read_text(encoding="utf-8")
    assert data_of(late) == data_of(whole)


def test_a_cleaning_is_prepared(tmp_path):
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(IMAGES):
        size = (24, 18) if i else (48, 18)
        Image.fromarray(image[0]).resize(size).save(tmp_path / "photos" / f"{i:02d}.png")
    found = read_source(tmp_path / "photos", size=(18, 24))
    kept = PROBABILITY <= 0.5
    estimator = SimpleNamespace(
        threshold_=0.5,
        offset_=-0.3,
        scores_=-LOG_ODDS,
        inquiry_=SimpleNamespace(rules=LOG_ODDS, said=Answers({0: 1})),
        outlier_probability_=PROBABILITY,
        inlier_mask_=kept,
        embedding_=VECTORS,
        groups_=GROUPS,
        anomaly_map=lambda images: images[:, 0].astype(np.float32),
    )
    shown = review(found, estimator, tmp_path / "photos", tmp_path / "a b" / "out")
    assert shown.originals == "../../photos/" and shown.sizes == {0: (18, 48)}
    np.testing.assert_allclose(shown.view.log_odds + shown.view.cut, LOG_ODDS)
    assert shown.view.cut == 0.3
    heat = heat_maps(found, estimator)
    assert len(heat) == 60 and heat[7].shape == (18, 24)
    assert review(found, estimator, tmp_path / "photos.zip", tmp_path / "out").originals is None


@pytest.mark.parametrize(
    ("command", "learn"),
    [
        (
            "rvqvae clean 'my photos' --out o --labels l.csv --ask --answers old.csv --json",
            "rvqvae clean 'my photos' --out o --labels l.csv --answers reviewed.csv --copy",
        ),
        (
            "rvqvae clean p --out o --link --answers=a.csv",
            "rvqvae clean p --out o --link --answers reviewed.csv",
        ),
        ("", ""),
        ("python job.py", ""),
        ("rvqvae clean it's", ""),
    ],
)
def test_the_page_says_what_to_type_to_learn(tmp_path, command, learn):
    page = html.unescape(write(tmp_path / "report.html", command=command))
    assert f'<code class="command">{learn or "rvqvae clean <span>--answers"}' in page
