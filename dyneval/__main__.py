"""Run the command line as `python -m dyneval VERB ...`, for environments whose scripts are not on the PATH."""

from dyneval.cli import main

raise SystemExit(main())
