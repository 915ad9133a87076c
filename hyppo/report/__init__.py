"""The report: one page with the recommendation and every figure of a study, which needs no network."""

from hyppo.report.page import page, write

__all__ = ["page", "write"]
