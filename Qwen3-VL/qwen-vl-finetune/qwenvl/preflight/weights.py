"""The weights: all there, of this model, finite, not quantised for good."""

from __future__ import annotations

from dyneval.checkpoints.weights import load_weights
from dyneval.errors import UserError
from qwenvl.preflight import Check, Recipe
from qwenvl.train.modeling import read_config


def check_weights(recipe: Recipe) -> Check:
    """Load them as training does, into the memory of this machine: no smaller look finds all that it would stumble on.

    A model of the Hub is downloaded for it.
    """
    try:
        config, model_class = read_config(recipe.model)
        model = load_weights(model_class, recipe.model, config, dtype="auto")
    except UserError as error:
        return Check(name="weights", status="error", message=str(error))
    tied = "is the embedding" if config.tie_word_embeddings else "has weights of its own"
    message = f"{recipe.model}: all {len(model.state_dict())} are there and finite; the output {tied}"
    return Check(name="weights", status="ok", message=message)
