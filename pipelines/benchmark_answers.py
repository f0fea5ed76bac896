"""How many questions a minute can be answered, in Python and on the page: a part of `benchmark_speed`.

Eight answers about groups, each learned from and followed by interval and questions, of 1,000, 20,000 and a
million samples of 96 dimensions in Python, of 1,000 and 20,000 on the review page in Chromium, drawing
included.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipelines.common.timing import Line, rate
from rvqvae.io.manifest import Row
from rvqvae.membership.answers import Quantised
from rvqvae.questions import Inquiry
from rvqvae.report import Pictures, View, write_report


def answers(rounds: int, width: int = 96, said: int = 8) -> Iterator[Line]:
    for n, aim in ((1000, 200), (20_000, 200), (1_000_000, 12)):
        rng = np.random.default_rng(0)
        groups = rng.integers(32, size=n)
        vectors = rng.normal(size=(32, width)).astype(np.float32)[groups]
        for begin in range(0, n, 50_000):
            part = vectors[begin : begin + 50_000]
            part += rng.standard_normal(part.shape, np.float32)
        log_odds = rng.normal(-1, 2, n)
        inquiry = Inquiry(Quantised.of(vectors), groups, log_odds)
        inquiry.ask(3, 0.0)

        def ours(inquiry: Inquiry = inquiry) -> float:
            for step in range(said):
                inquiry.answer({inquiry.ask(3, 0.0)[0].id: bool(step % 2)}, 0.0)
                inquiry.interval(0.0, (-4.0, 4.0))
            return 60 * said

        turns = [rate(ours) for _ in range(1 if n > 100_000 else rounds)]
        yield Line(
            f"answers, {n:,} samples", "the aim", "a minute", speed := min(turns), aim, speed / aim, 1.0
        )
        if n <= 20_000 and (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
            speed = page_speed(chromium, View(vectors, rng.random((n, 2)), groups, log_odds), said)
            yield Line(f"on the page, {n:,}", "the aim", "a minute", speed, aim, speed / aim, 1.0)


def page_speed(chromium: str, view: View, said: int) -> float:
    """Answers a minute on a review page, each until it is drawn."""
    from playwright.sync_api import sync_playwright

    n, p = len(view.vectors), 1 / (1 + np.exp(-view.log_odds))
    rows = [Row(f"{i}.png", str(i), "ok", -float(v), float(v), v <= 0.5, "") for i, v in enumerate(p)]
    counts = {"images": n, "kept": n, "dropped": 0, "unreadable": 0, "duplicates": 0}
    rate = {"contamination": 0.2, "contamination_interval": [0.1, 0.3], "verdict": "contaminated"}
    pictures = Pictures(np.zeros((n, 1, 16, 16), np.uint8), np.arange(n))
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        write_report(
            path, title="", summary=counts | rate, rows=rows, threshold=0.5, pictures=pictures, view=view
        )
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(path.as_uri())
        took = page.evaluate(
            """async (said) => {
              const begin = performance.now();
              for (let step = 0; step < said; step++) {
                answer(step % 2 ? 1 : -1);
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
              }
              return performance.now() - begin;
            }""",
            said,
        )
        browser.close()
    return 60_000 * said / float(took)
