"""A run's report: one page that opens from disk, without a server or a network."""

from analysis.report.build import build_report

__all__ = ["build_report"]
