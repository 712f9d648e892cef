"""The error of training that a user can mend: it is shown as one line, without a traceback.

Any other exception is a bug of ours or of a library, and keeps its traceback.
"""

from __future__ import annotations

from dyneval.errors import UserError


class TrainingInputError(UserError, ValueError):
    """Arguments, environment, data or checkpoints do not allow the run; the message names the thing and the remedy."""
