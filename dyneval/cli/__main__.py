"""`python -m dyneval.cli VERB ...`, the same as `dyneval VERB ...` where the environment's scripts are not on PATH."""

from dyneval.cli import main

raise SystemExit(main())
