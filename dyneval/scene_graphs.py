"""Scene graphs of any shape, as students and teachers write them, in the documented one."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def normalised_graph(raw: Any) -> Json:
    """A scene graph of any shape in the documented one: nodes (id, label, attributes) and edges.

    Nothing is invented: numbers become texts, an attribute object becomes "key: value" texts, a missing list is empty,
    extra keys are left out, and so is what is no node or edge. A bare list is taken for the list of nodes.
    """
    whole = raw if isinstance(raw, dict) else {"nodes": raw}
    nodes = [_node(node, number) for number, node in enumerate(_items(whole.get("nodes")), 1)]
    edges = [_edge(edge) for edge in _items(whole.get("edges"))]
    return {"nodes": [node for node in nodes if node], "edges": [edge for edge in edges if edge]}


def _node(node: Any, number: int) -> Json | None:
    fields = node if isinstance(node, dict) else {"label": node}
    label, name = _word(fields.get("label")), _word(fields.get("id"))
    if not label and not name:
        return None
    attributes = fields.get("attributes")
    if isinstance(attributes, dict):
        attributes = [f"{key}: {_word(value)}" for key, value in attributes.items() if _word(value)]
    words = [_word(attribute) for attribute in _items(attributes)]
    return {"id": name or f"object_{number}", "label": label or name, "attributes": [word for word in words if word]}


def _edge(edge: Any) -> Json | None:
    if not isinstance(edge, dict):
        return None
    found = {name: _word(edge.get(name)) for name in ("source", "target", "relationship")}
    return found if all(found.values()) else None


def _items(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) and value else []


def _word(value: Any) -> str:
    """A text or a number as text; anything else is none."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
