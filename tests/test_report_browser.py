"""The review page in a real browser: looking, deciding, exporting."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from report_page import (
    ASKING,
    DUPLICATE,
    HEAT,
    IMAGES,
    NAMES,
    PARTS,
    PROBABILITY,
    ROWS,
    UNREADABLE,
    VECTORS,
    VIEW,
    badges,
    counts,
    data_of,
    expected,
    exported,
    open_tab,
    same,
    scored,
    table,
    until,
)

from rvqvae.io.manifest import Row, read_manifest, write_manifest
from rvqvae.report import Pictures, View


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


@pytest.mark.parametrize("key", ["d", "n"])
def test_after_the_last_card_come_those_that_were_not_listed(key, visit):
    """Decisions teach: more may be to drop than when the list was made."""
    page = visit(view=ASKING)
    page.evaluate("grid.items.length = 5; grid.goTo(4)")
    page.keyboard.press(key)
    total = int(page.inner_text('[data-tab="drop"] span'))
    assert page.evaluate("grid.items.length") == total > 5
    assert not page.evaluate("decided(currentRow())")
    assert f"{total - 5} more came here" in page.inner_text("#said")


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
    page = visit(left_out={".txt": 12, ".db": 1, "hidden files": 3, "system files": 1})
    open_tab(page, "unreadable")
    assert UNREADABLE.reason in page.inner_text("#grid") and UNREADABLE.path in page.inner_text("#grid")
    open_tab(page, "left")
    assert "12 files .txt" in page.inner_text("#grid") and "1 file .db" in page.inner_text("#grid")
    assert (
        "3 hidden files" in page.inner_text("#grid") and "1 system file\n" in page.inner_text("#grid") + "\n"
    )
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
