"""The report of a comparison: one HTML file that needs nothing else, no network and no scripts."""

from traceai_vllm.release.report.page import report_html

__all__ = ["report_html"]
