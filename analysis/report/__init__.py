"""A run's report: one page that opens from disk, without a server or a network."""

from analysis.report.build import REPORT_FORMATS, build_report

__all__ = ["REPORT_FORMATS", "build_report"]
