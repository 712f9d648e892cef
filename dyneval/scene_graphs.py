"""Bring scene graphs of any shape, as students and published teachers write them, into the documented shape.

Published graphs are objects or lists of any shape, and a student writes what it was trained to write. Reports, checks
and score records rely on one shape, {"nodes": [...], "edges": [...]}. Whatever is lost or invented here would be wrong
in all of them, so what cannot be read is left out and nothing is guessed.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def normalised_graph(raw: Any) -> Json:
    """Return a scene graph in the documented shape.

    Args:
        raw: any JSON value. A bare list is taken as the list of nodes.

    Returns:
        `nodes` (id, label, attributes) and `edges` (source, target, relationship). Numbers become texts, a mapping of
        attributes becomes "key: value" texts, a missing list is empty. Unknown keys, and whatever is not a node or an
        edge, are left out.
    """
    graph = raw if isinstance(raw, dict) else {"nodes": raw}
    nodes, edges = [], []
    for number, node in enumerate(_items(graph.get("nodes")), 1):
        fields = node if isinstance(node, dict) else {"label": node}
        label, name = _word(fields.get("label")), _word(fields.get("id"))
        if not (label or name):
            continue
        words = fields.get("attributes")
        if isinstance(words, dict):
            words = [f"{key}: {_word(value)}" for key, value in words.items() if _word(value)]
        words = [word for word in map(_word, _items(words)) if word]
        # Nodes without an id are numbered by their place, so that no two of them share one.
        nodes.append({"id": name or f"object_{number}", "label": label or name, "attributes": words})
    for edge in _items(graph.get("edges")):
        if isinstance(edge, dict):
            ends = {name: _word(edge.get(name)) for name in ("source", "target", "relationship")}
            if all(ends.values()):  # an edge without one of its ends says nothing
                edges.append(ends)
    return {"nodes": nodes, "edges": edges}


def _items(value: Any) -> list[Any]:
    """The items of a list; a text stands for a list of itself, and anything else for an empty list."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) and value else []


def _word(value: Any) -> str:
    """A text or a number as text, "" for anything else. To Python true is a number, but it is no word of a scene."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
