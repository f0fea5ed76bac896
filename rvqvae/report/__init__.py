"""The review page: everything that a cleaning found, to look at, to answer questions about, and to change."""

from rvqvae.report.page import VERDICTS, View, interval_text, update_report, write_report
from rvqvae.report.pictures import Pictures, heat_colours
from rvqvae.report.prepare import Review, heat_maps, review

__all__ = [
    "VERDICTS",
    "Pictures",
    "Review",
    "View",
    "heat_colours",
    "heat_maps",
    "interval_text",
    "review",
    "update_report",
    "write_report",
]
