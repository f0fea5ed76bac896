"""The review page: what the file holds, and how it behaves in a real browser."""

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from rvqvae import RobustVQVAE
from rvqvae.commands.answer import learn_from
from rvqvae.errors import InputError
from rvqvae.io.manifest import Row, read_manifest, write_manifest
from rvqvae.io.reading import read_source
from rvqvae.membership.answers import Answers, Quantised, Space, learn, parts_of, questions
from rvqvae.report import Pictures, View, review, write_report
from rvqvae.report.pictures import _thumbnail_size, make_sheets
from rvqvae.report.projection import project

HOSTILE = (
    "a,b.png",
    'quote"d.png',
    "two\nlines.png",
    "carriage\rreturn.png",
    "</script><script>alert(1)</script>.png",
    "<!--<script>.png",
    "<img src=x onerror=alert(1)>.png",
    "{{ 7 * 7 }}&amp;.png",
    "\N{GRINNING FACE}é漢.png",
    os.fsdecode(b"latin\xe9\xff.png"),
    "\N{GRINNING FACE}" + os.fsdecode(b"\x80.png"),
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
    " spaces .png",
    "=1+1.png",
)
UNREADABLE = Row(
    "broken.png", "", "unreadable", np.nan, np.nan, False, "image file is truncated, <b>4 bytes</b>"
)
DUPLICATE = Row("copy.png", "c" * 64, "duplicate", np.nan, np.nan, False, "exact duplicate of a,b.png")
NAMES = [*HOSTILE, *(f"folder/image_{i:03d}.png" for i in range(46))]
PROBABILITY = np.random.default_rng(0).permutation(np.linspace(0.0031, 0.9977, len(NAMES)))


def scored(name, probability, threshold=0.5):
    keep = bool(probability <= threshold)
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return Row(
        name, digest, "ok", 1 - 9.3 * float(probability), float(probability), keep, "" if keep else "outlier"
    )


ROWS = [*map(scored, NAMES, PROBABILITY), UNREADABLE, DUPLICATE]


RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 1, 18, 24), dtype=np.uint8)
CENTRES = np.eye(6, dtype=np.float32)[np.arange(60) % 6]
VECTORS = (CENTRES + RNG.normal(0, 0.1, (60, 6))).astype(np.float32)
VIEW = View(VECTORS, project(VECTORS))
KINDS = np.arange(60) % 6
LOG_ODDS = np.log(PROBABILITY / (1 - PROBABILITY))
GROUPS = np.where(np.arange(60) < 56, 0, -1)
ASKING = VIEW._replace(groups=GROUPS, log_odds=LOG_ODDS)
SPACE = Space.of(Quantised.of(VECTORS))
PARTS = parts_of(SPACE.vectors, GROUPS)
HEAT = {0: np.arange(18 * 24, dtype=np.float32).reshape(18, 24)}


def pictures_of(rows):
    """Of the readable rows, the same picture for the same place."""
    good = np.array([i for i, row in enumerate(rows) if row.status == "ok"], np.int64)
    return Pictures(IMAGES[np.arange(len(good)) % len(IMAGES)], good)


