"""The review page: what the file holds, and how it behaves in a real browser."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from rvqvae.errors import InputError
from rvqvae.io.manifest import Row, read_manifest, write_manifest
from rvqvae.report import Card, Group, write_report

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
DUPLICATE = Row("copy.png", "c" * 64, "duplicate", np.nan, np.nan, False, 'same as "a,b.png"')
NAMES = [*HOSTILE, *(f"folder/image_{i:03d}.png" for i in range(46))]
PROBABILITY = np.random.default_rng(0).permutation(np.linspace(0.0031, 0.9977, len(NAMES)))


def scored(name, probability, threshold=0.5):
    keep = bool(probability <= threshold)
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return Row(
        name, digest, "ok", 1 - 9.3 * float(probability), float(probability), keep, "" if keep else "outlier"
    )


ROWS = [*map(scored, NAMES, PROBABILITY), UNREADABLE, DUPLICATE]


def make_card(index, channels=1):
    image = np.random.default_rng(index).integers(0, 256, (channels, 9, 12), dtype=np.uint8)
    return Card(index, image, (image[0] / 255.0).astype(np.float32), 255 - image)


def write(
    path, rows=ROWS, cards=range(40), threshold=0.5, title="photos", thumbnails=None, groups=(), **summary
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
        cards=[card if isinstance(card, Card) else make_card(card) for card in cards],
        thumbnails=thumbnails,
        groups=groups,
    )
    return path.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


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
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
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
    keys = {data_of(write(tmp_path / "a.html", rows))["key"] for rows in (ROWS, ROWS, ROWS[:-1])}
    assert len(keys) == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_whole_at_their_own_size(tmp_path, channels):
    card = make_card(3, channels)
    (shown,) = data_of(write(tmp_path / "report.html", cards=[card]))["cards"]
    picture = card.image[0] if channels == 1 else card.image.transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels(shown["image"]), picture)
    np.testing.assert_array_equal(pixels(shown["nearest"]), 255 - picture)
    assert pixels(shown["heat"]).shape == (9, 12, 4) and shown["row"] == 3


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_heat_is_clear_without_evidence_and_strongest_at_the_most(tmp_path, scale):
    heat = np.array([[0, 1], [np.nan, 4]], dtype=np.float32) * np.float32(scale)
    (shown,) = data_of(write(tmp_path / "r.html", cards=[replace(make_card(0), heat=heat)]))["cards"]
    alpha = pixels(shown["heat"])[..., 3]
    assert alpha[0, 0] == alpha[1, 0] == 0 < alpha[0, 1] < alpha[1, 1]
    nothing = replace(make_card(0), heat=np.zeros((9, 12), np.float32))
    (shown,) = data_of(write(tmp_path / "r.html", cards=[nothing]))["cards"]
    assert not pixels(shown["heat"])[..., 3].any()


def test_each_card_is_in_the_section_where_it_ranks_higher(tmp_path):
    rows = [scored(str(i), p) for i, p in enumerate([0.999, 0.9, 0.52, 0.4, 0.01])]
    cards = data_of(write(tmp_path / "report.html", rows, cards=range(5)))["cards"]
    assert [card["section"] for card in cards] == [
        "outlying",
        "outlying",
        "borderline",
        "borderline",
        "borderline",
    ]


ALIKE = [replace(make_card(0), alike=(1, 50, 51)), replace(make_card(1), alike=(0,))]
THUMBNAILS = {
    50: make_card(50).image,
    51: np.tile(make_card(51, 3).image, (1, 5, 5)),
    52: make_card(52).image,
}


def test_what_is_alike_is_held_once_and_small(tmp_path):
    data = data_of(write(tmp_path / "r.html", cards=ALIKE, thumbnails=THUMBNAILS))
    assert [card["alike"] for card in data["cards"]] == [[1, 50, 51], [0]]
    assert list(data["thumbnails"]) == ["50", "51"]
    np.testing.assert_array_equal(pixels(data["thumbnails"]["50"]), THUMBNAILS[50][0])
    assert data["thumbnails"]["51"].startswith("data:image/jpeg;base64,")
    with pytest.raises(InputError, match="row 50 is shown without a card and has no thumbnail"):
        write(tmp_path / "r.html", cards=ALIKE)
    with pytest.raises(InputError, match=r"row 99.*62 rows"):
        write(tmp_path / "r.html", cards=[replace(ALIKE[1], alike=(99,))])


GROUPS = [Group((0, 1, 2, 50), (0, 50)), *(Group((row, row + 10), (52,)) for row in range(10, 18))]


def test_groups_and_their_pictures_are_held(tmp_path):
    data = data_of(write(tmp_path / "r.html", groups=GROUPS, thumbnails=THUMBNAILS))
    assert data["groups"][0] == {"rows": [0, 1, 2, 50], "shown": [0, 50]} and len(data["groups"]) == 9
    assert list(data["thumbnails"]) == ["50", "52"]
    with pytest.raises(InputError, match="row 50 is shown without a card"):
        write(tmp_path / "r.html", groups=GROUPS)
    with pytest.raises(InputError, match=r"group has row 62, but there are 62 rows"):
        write(tmp_path / "r.html", groups=[Group((62,), ())])


@pytest.mark.parametrize("share", [None, float("nan")])
def test_unknown_rate_is_said(tmp_path, share):
    page = write(
        tmp_path / "r.html", verdict="undecided", contamination=share, contamination_interval=[share, share]
    )
    assert "the estimate is unknown" in page and "unknown to unknown" in page


def test_wrong_input_is_named(tmp_path):
    with pytest.raises(InputError, match=r"threshold is 1\.5.*from 0 to 1"):
        write(tmp_path / "r.html", threshold=1.5)
    with pytest.raises(InputError, match=r"row 99.*62 rows"):
        write(tmp_path / "r.html", cards=[99])
    with pytest.raises(InputError, match=r"uint8 \(9, 12\).*1 or 3"):
        write(tmp_path / "r.html", cards=[replace(make_card(0), image=np.zeros((9, 12), np.uint8))])
    with pytest.raises(InputError, match=r"float64.*give uint8"):
        write(tmp_path / "r.html", cards=[replace(make_card(0), nearest=np.zeros((1, 9, 12)))])
    with pytest.raises(InputError, match=r"heat has shape \(1, 9, 12\)"):
        write(tmp_path / "r.html", cards=[replace(make_card(0), heat=np.zeros((1, 9, 12), np.float32))])
    assert not list(tmp_path.iterdir())


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

    def open_page(*args, width=1280, script=None, **kwargs):
        path = tmp_path / "report.html"
        write(path, *args, **kwargs)
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: r.url.startswith(("data:", path.as_uri())) or wrong.append(r.url))
        if script:
            page.add_init_script(script)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def counts(page):
    return tuple(int(page.inner_text(f"#count-{name}")) for name in ("kept", "dropped"))


def expected(threshold):
    kept = int((threshold >= PROBABILITY).sum())
    return kept, len(PROBABILITY) - kept


def badges(page):
    """Of each card's file: whether its badge says keep."""
    cards = page.locator(".card")
    texts = cards.evaluate_all("cards => cards.map(c => [c.querySelector('.name').title, c.innerText])")
    return {name: "✓ keep" in text for name, text in texts}


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
    for name, probability in zip(NAMES[14:40], PROBABILITY[14:40], strict=True):
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


