"""One study for all tests that only read it."""

from report_worlds import folder, report

__all__ = ["folder", "report"]
