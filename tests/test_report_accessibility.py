"""The review page by axe-core's rules (WCAG and best practices), in each of its states."""

import pytest
from report_page import ASKING, DUPLICATE, HEAT, ROWS, UNREADABLE, open_tab, until

axe = pytest.importorskip("axe_playwright_python.sync_playwright")


def violations(page):
    found = axe.Axe().run(page).response["violations"]
    return [(rule["id"], [node["html"] for node in rule["nodes"][:3]]) for rule in found]


@pytest.fixture
def rows():
    """Of every kind: faults, a label that is likely wrong, a near duplicate."""
    issues = ("dark; odd size", "likely mislabelled", "blurred")
    rows = [row._replace(issues=issue) for row, issue in zip(ROWS, issues, strict=False)] + ROWS[
        len(issues) :
    ]
    rows[1] = rows[1]._replace(label="cats", suggested_label="dogs", label_probability=0.98)
    rows[2] = rows[2]._replace(reason=f"near duplicate of {ROWS[0].path}")
    return rows


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_state_of_the_page_breaks_a_rule(width, scheme, rows, visit):
    assert {UNREADABLE.status, DUPLICATE.status} <= {row.status for row in rows}
    page = visit(rows, view=ASKING, heat=HEAT, left_out={".mp4": 2}, width=width)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    until(page, "!document.querySelector('#questions').hidden")
    assert violations(page) == []
    for tab in ("unsure", "keep", "twins", "issues", "unreadable", "left", "all"):
        open_tab(page, tab)
        assert (tab, violations(page)) == (tab, [])
    page.press("body", "?")
    assert page.locator("dialog[open]").count() == 1
    assert violations(page) == []
    page.press("body", "Escape")
    page.locator(".card .picture").first.click()
    assert page.locator("dialog[open]").count() == 1
    assert violations(page) == []


def test_a_fault_would_be_seen(visit):
    page = visit()
    page.evaluate("document.querySelector('#threshold').removeAttribute('aria-label')")
    assert [rule for rule, _ in violations(page)] == ["label"]
