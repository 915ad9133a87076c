"""The report: one page that holds the answer and every figure of a study, and needs no network."""

from hyppo.report.page import page, write

__all__ = ["page", "write"]