def test_heat_map_shows_on_hover_press_and_for_all(visit):
    page = visit(cards=[0, 1])
    page.emulate_media(reduced_motion="reduce")
    opacity = "heats => heats.map(heat => getComputedStyle(heat).opacity)"

    def shown():
        return page.locator(".heat").evaluate_all(opacity)

    picture = page.locator("button.picture").first
    picture.hover()
    assert sorted(shown()) == ["0", "1"]
    page.mouse.move(0, 0)
    assert shown() == ["0", "0"]
    picture.click()
    page.mouse.move(0, 0)
    assert sorted(shown()) == ["0", "1"]
    page.check("#heat")
    assert shown() == ["1", "1"]


def test_ten_images_are_reviewed_by_keyboard(visit, tmp_path):
    page = visit()
    page.keyboard.press("n")
    chosen = {}
    for step in range(10):
        name = page.evaluate("document.activeElement.querySelector('.name bdi').textContent")
        chosen[name] = step % 3 == 0
        page.keyboard.press("k" if step % 3 == 0 else "d")
    assert page.inner_text("#progress-text") == "10 of 40 reviewed"
    page.reload()
    assert page.inner_text("#progress-text") == "10 of 40 reviewed"
    page.fill("#threshold", "1")
    assert not sum(badges(page)[name] != keep for name, keep in chosen.items())

    last = list(chosen)[-1]
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    assert page.inner_text("#progress-text") == "9 of 40 reviewed"
    del chosen[last]
    rows = exported(page, tmp_path / "reviewed.csv")
    by_hand = [row for row in rows if row.reason == "reviewed by hand"]
    assert len(by_hand) == 9 and sum(row.keep for row in by_hand) == sum(chosen.values())
    assert all(row.keep for row in rows[:-2] if row not in by_hand)
    assert [row[:5] for row in rows[:-2]] == [row[:5] for row in ROWS[:-2]]
    assert same(rows[-2:], ROWS[-2:])


