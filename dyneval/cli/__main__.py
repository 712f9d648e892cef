"""`python -m dyneval.cli VERB ...`, which is `python -m dyneval VERB ...`."""

from dyneval.cli import main

raise SystemExit(main())
