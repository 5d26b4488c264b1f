"""Commands of core: standard output is for their results alone."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from automl_sr.presentation.console import claim_results


class ResultsCommand(TyperCommand):
    """Keeps standard output for results while it runs; help, which is printed before, goes there as
    usual.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        claim_results()
        return super().invoke(ctx)
