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
    nodes = [_node(node, number) for number, node in enumerate(_items(graph.get("nodes")), 1)]
    edges = []
    for edge in _items(graph.get("edges")):
        if isinstance(edge, dict):
            ends = {name: _word(edge.get(name)) for name in ("source", "target", "relationship")}
            if all(ends.values()):  # an edge without one of its ends says nothing
                edges.append(ends)
    return {"nodes": [node for node in nodes if node], "edges": edges}


def _node(node: Any, number: int) -> Json | None:
    fields = node if isinstance(node, dict) else {"label": node}
    label, name = _word(fields.get("label")), _word(fields.get("id"))
    if not label and not name:
        return None
    attributes = fields.get("attributes")
    if isinstance(attributes, dict):
        attributes = [f"{key}: {_word(value)}" for key, value in attributes.items() if _word(value)]
    words = [_word(attribute) for attribute in _items(attributes)]
    # Nodes without an id are numbered by their place, so that no two of them share one.
    return {"id": name or f"object_{number}", "label": label or name, "attributes": [word for word in words if word]}


def _items(value: Any) -> list[Any]:
    """The items of a list; a text stands for a list of itself, and anything else for an empty list."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) and value else []


def _word(value: Any) -> str:
    """A text or a number as text, "" for anything else. To Python true is a number, but it is no word of a scene."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
