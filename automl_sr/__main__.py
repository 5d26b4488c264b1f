"""`python -m automl_sr` is `automl-sr`."""

from __future__ import annotations

import sys

from automl_sr.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