def write(
    path,
    rows=ROWS,
    threshold=0.5,
    title="photos",
    pictures=None,
    heat=None,
    view=None,
    sizes=None,
    originals=None,
    **summary,
):
    status = [row.status for row in rows]
    kept = sum(row.keep for row in rows)
    counts = {
        "images": len(rows),
        "scored": status.count("ok"),
        "unreadable": status.count("unreadable"),
        "duplicates": status.count("duplicate"),
        "kept": kept,
        "dropped": status.count("ok") - kept,
    }
    rate = {"contamination": 0.198, "contamination_interval": [0.186, 0.2], "verdict": "contaminated"}
    write_report(
        path,
        title=title,
        summary={**counts, **rate, "seed": 0, "seconds": 1.5, "versions": {"rvqvae": "0.1.0"}, **summary},
        rows=rows,
        threshold=threshold,
        pictures=pictures or pictures_of(rows),
        heat=heat,
        view=view,
        sizes=sizes,
        originals=originals,
    )
    return path.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def thumbnail(data, row, sheets):
    """Cut from its sheet."""
    (height, width), (tall, wide) = data["sheets"]["size"], data["sheets"]["tile"]
    place = data["places"][row]
    y, x = place % 256 // 16 * tall, place % 16 * wide
    return sheets[place // 256][y : y + height, x : x + width]


# The file


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


def test_a_cleaning_is_prepared(tmp_path):
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(IMAGES):
        size = (24, 18) if i else (48, 18)
        Image.fromarray(image[0]).resize(size).save(tmp_path / "photos" / f"{i:02d}.png")
    found = read_source(tmp_path / "photos", size=(18, 24))
    kept = PROBABILITY <= 0.5
    estimator = SimpleNamespace(
        history_=[{}],
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
    assert len(shown.heat) == 60 and shown.heat[7].shape == (18, 24)
    estimator.history_ = []
    assert review(found, estimator, tmp_path / "photos", tmp_path / "out").heat == {}
    assert review(found, estimator, tmp_path / "photos.zip", tmp_path / "out").originals is None


# The page in a browser


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = own if Path(own).exists() else shutil.which("chromium") or shutil.which("google-chrome")
        if found is None:
            pytest.skip("no Chromium: install one, or run `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, tmp_path):
    """Open a report; in the end, nothing may have left the page, opened a dialog or gone wrong."""
    wrong, contexts = [], []

    def open_page(*args, width=1280, script=None, expect=(), **kwargs):
        path = tmp_path / "report.html"
        write(path, *args, **kwargs)
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda m: any(text in m.text for text in expect) or wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: r.url.startswith(("data:", tmp_path.as_uri())) or wrong.append(r.url))
        if script:
            page.add_init_script(script)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def until(page, condition):
    """Wait for it; the page's policy forbids what Playwright's own waiting evaluates."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def counts(page):
    return tuple(int(page.inner_text(f"#count-{name}")) for name in ("kept", "dropped"))


def expected(threshold):
    kept = int((threshold >= PROBABILITY).sum())
    return kept, len(PROBABILITY) - kept


def open_tab(page, name):
    page.click(f'[data-tab="{name}"]')


def badges(page):
    """Of each image listed: whether its badge says keep."""
    open_tab(page, "all")
    return page.evaluate(
        "Object.fromEntries(grid.items.map((row, i) => {"
        " grid.goTo(i); const card = grid.shown.get(i);"
        " return [card.querySelector('.name').title, card.innerText.includes('✓ keep')]; }))"
    )


def exported(page, path):
    with page.expect_download() as download:
        page.click("#bar .export")
    assert download.value.suggested_filename == "reviewed.csv"
    download.value.save_as(path)
    return list(read_manifest(path))


def same(a, b):
    """Equal rows, a missing number being equal to itself."""
    return repr([*a]) == repr([*b])


def test_moving_the_threshold_marks_the_images_again(visit, tmp_path):
    page = visit()
    assert counts(page) == expected(0.5)
    page.fill("#threshold", "0.3")
    assert counts(page) == expected(0.3)
    page.press("#threshold", "ArrowRight")
    assert counts(page) == expected(0.31)
    assert "0.31" in page.inner_text("#outcome")
    marks = badges(page)
    for name, probability in zip(NAMES[14:], PROBABILITY[14:], strict=True):
        assert marks[name] == (probability <= 0.31)
    rows = exported(page, tmp_path / "reviewed.csv")
    assert [row.keep for row in rows[:-2]] == list(PROBABILITY <= 0.31)
    assert {row.reason for row, old in zip(rows, ROWS, strict=True) if row.keep != old.keep} == {
        "threshold moved to 0.31 in review"
    }
    page.click("#reset")
    assert counts(page) == expected(0.5)
    assert same(exported(page, tmp_path / "reviewed.csv"), ROWS)


def test_threshold_is_dragged_with_the_mouse(visit):
    page = visit()
    box = page.locator("#threshold").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], y, steps=3)
    page.mouse.up()
    value = float(page.input_value("#threshold"))
    assert 0.75 < value < 0.85
    assert counts(page) == expected(value)


def test_threshold_is_dragged_with_a_finger(visit):
    page = visit(width=390)
    page.locator("#threshold").scroll_into_view_if_needed()
    box = page.locator("#threshold").bounding_box()
    touch = page.context.new_cdp_session(page)
    for kind, at in (("touchStart", 0.5), ("touchMove", 0.6), ("touchMove", 0.8), ("touchEnd", None)):
        point = {"x": box["x"] + (at or 0) * box["width"], "y": box["y"] + box["height"] / 2}
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point] if at else []})
    value = float(page.input_value("#threshold"))
    assert 0.75 < value < 0.85
    assert counts(page) == expected(value)


def test_images_are_dropped_by_rank(visit, tmp_path):
    page = visit()
    assert page.input_value("#first") == str(sum(PROBABILITY > 0.5))
    page.fill("#first", "7")
    assert counts(page) == (53, 7)
    rows = exported(page, tmp_path / "reviewed.csv")
    worst = set(np.argsort(-PROBABILITY)[:7])
    assert {i for i, row in enumerate(rows[:-2]) if not row.keep} == worst
    assert {r.reason for r, old in zip(rows, ROWS, strict=True) if r.keep != old.keep} == {
        "the first 7 by rank in review"
    }
    page.reload()
    assert counts(page) == (53, 7) and page.input_value("#first") == "7"
    page.fill("#first", "0")
    assert counts(page) == (60, 0)
    page.fill("#first", "999")
    assert counts(page) == (0, 60)
    page.fill("#threshold", "0.3")
    assert counts(page) == expected(0.3) and page.input_value("#first") == str(sum(PROBABILITY > 0.3))


def test_heat_map_shows_when_asked_for(visit):
    page = visit(heat=dict.fromkeys(map(int, np.argsort(-PROBABILITY)[:2]), HEAT[0]))
    page.emulate_media(reduced_motion="reduce")

    def shown():
        return page.locator(".grid .heat").evaluate_all(
            "all => all.filter(h => getComputedStyle(h).opacity == '1' && h.naturalWidth).length"
        )

    page.keyboard.press("n")
    page.keyboard.press("h")
    assert shown() == 1
    page.keyboard.press("h")
    assert shown() == 0
    page.check("#heat")
    assert shown() == 2
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    page.keyboard.press("h")
    assert page.locator("#viewer .heat").evaluate("heat => getComputedStyle(heat).opacity") == "1"
    assert visit().locator("#heat").is_hidden()


def test_ten_images_are_reviewed_by_keyboard(visit, tmp_path):
    page = visit()
    page.keyboard.press("n")
    chosen = {}
    for step in range(10):
        name = page.evaluate("document.activeElement.querySelector('.name').title")
        chosen[name] = step % 3 == 0
        page.keyboard.press("k" if step % 3 == 0 else "d")
    total = sum(PROBABILITY > 0.5)
    assert page.inner_text("#progress-text") == f"10 of {total} to drop reviewed"
    page.reload()
    assert page.inner_text("#progress-text") == f"10 of {total} to drop reviewed"
    page.fill("#threshold", "1")
    marks = badges(page)
    shown = {name.replace("\r", "\N{SYMBOL FOR CARRIAGE RETURN}"): keep for name, keep in chosen.items()}
    assert not sum(marks[name] != keep for name, keep in shown.items())

    last = list(chosen)[-1]
    page.keyboard.press("u")
    assert "9 of" in page.inner_text("#progress-text")
    del chosen[last]
    rows = exported(page, tmp_path / "reviewed.csv")
    by_hand = [row for row in rows if row.reason == "reviewed by hand"]
    assert len(by_hand) == 9 and sum(row.keep for row in by_hand) == sum(chosen.values())
    assert all(row.keep for row in rows[:-2] if row not in by_hand)
    assert [row[:5] for row in rows[:-2]] == [row[:5] for row in ROWS[:-2]]
    assert same(rows[-2:], ROWS[-2:])


def test_keys_move_between_the_cards(visit):
    page = visit()
    open_tab(page, "all")
    page.click("#start")
    columns = page.evaluate("grid.columns")
    assert columns == 5
    steps = {"ArrowRight": 1, "n": 2, "ArrowDown": 7, "ArrowLeft": 6, "p": 5, "ArrowUp": 0}
    for key, index in steps.items():
        page.keyboard.press(key)
        assert page.evaluate("grid.indexOf(document.activeElement)") == index, key
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("d")
    page.keyboard.press("Escape")
    assert page.inner_text("#progress-text").startswith("0 of")
    for _ in range(70):
        page.keyboard.press("n")
    assert page.evaluate("grid.current") == 59
    box = page.evaluate("document.activeElement.getBoundingClientRect().toJSON()")
    assert box["top"] >= 0 and box["bottom"] < page.evaluate("innerHeight") - 60


def test_buttons_decide_and_take_back(visit):
    page = visit()
    card = page.locator(".card").first
    card.get_by_role("button", name="Keep").click()
    assert "✓ keep" in card.inner_text() and "by hand" in card.inner_text()
    card.get_by_role("button", name="Drop").click()
    assert "✕ drop" in card.inner_text()
    card.get_by_role("button", name="Drop").click()
    assert "by hand" not in card.inner_text()
    assert page.inner_text("#progress-text").startswith("0 of")


def test_only_cards_near_the_window_are_in_the_page(visit):
    rows = [scored(f"{i:05d}.png", 0.9) for i in range(3000)]
    page = visit(rows)
    assert page.locator(".card").count() < 80
    page.keyboard.press("n")
    for place in (0.5, 1):
        page.evaluate(f"scrollTo(0, {place} * document.body.scrollHeight)")
        until(
            page,
            "(([a, b]) => grid.items.every((_, i) => i < a || i >= b || grid.shown.has(i)))(grid.range())",
        )
        assert page.locator("#grid > li:not([hidden])").count() < 80
    shown = page.evaluate(
        "[...grid.shown].every(([i, li]) => li.querySelector('.name').title === columns.path[grid.items[i]])"
    )
    assert shown
    page.evaluate("scrollTo(0, 0)")
    # The card that has the focus stays, however far one scrolls.
    assert page.evaluate("grid.indexOf(document.activeElement)") == 0


def test_pictures_are_drawn(visit):
    page = visit(sizes={int(PROBABILITY.argmax()): (60, 20)}, expect=["willReadFrequently"])
    first = page.locator("#grid canvas").first
    until(
        page,
        "$('grid').querySelector('canvas').getContext('2d').getImageData(0, 0, 24, 18).data.some(v => v)",
    )
    found = np.array(first.evaluate("c => [...c.getContext('2d').getImageData(0, 0, 24, 18).data]")).reshape(
        18, 24, 4
    )
    assert (
        np.abs(found[..., 0] - IMAGES[PROBABILITY.argmax()][0].astype(int)).mean() < 40
    )  # Noise, as JPEG keeps it
    box = first.bounding_box()
    assert box["height"] == pytest.approx(3 * box["width"], rel=0.05)


def test_missing_sheets_are_named(visit, tmp_path):
    rows = [scored(f"{i:05d}.png", 0.9) for i in range(1001)]
    page = visit(rows, expect=["ERR_FILE_NOT_FOUND"])
    shutil.rmtree(tmp_path / "report_files")
    page.reload()
    page.wait_for_selector("#missing:visible")
    assert "report_files" in page.inner_text("#missing")


def test_originals_open_large(visit, tmp_path):
    folder = tmp_path / "a folder"
    for name in NAMES:
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(IMAGES[0][0]).resize((80, 40)).save(path, "png")
        except OSError:
            pytest.skip("the disk takes no such names")
    page = visit(originals="a%20folder/")
    open_tab(page, "all")
    page.locator("#grid .picture").first.click()
    for _ in NAMES:
        until(page, "!viewer.querySelector('.original').hidden")
        assert page.inner_text("#viewer-note") == "80 × 40 pixels"
        page.keyboard.press("n")
    page.keyboard.press("k")
    assert page.inner_text("#viewer .by") == "by hand"
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()


def test_moved_originals_are_named(visit):
    page = visit(originals="gone/", expect=["ERR_FILE_NOT_FOUND"])
    page.locator("#grid .picture").first.click()
    until(page, "document.getElementById('viewer-note').textContent.includes('gone/')")
    assert page.locator("#viewer .original").is_hidden() and page.locator("#viewer .stand-in").is_visible()


NEAR = scored("big.png", 0.2)._replace(reason="near duplicate of two\nlines.png")


def test_of_duplicates_one_or_both_are_kept(visit, tmp_path):
    rows = [*ROWS, NEAR]
    page = visit(rows)
    open_tab(page, "twins")
    pairs = page.locator(".twins")
    assert pairs.count() == 2
    pairs.first.get_by_role("button", name="Second", exact=True).click()
    page.locator(".twins").last.get_by_role("button", name="First", exact=True).click()
    after = exported(page, tmp_path / "reviewed.csv")
    assert [after[i].keep for i in (0, 61)] == [False, True]
    assert [after[i].keep for i in (2, 62)] == [True, False]
    assert {after[i].reason for i in (0, 61, 2, 62)} == {"duplicate, reviewed by hand"}
    page.click("#undo")
    page.click("#undo")
    assert same(exported(page, tmp_path / "reviewed.csv"), rows)
    page.click("#start")
    page.keyboard.press("k")
    page.keyboard.press("d")
    after = exported(page, tmp_path / "reviewed.csv")
    assert [after[i].keep for i in (0, 61, 2, 62)] == [True, True, True, False]


FLAWED = [
    row._replace(issues=issues, label="cat", suggested_label="dog" if "mis" in issues else "")
    for row, issues in zip(ROWS[:4], ("dark; blurred", "dark", "likely mislabelled", "grey"), strict=True)
]


def test_issues_are_listed_by_kind_and_dropped_when_a_person_says_so(visit, tmp_path):
    page = visit([*FLAWED, *ROWS[4:]], view=ASKING)
    before, probability = counts(page), page.evaluate("Array.from(probability)")
    open_tab(page, "issues")
    assert page.inner_text('[data-tab="issues"] span') == "4"
    chips = page.eval_on_selector_all("[data-issue]", "all => all.map((one) => one.innerText)")
    assert sorted(chips) == sorted(["all 4", "dark 2", "blurred 1", "likely mislabelled 1", "grey 1"])
    flaws = page.eval_on_selector_all(
        "#grid li:not([hidden]) .flaws", "all => all.map((one) => one.innerText)"
    )
    assert sorted(flaws) == ["cat, or dog?", "dark", "dark, blurred", "grey"]
    page.click('[data-issue="dark"]')
    assert page.evaluate("grid.items.toSorted()") == [0, 1]
    page.click('[data-listed="false"]')
    # That they are dark says nothing of what belongs: nothing is learned from it.
    assert page.evaluate("Array.from(probability)") == probability
    after = exported(page, tmp_path / "r.csv")
    assert [row.keep for row in after[:2]] == [False, False]
    assert {row.reason for row in after[:2]} == {"issue, reviewed by hand"}
    assert [row.issues for row in after] == [row.issues for row in (*FLAWED, *ROWS[4:])]
    page.click("#undo")
    assert counts(page) == before


def test_there_is_no_tab_for_issues_without_any(visit):
    assert visit().is_hidden('[data-tab="issues"]')


def test_what_cannot_be_looked_at_is_listed(visit):
    page = visit(left_out={".txt": 12, ".db": 1, "hidden files": 3})
    open_tab(page, "unreadable")
    assert UNREADABLE.reason in page.inner_text("#grid") and UNREADABLE.path in page.inner_text("#grid")
    open_tab(page, "left")
    assert "12 files .txt" in page.inner_text("#grid") and "1 file .db" in page.inner_text("#grid")
    assert "3 hidden files" in page.inner_text("#grid")
    assert (
        visit(ROWS[:-2])
        .locator('[data-tab="left"], [data-tab="unreadable"], [data-tab="twins"]')
        .evaluate_all("tabs => tabs.every(tab => tab.hidden)")
    )


def nearest(row, most):
    """What is alike, slowly."""
    squares = np.square(VECTORS - VECTORS[row]).sum(1)
    squares[row] = np.inf
    return list(np.argsort(squares)[:most])


def test_what_is_alike_is_marked_at_once(visit, tmp_path):
    page = visit(view=VIEW)
    for row in (0, 7, 59):
        found = page.evaluate(f"alike({row}, 5)")
        assert len(set(found) & set(nearest(row, 6))) == 5
    page.keyboard.press("n")
    row = page.evaluate("currentRow()")
    page.keyboard.press("m")
    tiles = page.locator(".tile")
    rows = [int(value) for value in tiles.evaluate_all("tiles => tiles.map(t => t.value)")]
    assert rows[0] == row and len(rows) == 13
    tiles.nth(1).click()
    page.keyboard.press("d")
    assert page.locator("#alike").is_hidden()
    page.reload()
    after = exported(page, tmp_path / "reviewed.csv")
    assert {i for i, r in enumerate(after) if r.reason == "reviewed by hand"} == {rows[0], *rows[2:]}
    assert not any(after[i].keep for i in (rows[0], *rows[2:])) and same([after[rows[1]]], [ROWS[rows[1]]])
    page.click("#undo")
    assert same(exported(page, tmp_path / "reviewed.csv"), ROWS)


def test_images_are_drawn_around_on_the_map(visit, tmp_path):
    page = visit(view=VIEW)
    box = page.locator("#plane").bounding_box()
    left = VIEW.points[:, 0] < 0.5
    corners = [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]
    inset = 12
    places = [
        (
            box["x"] + inset + x * (box["width"] - 2 * inset) - 5 * (x == 0),
            box["y"] + inset + y * (box["height"] - 2 * inset) + 5 * (2 * y - 1),
        )
        for x, y in corners
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in [*places[1:], places[0]]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()
    assert page.inner_text("#alike-title") == f"{left.sum()} images selected"
    page.get_by_role("button", name="✓ Keep").click()
    after = exported(page, tmp_path / "reviewed.csv")
    assert [row.reason == "reviewed by hand" and row.keep for row in after[:-2]] == list(left)
    assert visit().locator("#map").is_hidden()


def test_tabs_order_and_filter(visit):
    page = visit()
    for name, fits in (
        ("drop", PROBABILITY > 0.5),
        ("keep", PROBABILITY <= 0.5),
        ("all", PROBABILITY > -1),
        ("unsure", (PROBABILITY >= 0.1) & (PROBABILITY <= 0.9)),
    ):
        open_tab(page, name)
        rows = page.evaluate("grid.items")
        assert (
            sorted(rows) == list(np.flatnonzero(fits))
            and list(PROBABILITY[rows]) == sorted(PROBABILITY[rows])[::-1]
        )
        assert page.inner_text(f'[data-tab="{name}"] span') == str(fits.sum())
    page.select_option("#order", "borderline")
    gaps = [abs(PROBABILITY[row] - 0.5) for row in page.evaluate("grid.items")]
    assert gaps == sorted(gaps)
    page.select_option("#filter", "done")
    assert page.evaluate("grid.items") == [] and page.locator("#empty").is_visible()


def table(page, path):
    """The exported rows as they are written."""
    exported(page, path)
    with path.open(newline="", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_untouched_export_is_the_manifest_with_columns_for_answers(visit, tmp_path):
    page = visit(view=ASKING)
    rows = table(page, tmp_path / "reviewed.csv")
    assert same(read_manifest(tmp_path / "reviewed.csv"), ROWS)
    write_manifest(tmp_path / "manifest.csv", ROWS)
    lines = [(tmp_path / name).read_bytes().split(b"\n") for name in ("manifest.csv", "reviewed.csv")]
    assert all(after.startswith(before) for before, after in zip(*lines, strict=True))
    assert list(rows[0])[len(Row._fields) :] == [
        "answer",
        "group",
        "group_answer",
        "reviewed_probability",
        "run",
        "group_confirmed",
    ]
    run = data_of((tmp_path / "report.html").read_text())["view"]["run"]
    first = {i: str(place) for place, part in enumerate(PARTS) if part.first for i in part.rows}
    assert [list(row.values())[len(Row._fields) :] for row in rows] == [
        ["", first.get(i, ""), "", "", run, ""] for i in range(62)
    ]


# Questions


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
    wanted = questions(SPACE, PARTS, slow, said, 40)
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
    assert "nothing would belong" in page.inner_text("#effect")
    assert page.locator("#ask-undo").is_disabled() and page.inner_text("#step") == "Question 1 of about 8"
    assert not any(row["group_answer"] for row in table(page, tmp_path / "reviewed.csv"))


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


def test_hostile_names_are_shown_as_text(visit):
    page = visit(title=os.fsdecode(b"<script>alert(1)</script>\xff"))
    page.set_viewport_size({"width": 1280, "height": 6000})
    open_tab(page, "all")
    names = page.evaluate("[...grid.shown.values()].map(li => li.querySelector('.name').title)")
    for shown in ("</script><script>alert(1)</script>.png", "two␊lines.png", "latin��.png", "�gnp.exe"):
        assert shown in names
    assert page.locator("img[src=x], b").count() == 0


def test_page_works_without_storage(visit):
    page = visit(script="Object.defineProperty(window, 'localStorage', {get() { throw new Error('no') }})")
    page.keyboard.press("n")
    page.keyboard.press("d")
    assert page.inner_text("#progress-text").startswith("1 of")


@pytest.mark.parametrize(
    "stored",
    [
        "null",
        "{",
        '{"by":"probability","threshold":7,"first":0,"history":[]}',
        '{"by":"rank","threshold":0,"first":0,"history":[["image",[9e9],true]]}',
        '{"by":"rank","threshold":0,"first":0,"history":[["other",[1],true]]}',
        '{"by":"rank","threshold":0,"first":-1,"history":[]}',
        '{"by":"probability","threshold":0.5,"first":0,"history":[["part",9e9,1]]}',
    ],
)
def test_foreign_storage_is_ignored(visit, stored):
    page = visit(script=f"Storage.prototype.getItem = () => {stored!r}")
    assert page.inner_text("#progress-text").startswith("0 of")
    assert counts(page) == expected(0.5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_needs_no_sideways_scrolling(visit, scheme):
    page = visit(
        [*ROWS, NEAR],
        width=390,
        view=View(np.pad(VECTORS, ((0, 1), (0, 0))), np.pad(VIEW.points, ((0, 1), (0, 0)))),
    )
    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for name in ("drop", "twins", "unreadable"):
        open_tab(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    open_tab(page, "drop")
    card = page.locator(".card").first
    buttons = card.locator(".choice button").evaluate_all("all => all.map(b => b.offsetWidth)")
    assert sum(buttons) > 0.8 * card.bounding_box()["width"] > 130


@pytest.mark.parametrize(
    "rows", [[], [UNREADABLE, DUPLICATE], [scored("one.png", 0.2)], [scored("one.png", np.nan)]]
)
def test_page_without_images_opens(visit, tmp_path, rows):
    page = visit(rows)
    assert same(exported(page, tmp_path / "reviewed.csv"), rows)


def test_sixty_thousand_rows(visit, tmp_path):
    probability = np.random.default_rng(0).beta(0.1, 0.4, 60_000)
    rows = [scored(f"a folder/with some images/{i:08d}.png", p) for i, p in enumerate(probability)]
    page = visit(rows, pictures=Pictures(IMAGES, np.arange(60)))
    assert (tmp_path / "report.html").stat().st_size < 15e6
    page.fill("#threshold", "0.9")
    assert page.inner_text("#count-kept") == f"{(probability <= 0.9).sum():,}"
    assert sum(row.keep for row in exported(page, tmp_path / "r.csv")) == (probability <= 0.9).sum()
