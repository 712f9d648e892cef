"""Demo prompts in the manner of DiffusionDB users, from terse to long-winded.

    python -m dyneval.demo.prompts --count 20000 --seed 7 --output output/demo/raw_prompts.txt

Every prompt can be read back by `dyneval.demo.grammar.scene_from_prompt`.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random

from dyneval.demo import grammar, styles
from dyneval.demo import vocabulary as words
from dyneval.demo.scenes import Group, Relation, Scene, random_scene
from dyneval.files.atomic import atomic_write

logger = logging.getLogger(__name__)

MIN_CHARACTERS = 30
SHORT_SHARE = 0.02
REPEATED_SHARE = 0.02
"""Shares of junk, so that filtering has something to do: prompts too short to keep, and exact repetitions."""

_ADDENDA = {1: (9, 18), 2: (2, 6), 3: (0, 2)}
"""Fewest and most style, quality and camera phrases per tier."""


def demo_prompts(count: int, seed: int) -> list[str]:
    """`count` prompts, about a third from each tier, in random order; same arguments, same list.

    All are distinct and at least 30 characters long except for about 2 % shorter ones and 2 % exact repetitions.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    rng = Random(f"demo prompts {seed}")
    prompts: list[str] = []
    fresh = _distinct_prompts(rng)
    for _ in range(count):
        junk = rng.random()
        if junk < SHORT_SHARE:
            prompts.append(_short_prompt(rng))
        elif junk < SHORT_SHARE + REPEATED_SHARE and prompts:
            prompts.append(rng.choice(prompts))
        else:
            prompts.append(next(fresh))
    return prompts


def write_prompt(scene: Scene, tier: int, rng: Random) -> str:
    """A prompt for `scene` (at least one group), wordy as prompts of `tier` (1 hard, 3 easy) are.

    It has at least 30 characters, and `scene_from_prompt` gives `scene` back.
    """
    if not scene.groups:
        raise ValueError("a prompt needs a scene with at least one group")
    pieces = _scene_pieces(scene, tier, rng)
    fewest, most = _ADDENDA[tier]
    pool = list(styles.QUALITY + styles.CAMERA + styles.STYLES)
    rng.shuffle(pool)
    addenda = [pool.pop() for _ in range(rng.randint(fewest, most))]
    while len(", ".join(pieces + addenda)) < MIN_CHARACTERS:
        addenda.append(pool.pop())
    if addenda and rng.random() < 0.15:
        pieces.insert(0, addenda.pop())
    return _dress(pieces, addenda, rng)


def _distinct_prompts(rng: Random) -> Iterator[str]:
    seen: set[str] = set()
    while True:
        tier = rng.choice((1, 2, 3))
        prompt = write_prompt(random_scene(rng, tier), tier, rng)
        if prompt not in seen:
            seen.add(prompt)
            yield prompt


def _short_prompt(rng: Random) -> str:
    group = Group(kind=rng.choice(sorted(words.KINDS)), colour=rng.choice(sorted(words.COLOURS)))
    text = _describe(group, rng)
    return text.upper() if rng.random() < 0.2 else text


# ---------------------------------------------------------------------------
# From scene to pieces


def _scene_pieces(scene: Scene, tier: int, rng: Random) -> list[str]:
    """Name every group in order, each with its relation to an earlier one, then the setting."""
    first = _describe(scene.groups[0], rng)
    pieces = [_medium(first, tier, rng)]
    for i, group in enumerate(scene.groups[1:], 1):
        earlier = scene.groups[:i]
        relation = next((r for other in earlier if (r := _between(scene, group, other))), None)
        _name_group(pieces, scene, i, relation, rng)
    if scene.setting != words.STUDIO:
        _append(pieces, rng.choice(words.SETTINGS[scene.setting]), rng.random() < 0.7)
    return pieces


def _between(scene: Scene, group: Group, other: Group) -> Relation | None:
    return next((r for r in scene.relations if {r.subject, r.object} == {group.kind, other.kind}), None)