def test_keys_move_between_the_cards(visit):
    page = visit()
    where = "visible.indexOf(current)"
    page.click("#start")
    steps = {"ArrowRight": 1, "n": 2, "ArrowDown": 6, "ArrowLeft": 5, "p": 4, "ArrowUp": 0}
    for key, index in steps.items():
        page.keyboard.press(key)
        assert page.evaluate(where) == index, key
    page.keyboard.press("h")
    assert page.locator('.picture[aria-pressed="true"]').count() == 1
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("d")
    page.keyboard.press("Escape")
    assert page.inner_text("#progress-text") == "0 of 40 reviewed"
    for _ in range(50):
        page.keyboard.press("n")
    assert page.evaluate(where) == 39
    assert page.evaluate("document.activeElement.getBoundingClientRect().bottom < innerHeight - 60")


def test_buttons_decide_and_take_back(visit):
    page = visit(cards=[0, 1])
    card = page.locator(".card").first
    card.get_by_role("button", name="Keep").click()
    assert "✓ keep" in card.inner_text() and "by hand" in card.inner_text()
    card.get_by_role("button", name="Drop").click()
    assert "✕ drop" in card.inner_text()
    card.get_by_role("button", name="Drop").click()
    assert "by hand" not in card.inner_text()
    assert page.inner_text("#progress-text") == "0 of 2 reviewed"


def test_what_is_alike_is_marked_at_once(visit, tmp_path):
    page = visit(cards=[*ALIKE, 2], thumbnails=THUMBNAILS)
    card = page.locator(".card", has=page.locator(f'.name[title="{NAMES[0]}"]'))
    assert page.locator(".like:visible").count() == 2
    card.locator(".like").click()
    tiles = page.locator(".tile")
    assert [int(value) for value in tiles.evaluate_all("tiles => tiles.map(t => t.value)")] == [0, 1, 50, 51]
    assert tiles.locator("img").evaluate_all("images => images.every(i => i.naturalWidth)")
    tiles.nth(1).click()
    page.click('[data-all="false"]')
    assert page.inner_text("#progress-text") == "1 of 3 reviewed, and 2 more"
    page.reload()
    rows = exported(page, tmp_path / "reviewed.csv")
    assert [i for i, row in enumerate(rows) if row.reason == "reviewed by hand"] == [0, 50, 51]
    assert not any(rows[i].keep for i in (0, 50, 51)) and same(rows[1:50], ROWS[1:50])
    page.click("#undo")
    assert same(exported(page, tmp_path / "reviewed.csv"), ROWS)


def test_a_whole_group_is_kept_or_dropped(visit, tmp_path):
    page = visit(cards=[0, 1], groups=GROUPS, thumbnails=THUMBNAILS)
    group, members = page.locator(".kin").first, (0, 1, 2, 50)
    assert group.locator("img").evaluate_all("images => images.every(i => i.naturalWidth)")
    drop, keep = (group.get_by_role("button", name=name) for name in ("Drop all", "Keep all"))
    drop.click()
    assert "4 dropped" in group.inner_text() and drop.get_attribute("aria-pressed") == "true"
    assert page.inner_text("#progress-text") == "2 of 2 reviewed, and 2 more"
    page.locator(".card").first.get_by_role("button", name="Keep").click()
    assert "3 dropped" in group.inner_text() and drop.get_attribute("aria-pressed") == "false"
    page.reload()
    rows = exported(page, tmp_path / "reviewed.csv")
    assert [i for i, row in enumerate(rows) if row.reason == "reviewed by hand"] == [*members]
    assert sum(rows[i].keep for i in members) == 1
    keep.click()
    assert "0 dropped" in group.inner_text()
    keep.click()
    assert page.inner_text("#progress-text") == "0 of 2 reviewed"
    assert same(exported(page, tmp_path / "reviewed.csv"), ROWS)
    for _ in range(4):
        page.click("#undo")
    assert page.locator("#undo").is_disabled()


