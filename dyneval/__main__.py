"""`python -m dyneval VERB ...`, for where the command is not on the PATH."""

from dyneval.cli import main

raise SystemExit(main())
