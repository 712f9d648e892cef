"""The error that a user can mend: shown as one line, without a traceback."""

from __future__ import annotations

from dyneval.errors import UserError


class TrainingInputError(UserError, ValueError):
    """Arguments, environment, data or checkpoints do not allow the run; the message names the thing and the remedy."""
