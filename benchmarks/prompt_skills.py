"""What labels find of words that no word list names: recall and precision a skill, on sentences made of such words.

    python benchmarks/prompt_skills.py                  # both splits
    python benchmarks/prompt_skills.py --misses         # and the sentences of `dev` that were labelled wrongly

`data/skill_words.toml` holds words; those that a word list or a rule names are left out, and those that WordNet does
not know, so the figure is one of what generalises. Names of styles are names: no lexicon has to know them. Short
sentences are captions, long ones have the skill in the middle of other matter. A word and all its sentences go to one
of two splits by a hash; only `dev` was looked at while rules were written.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from harness import Flags, Results

from dyneval.hashing import part_of
from dyneval.prompts import wordlists, wordnet
from dyneval.prompts.analysis import describe

FILE = Path(__file__).with_name("data") / "skill_words.toml"
SKILLS = {
    "action": {"human_action", "animal_action", "object_manipulation", "object_interaction"},
    "comparison": {"comparative_relation"},
    "style": {"style_binding", "artist_style", "art_style", "anti_realism", "genre_style"},
    "3D": {"spatial_3d"},
    "shape": {"shape_binding"},
    "colour": {"color_binding"},
}
LONG = (
    "In the soft light of early morning, beside a row of old wooden shelves, {}, the whole scene in muted tones with a "
    "wide view of the room.",
    "A quiet composition with warm lamps and long shadows: {}. The setting is a plain brick room, the mood is calm.",
)
# The lists that say where things are. A cloak is on the list of clothes, but no list says that it hides anything.
PLACES = {"depth", "relative", "spatial_2d", "joiner"}


class Sentence(NamedTuple):
    """A sentence, its skill ("none" where it has none), its length and the split of its word."""

    text: str
    skill: str
    length: str
    split: str


def sentences() -> list[Sentence]:
    """All sentences, the same at every call."""
    data = tomllib.loads(FILE.read_text("utf-8"))
    listed = wordlists.load()
    named = {form for entry in listed for form in entry} | {*wordnet.HIDING, *wordnet.SURPASSING}
    of_place = {entry[0] for entry, tags in listed.items() if tags & PLACES} | {*wordnet.HIDING}
    known = {word for _, words in wordnet.load() for word in words}
    made = []
    for number, (word, skill, clauses) in enumerate(
        _clauses(data, (known - named).__contains__, (known - of_place).__contains__)
    ):
        split = ("dev", "held_out")[part_of(word, "skills", 2)]
        made += [Sentence(clause, skill, "short", split) for clause in clauses]
        made += [Sentence(LONG[number % 2].format(clause), skill, "long", split) for clause in clauses]
    return made


def with_article(names: list[str], number: int) -> str:
    """One of the names, in turn, with its article."""
    name = names[number % len(names)]
    return ("an " if name[0] in "aeiou" else "a ") + name


def _clauses(
    data: dict, is_fit: Callable[[str], bool], can_hide: Callable[[str], bool]
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each word that is fit with its skill and the clauses that use it."""
    beings = [name for pair in zip(data["people"], data["animals"], strict=True) for name in pair]
    for number, verb in enumerate(filter(is_fit, data["acts"])):
        being, several = with_article(beings, number), wordlists.plural(beings[number % len(beings)])
        forms = (
            f"{being} {wordlists.present_participle(verb)}",
            f"{being} {wordlists.plural(verb)}",
            f"two {several} {verb}",
        )
        yield verb, "action", [f"{form} {data['acts'][verb]}" for form in forms]
    things = data["things"]
    more = {word: more for word, more in data["comparatives"].items() if is_fit(word) and is_fit(more)}
    for number, (word, form) in enumerate(more.items()):
        first, second = with_article(things, number), things[(number + 5) % len(things)]
        yield word, "comparison", [f"{first} {form} than a {second}", f"{first}, and a {second} that is {form}"]
        yield word, "comparison", [f"{first} that is {form} than the {second}", f"{first} and a {form} {second}"]
    for number, verb in enumerate(filter(is_fit, data["surpassing"]["verbs"])):
        first, second = things[number % len(things)], things[(number + 3) % len(things)]
        two = f"the {wordlists.plural(first)} {verb} the {wordlists.plural(second)}"
        yield verb, "comparison", [two, f"the {first} {wordlists.plural(verb)} the {second}"]
    for number, verb in enumerate(filter(can_hide, data["hiding"]["verbs"])):
        first, second = with_article(things, number), with_article(things, number + 7)
        passive = f"{first} partly {wordlists.past(verb)} by {second}"
        yield verb, "3D", [f"{first} {wordlists.plural(verb)} {second}", passive]
    for number, name in enumerate(data["styles"]["names"]):
        thing = with_article(things, number)
        yield name, "style", [f"{thing} in {name} style", f"{thing} in the style of {name}", f"{thing}, {name}-style"]
    for skill, key in (("shape", "shapes"), ("colour", "colors")):
        for number, word in enumerate(filter(is_fit, data[key]["words"])):
            thing = things[number % len(things)]
            yield word, skill, [f"{with_article([word], 0)} {thing}", f"the {thing} is {word}"]
    for clause in data["plain"]["clauses"]:
        yield clause, "none", [clause]


def table(split: str) -> list[tuple[str, str, float, float, int]]:
    """Rows of skill, length, recall, precision (of all labels of the skill at that length) and sentences."""
    rows = [sentence for sentence in sentences() if sentence.split == split]
    found = [set(one.categories) for one in describe([row.text for row in rows])]
    made = []
    for skill, names in SKILLS.items():
        for length in ("short", "long"):
            pairs = [
                (row.skill == skill, bool(labels & names))
                for row, labels in zip(rows, found, strict=True)
                if row.length == length
            ]
            hits = sum(true and given for true, given in pairs)
            true, given = sum(true for true, _ in pairs), sum(given for _, given in pairs)
            made.append((skill, length, hits / max(1, true), hits / max(1, given), true))
    return made


def captions(split: str) -> tuple[float, float, int, int]:
    """Recall and precision of an action on captions, how many there are with an act and how many without."""
    both = tomllib.loads(FILE.read_text("utf-8"))["captions"][split]
    given = [bool(SKILLS["action"] & set(one.categories)) for one in describe([*both["acts"], *both["none"]])]
    acts = len(both["acts"])
    return sum(given[:acts]) / acts, sum(given[:acts]) / sum(given), acts, len(both["none"])


def main() -> None:
    """Print a table for each split."""
    flags = Flags(__doc__)
    flags.add_argument("--misses", action="store_true", help="print the sentences of `dev` that were labelled wrongly")
    arguments = flags.parse_args()
    results = Results(arguments)
    for split in ("dev", "held_out"):
        columns = {"skill": "", "length": "", "recall": ".3f", "precision": ".3f", "sentences": ""}
        results.table(columns, f"{split}: {sum(one.split == split for one in sentences())} sentences")
        for row in table(split):
            results.row(*row)
        recall, precision, acts, plain = captions(split)
        results.row("action", "captions", recall, precision, f"{acts} and {plain} without")
    if not arguments.misses:
        return
    # Only those of `dev`: whoever reads the others and mends a rule for them has no held-out split any more.
    rows = [sentence for sentence in sentences() if sentence.split == "dev"]
    for row, one in zip(rows, describe([row.text for row in rows]), strict=True):
        for skill, names in SKILLS.items():
            given = sorted(names & set(one.categories))
            if bool(given) != (row.skill == skill):
                print(f"{'given' if given else 'missed'} {skill}: {row.text} {', '.join(given)}")


if __name__ == "__main__":
    main()