def _name_group(pieces: list[str], scene: Scene, i: int, relation: Relation | None, rng: Random) -> None:
    group, described = scene.groups[i], _describe(scene.groups[i], rng)
    if relation is None:
        _append(pieces, f"{rng.choice(grammar.JOINS)} {described}", rng.random() < 0.6, alone=described)
        return
    name = rng.choice(words.RELATIONS[relation.name])
    other = scene.group(relation.object if relation.subject == group.kind else relation.subject)
    assert other is not None, "a relation joins two groups of its scene"
    if relation.subject == group.kind:
        joined = f"{described} {name} the {other.noun}"
        _append(pieces, f"{rng.choice(grammar.JOINS)} {joined}", rng.random() < 0.4, alone=joined)
    elif other is scene.groups[i - 1] and pieces[-1].endswith(f"{other.noun}") and rng.random() < 0.8:
        pieces[-1] += f" {name} {described}"
    else:
        _append(pieces, f"{rng.choice(grammar.JOINS)} {described}", rng.random() < 0.5, alone=described)
        verb = rng.choice(("", "is " if other.count == 1 else "are "))
        pieces.append(f"the {other.noun} {verb}{name} the {group.noun}")


def _append(pieces: list[str], text: str, same_piece: bool, alone: str | None = None) -> None:
    if same_piece:
        pieces[-1] += f" {text}"
    else:
        pieces.append(alone or text)


def _describe(group: Group, rng: Random) -> str:
    adjectives = [group.colour]
    if group.size != words.MEDIUM:
        adjectives.insert(0, rng.choice(words.SIZES[group.size]))
    if group.material != words.PLAIN:
        adjectives.append(group.material)
    phrase = " ".join((*adjectives, group.noun))
    if group.count > 1:
        phrase = f"{words.COUNTS[group.count] if rng.random() < 0.85 else group.count} {phrase}"
    else:
        phrase = words.with_article(phrase)
    phrases = words.LABEL_PHRASES + (("that says",) if group.count == 1 else ("that say",))
    return f'{phrase} {rng.choice(phrases)} "{group.label}"' if group.label else phrase


def _medium(described: str, tier: int, rng: Random) -> str:
    if rng.random() > {1: 0.8, 2: 0.6, 3: 0.35}[tier]:
        return described
    medium = rng.choice(styles.MEDIA)
    return f"{words.with_article(medium)} of {described}" if rng.random() < 0.7 else f"{medium} of {described}"


# ---------------------------------------------------------------------------
# From pieces to text


def _dress(pieces: list[str], addenda: list[str], rng: Random) -> str:
    """Join the pieces the ways users do: one comma list, sentences first, odd spaces, any case."""
    manner = rng.random()
    if manner < 0.2:
        text = ". ".join(_sentence(piece) for piece in pieces) + "."
        text = f"{text} {_sentence(', '.join(addenda))}." if addenda else text
    else:
        text = (" , " if manner < 0.3 else ", ").join(pieces + addenda)
    case = rng.random()
    if case < 0.03:
        return text.upper()
    return text if case < 0.6 else text[0].upper() + text[1:] if case < 0.75 else text.lower()


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def main() -> None:
    """Write demo prompts as text, one a line."""
    parser = argparse.ArgumentParser(description="Write demo prompts, one a line.")
    parser.add_argument("--count", type=int, required=True, help="how many prompts")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same prompts (default 0)")
    parser.add_argument("--output", type=Path, required=True, help="text file to write")
    args = parser.parse_args()
    if args.count < 1:
        parser.error(f"--count must be at least 1, not {args.count}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    write_prompts_file(args.output, args.count, args.seed)


def write_prompts_file(path: Path, count: int, seed: int) -> None:
    """Write `demo_prompts(count, seed)` to `path`, one a line, all or nothing."""
    with atomic_write(path) as file:
        file.writelines(f"{prompt}\n" for prompt in demo_prompts(count, seed))
    logger.info("%s: %d demo prompts, seed %d", path, count, seed)


if __name__ == "__main__":
    main()