def test_groups_follow_the_threshold_and_fold(visit):
    page = visit(groups=GROUPS, thumbnails=THUMBNAILS)
    assert page.locator(".kin:visible").count() == 5
    page.click("#more-groups")
    assert page.locator(".kin:visible").count() == 9 and page.locator("#more-groups").is_hidden()
    page.fill("#threshold", "0")
    assert "4 dropped" in page.locator(".kin").first.inner_text()
    page.fill("#threshold", "1")
    assert "0 dropped" in page.locator(".kin").first.inner_text()
    assert visit().locator("#groups").is_hidden()


def test_what_is_alike_is_marked_by_keyboard(visit):
    page = visit(cards=ALIKE, thumbnails=THUMBNAILS)
    page.click("#start")
    page.keyboard.press("m")
    page.keyboard.press("n")
    assert page.locator("#alike").is_visible()
    page.keyboard.press("k")
    assert page.locator("#alike").is_hidden() and set(badges(page).values()) == {True}
    assert page.evaluate("document.activeElement.closest('.card') !== null")
    page.keyboard.press("m")
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    assert page.inner_text("#progress-text") == "0 of 2 reviewed"


def test_filter_and_order(visit):
    page = visit()
    page.select_option("#filter", "keep")
    assert set(badges(page).values()) == {True}
    page.select_option("#filter", "all")
    page.select_option("#order", "outlying")
    for section in ("outlying", "borderline"):
        chances = page.locator(f'[data-section="{section}"] .chance').all_inner_texts()
        assert chances and chances == sorted(chances, reverse=True)
    page.select_option("#filter", "done")
    assert not badges(page) and page.locator(".empty").first.is_visible()


def test_untouched_export_is_the_manifest(visit, tmp_path):
    page = visit()
    assert same(exported(page, tmp_path / "reviewed.csv"), ROWS)
    write_manifest(tmp_path / "manifest.csv", ROWS)
    assert (tmp_path / "reviewed.csv").read_bytes() == (tmp_path / "manifest.csv").read_bytes()


def test_hostile_names_are_shown_as_text(visit):
    page = visit(title=os.fsdecode(b"<script>alert(1)</script>\xff"))
    names = page.locator(".name").all_text_contents()
    for shown in ("</script><script>alert(1)</script>.png", "two␊lines.png", "latin��.png", "�gnp.exe"):
        assert shown in [name.strip() for name in names]
    assert page.locator("img:not(.card img), b").count() == 0
    assert page.inner_text('[data-status="unreadable"] li span') == UNREADABLE.reason


def test_page_works_without_storage(visit):
    page = visit(script="Object.defineProperty(window, 'localStorage', {get() { throw new Error('no') }})")
    page.keyboard.press("n")
    page.keyboard.press("d")
    assert page.inner_text("#progress-text") == "1 of 40 reviewed"


@pytest.mark.parametrize(
    "stored",
    [
        "null",
        "{",
        '{"threshold": 7, "history": []}',
        '{"threshold":0,"history":[[9e9,true]]}',
        '{"threshold":0,"history":[[{"group":3},true]]}',
    ],
)
def test_foreign_storage_is_ignored(visit, stored):
    page = visit(cards=[0], script=f"Storage.prototype.getItem = () => {stored!r}")
    assert page.inner_text("#progress-text") == "0 of 1 reviewed"
    assert counts(page) == expected(0.5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_needs_no_sideways_scrolling(visit, scheme):
    page = visit(width=390)
    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".card").first.bounding_box()["width"] > 300


@pytest.mark.parametrize(
    "rows", [[], [UNREADABLE, DUPLICATE], [scored("one.png", 0.2)], [scored("one.png", np.nan)]]
)
def test_page_without_images_opens(visit, tmp_path, rows):
    page = visit(rows, cards=[])
    assert page.locator("#no-cards").is_visible()
    assert same(exported(page, tmp_path / "reviewed.csv"), rows)


def test_sixty_thousand_rows(visit, tmp_path):
    probability = np.random.default_rng(0).beta(0.1, 0.4, 60_000)
    rows = [scored(f"a folder/with some images/{i:08d}.png", p) for i, p in enumerate(probability)]
    page = visit(rows, cards=range(200))
    assert (tmp_path / "report.html").stat().st_size < 15e6
    page.fill("#threshold", "0.9")
    assert page.inner_text("#count-kept") == f"{(probability <= 0.9).sum():,}"
    assert sum(row.keep for row in exported(page, tmp_path / "r.csv")) == (probability <= 0.9).sum()
