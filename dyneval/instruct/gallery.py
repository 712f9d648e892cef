"""The samples in a build's report: the worst and the best pairs, and those whose T2IA and IQA differ most, with images.

Bad annotations gather there. A teacher that did not see an image, or answered another one's questions, gives scores at
the ends of the scale, or alignment and quality that contradict each other. A person finds out by looking at 24 pairs.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from dyneval.errors import ImageError
from dyneval.files.images import webp_thumbnail
from dyneval.instruct.annotations import AnnotatedPair, overall_score
from dyneval.records import IQAAnswer

MOST = 8
"""Pairs in a group."""
_SIDE = 320
"""Longest side of a picture on the page, in pixels."""
GROUPS = {
    "worst": "Lowest S",
    "best": "Highest S",
    "apart": "T2IA and IQA furthest apart",
}
Place = tuple[float, int]
"""How extreme a pair is, and its line in the metadata, negative so that of equals the first counts."""


@dataclass(slots=True)
class Extremes:
    """The most extreme of the kept pairs so far, at most `MOST` a group; a heap each, the least extreme first."""

    found: dict[str, list[Place]] = field(default_factory=lambda: {group: [] for group in GROUPS})

    def add(self, number: int, t2ia: float | None, iqa: float | None, overall: float | None) -> None:
        """Consider the pair of line `number` with its scores, 1-5."""
        if overall is None:
            return
        self._put("worst", (-overall, -number))
        self._put("best", (overall, -number))
        if t2ia is not None and iqa is not None:
            self._put("apart", (abs(t2ia - iqa), -number))

    def merge(self, other: Extremes) -> None:
        """Consider the extremes of another chunk."""
        for group, places in other.found.items():
            for place in places:
                self._put(group, place)

    def _put(self, group: str, place: Place) -> None:
        heap = self.found[group]
        if len(heap) < MOST:
            heapq.heappush(heap, place)
        elif place > heap[0]:  # heap[0] is the least extreme one, which has to go
            heapq.heapreplace(heap, place)

    @property
    def numbers(self) -> dict[str, list[int]]:
        """Lines of the pairs by group, the most extreme first."""
        return {group: [-number for _, number in sorted(heap, reverse=True)] for group, heap in self.found.items()}


def gallery(groups: Mapping[str, Sequence[AnnotatedPair]], root: Path) -> str:
    """Return the samples as HTML, each group under its heading.

    Args:
        groups: pairs by name of `GROUPS`.
        root: folder of their images.
    """
    parts = []
    for group, items in groups.items():
        if items:
            parts += [
                f"<h3>{GROUPS[group]}</h3><div class=samples>",
                *(_sample(item, root) for item in items),
                "</div>",
            ]
    return "".join(parts)


def _sample(item: AnnotatedPair, root: Path) -> str:
    pair = item.pair
    try:
        data, (width, height) = webp_thumbnail(pair.file_name, root, _SIDE)
    except ImageError as error:
        picture = f"<p class=problem>{escape(str(error)[:300])}</p>"
    else:
        # Inside of the page, so that the report is one file that can be sent to somebody.
        content = base64.b64encode(data).decode("ascii")
        picture = (
            f'<img src="data:image/webp;base64,{content}" width="{width}" height="{height}" loading="lazy" '
            f'alt="{escape(pair.prompt[:120])}">'
        )
    scores = [("S", overall_score(item.t2ia, item.iqa)), ("T2IA", item.t2ia), ("IQA", item.iqa)]
    said = " · ".join(f"{name} {score:.2f}" for name, score in scores if score is not None)
    tier = f", tier {pair.tier}" if pair.tier else ""
    return (
        f"<article>{picture}<div><p class=scores>{said}</p><p>{escape(pair.prompt[:600])}</p>"
        f"<p class=of>{escape(pair.pair_id)}, {escape(pair.generation_model)}{tier}</p>{''.join(_answers(item))}"
        f"{''.join(f'<p class=problem>{escape(problem.reason[:300])}</p>' for problem in item.problems)}"
        "</div></article>"
    )


def _answers(item: AnnotatedPair) -> Iterator[str]:
    """The answers of both parts, folded: score, question, target, what was seen, and the reason."""
    for name, row in (("T2IA", item.t2ia_answers), ("IQA", item.iqa_answers)):
        if row is None:
            continue
        lines = ""
        for answer in row.answers:
            seen = f", seen: {answer.answer}" if isinstance(answer, IQAAnswer) and answer.answer else ""
            target = f"expected: {answer.target_answer}{seen}" if answer.target_answer else ""
            score = answer.rating if isinstance(answer, IQAAnswer) else answer.score
            lines += (
                f"<tr><td>{'–' if score is None else score}</td><td>{escape(answer.question)} <i>{target}</i><br>"
                f"{escape(answer.reasoning)}</td></tr>"
            )
        yield f"<details><summary>{len(row.answers)} {name} answers</summary><table>{lines}</table></details>"
