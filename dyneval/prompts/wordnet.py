"""WordNet's words as tags: the part of speech of a word that no list names, whether its verb is an action, and so on.

    $ apt-get install wordnet-base
    $ python -m dyneval.prompts.wordnet /usr/share/wordnet        # writes data/wordnet.txt.xz anew

Without it labels would know only the verbs, animals and shapes that somebody thought of writing down. The word lists
hold what their authors thought of; WordNet 3.0 knows 8,400 verbs, 17,900 adjectives and 55,200 nouns of one word.
`compile_words` reads its files (wndb(5WN)) and gives every inflected form its tags; `load` gives them back. A line of
the file is a set of tags, a colon, and all words that have it.

Tags of verb forms are a class and a form, such as act_ing: forms are base, s, ing and past, classes are

    act     something that somebody does: fall, chisel, whisper, sleep; not be, know, glow
    agent   an act of which only somebody is the subject: chisel, not fall
    rest    an act that needs no object: perch, leap, kneel
    move    an act of motion: leap, plow, swirl
    effect  what a thing does to another: reflect, illuminate, crush; not eat
    happen  what happens to a thing or sounds from it, and is no act: creak, sprout, ignite; not shine
    hide    one thing keeps another from view: obscure, conceal
    cover   one thing covers another: blanket, envelop
    enclose one thing is all around another: encircle, encase
    surpass one thing is more than another: outnumber, exceed

Other tags: weak (a noun or an adjective, too, at least as often), noun, nouns (plural), adverb, adjective, shape,
form (a noun that is a figure of geometry first, whatever verb it is, too: swirl), color, hue (a colour, though that
is not what the noun usually means: wine), more (newer), weak_more (a noun or a verb, too: cooler), and what a noun
usually means: `NOUNS` and `BELOW`.
"""

from __future__ import annotations

import lzma
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from dyneval.prompts.wordlists import comparative, past, plural, present_participle

FILE = "wordnet.txt.xz"
Tags = frozenset[str]
Group = tuple[Tags, tuple[str, ...]]
"""A set of tags and the words that have it."""
Forms = Iterator[tuple[str, list[str]]]
"""Forms of a word, each with its tags."""
Key = tuple[str, str]
"""A word and its part of speech: n, v, a or r."""

# Lexicographer files, lexnames(5WN): body, change, communication, competition, consumption, contact, creation, motion,
# perception, possession, social. Not there: cognition, emotion, stative, weather.
_ACTS = frozenset({29, 30, 32, 33, 34, 35, 36, 38, 39, 40, 41})
# Of these, change, contact, creation, motion, perception: what one sees a thing do to another.
_PHYSICAL = frozenset({30, 35, 36, 38, 39})
# Sentence frames, wninput(5WN): 2 Somebody ----s, 22 Somebody ----s PP, 1 Something ----s, and so on.
_BY_SOMEBODY = frozenset({2, 7, 8, 9, *range(13, 34)})
_BY_SOMETHING = frozenset({1, 4, 5, 6, 10, 11, 12})
_ALONE = frozenset({2, 22})
# Body, change, contact, perception, weather, of a thing without an object: a door creaks, a seed sprouts.
_HAPPENINGS, _THING_ALONE = frozenset({29, 30, 35, 39, 43}), frozenset({1, 4})
# Shining is left out: "glowing" and "gleaming" tell how a thing looks, not what it does.
_LIGHT = re.compile(r"\b(light|bright\w*|shin\w+|glow\w*|gleam\w*|luminous|iridescent)\b")
_TRANSITIVE, _THING_TO_THING = frozenset({4, 8, 9, 11}), 11
_SPEECH = 32
_MOTION = 38
_SENSES = 3
"""Senses of a verb that are looked at, the most usual ones."""
# The roots of what hides and of what exceeds, whose kinds WordNet knows.
HIDING = ("hide", "obscure", "conceal", "overshadow", "occult", "shroud", "obstruct", "veil", "mask", "occlude")
SURPASSING = ("surpass", "exceed", "outnumber", "outweigh", "rival", "dwarf", "overshadow", "outdo")
_UNSEEN = re.compile(
    r"\b(hid(e|den|ing)|conceal\w*|obscur\w*|less (visible|distinct)|from (view|sight)|invisible|imperceptible)\b"
)
"""What the definition of a verb says that has one thing hide another."""
_COVERS = re.compile(
    r"^(enclose|envelop|surround|(extend|flow) over|lie (up)?on|form a cover|wrap|cover\b(?!.* with ))"
    r"|^protect .* view\b"
)
"""The same of a verb that has one thing cover another or be around it; "cover with" is said of paint and tiles."""
_ENCLOSES = re.compile(
    r"^((enclose|envelop)\b(?! (in a?|with)\b)|enclose in, or as if in, a case|surround\b(?! (so|with))"
    r"|extend on all sides|form a circle around|flow over or cover|cover completely or\b)"
)
"""The same of a verb that has one thing be all around another."""
_BENDS = re.compile(
    r"\b(form an? (arch|curve|curl)|an? (crooked|zigzag|spiral)|curl tightly|curve upward|bend inwards?|in curves"
    r"|(in|make a) loops?)\b"
)
"""The same of a verb whose participles tell a shape: curled, zigzagged."""
COVERINGS = ("protective_covering", "cloth_covering", "headdress", "cloak")
"""Nouns that are verbs, too, cover as verbs: screen, curtain, hood."""
_OUT = re.compile(r"out(?=[a-z]{3})")
"""Verbs that begin so and go on with a verb are comparisons: outshine, outrun."""
_COLOURED = re.compile(
    r"^(\([^)]*\) )?(having|of) .*\b(between|brown\w*|red\w*|orange\w*|the) (colou?r|coat)\b"
    r"|\bcolou?r (between|of)\b|\bhair colou?r\b|\bbright orange of\b"
)
"""What the definition of an adjective says that is a colour's, besides those that WordNet puts beside "chromatic"."""
_SHAPED = re.compile(
    r"\bshaped?\b|\bin the form of an?\b"
    r"|^(\([^)]*\) )?(having|curved|bent|notched|tapering|divided into|con(cave|vex)|resembling)\b"
    r"(?! (no|lost|few|the torso|the back)\b)"
    r".*\b(curved?|bent|rounded|pointed|lobes?|lobed|notch\w*|toothed|teeth|saw|sickle|beak|hook|angle|each end"
    r"|grooves?|both sides|concave|convex)\b"
)
"""What the gloss of an adjective says that tells a shape."""
# Endings of adjectives that WordNet explains in the words of geometry ("having six angles"): hexagonal, spheroid.
_SHAPES = re.compile(r"(gonal|hedral|oidal|spheroid|angular|lateral|spherical|cylindrical)$")
FORMS = (
    "plane_figure", "polyhedron", "coil", "whirl", "spheroid", "cylinder", "cone", "torus", "disk", "curve", "circle",
    "dome",
)  # fmt: skip
"""The roots of the figures of geometry, each in its meanings among the shapes."""
NOUNS = {5: "animal", 6: "object", 8: "body", 13: "food", 18: "human", 20: "plant", 25: "figure"}
"""Tag of a noun by the lexicographer file (lexnames(5WN)) of its most usual meaning."""
BELOW = {
    "vehicle": ("vehicle", "craft"),
    "clothing": ("clothing", "headdress", "footwear", "jewelry"),
    "building": ("building",),
    "furnishing": ("furniture",),
    "color": ("chromatic_color", "achromatic_color"),
}
"""Tag of a noun by what its most usual meaning is a kind of; goes before `NOUNS`."""


class Synset(NamedTuple):
    """One meaning: lexicographer file, words, pointers (symbol, part of speech, offset), frames (number, word or 0).

    The definition is WordNet's gloss without its examples, which would match what definitions are searched for.
    """

    file: int
    words: tuple[str, ...]
    pointers: tuple[tuple[str, str, str], ...]
    frames: tuple[tuple[int, int], ...]
    definition: str

    def frames_of(self, word: str) -> set[int]:
        """The sentence frames that `word` has in this meaning."""
        return {frame for frame, place in self.frames if place == 0 or self.words[place - 1].lower() == word}


class WordNet:
    """The files of WordNet's folder dict/, read into dictionaries."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where a file of WordNet is missing."""
        names = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
        self.meanings: dict[str, dict[str, Synset]] = {pos: {} for pos in names}
        self.senses: dict[Key, list[str]] = {}
        self.irregular: dict[Key, list[str]] = defaultdict(list)
        for pos, name in names.items():
            for fields in _lines(folder / f"data.{name}"):
                # Offset, file, kind, number of words (hexadecimal), words, number of pointers, pointers, and of verbs
                # the number of frames and the frames; then a bar and the gloss.
                count = int(fields[3], 16)
                words = tuple(re.sub(r"\(\w+\)$", "", word) for word in fields[4 : 4 + 2 * count : 2])
                rest = fields[4 + 2 * count : fields.index("|")]
                end = 1 + 4 * int(rest[0])
                pointers = tuple((rest[i], rest[i + 2], rest[i + 1]) for i in range(1, end, 4))
                frames = tuple((int(rest[i]), int(rest[i + 1], 16)) for i in range(end + 2, len(rest), 3))
                definition = " ".join(fields[fields.index("|") + 1 :]).partition(";")[0]
                self.meanings[pos][fields[0]] = Synset(int(fields[1]), words, pointers, frames, definition)
            for fields in _lines(folder / f"index.{name}"):
                self.senses[fields[0], pos] = fields[-int(fields[2]) :]
            for form, *lemmas in _lines(folder / f"{name}.exc"):
                for lemma in lemmas if _WORD.fullmatch(form) else ():
                    self.irregular[lemma, pos].append(form)
        self.uses: dict[Key, int] = defaultdict(int)
        """How often a word was met in WordNet's tagged texts, in all its meanings."""
        for key, _, uses in _lines(folder / "cntlist.rev"):
            lemma, _, sense = key.partition("%")
            # Kind 5 is an adjective that is like another one; index.adj has it as an adjective.
            self.uses[lemma, "nvara"[int(sense[0]) - 1]] += int(uses)

    def kinds(self, pos: str, roots: Iterable[str], file: int | None = None) -> frozenset[str]:
        """Walk down WordNet's hierarchy.

        Args:
            pos: Part of speech: n or v.
            roots: Words, of each of which the most usual meaning is taken.
            file: Take the most usual meaning in this lexicographer file instead.

        Returns:
            Offsets of these meanings and of all that are kinds of one of them, however deep.
        """
        under: dict[str, list[str]] = defaultdict(list)
        for offset, synset in self.meanings[pos].items():
            for symbol, _, other in synset.pointers:
                if symbol == "@":
                    under[other].append(offset)
        meanings = self.meanings[pos]
        found = set[str]()
        left = [
            next(offset for offset in self.senses[root, pos] if file in (None, meanings[offset].file)) for root in roots
        ]
        while left:
            offset = left.pop()
            if offset not in found:
                found.add(offset)
                left += under[offset]
        return frozenset(found)

    def usual(self, word: str, pos: str, number: int = 1) -> list[Synset]:
        """The `number` most usual meanings of a word, most usual first."""
        return [self.meanings[pos][offset] for offset in self.senses.get((word, pos), [])[:number]]


def _lines(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="latin-1") as file:
        yield from (line.split() for line in file if not line.startswith("  "))


def compile_words(folder: Path) -> dict[str, Tags]:
    """Give every form of every word its tags.

    Args:
        folder: With WordNet's files data.*, index.*, *.exc and cntlist.rev, such as /usr/share/wordnet.

    Returns:
        Forms of words of one part, in lower case -> tags, without forms that have none.

    Raises:
        OSError: a file is missing.
    """
    net = WordNet(folder)
    groups = {tag: net.kinds("n", roots) for tag, roots in BELOW.items()}
    kinds = {"hide": net.kinds("v", HIDING), "surpass": net.kinds("v", SURPASSING), "cover": net.kinds("n", COVERINGS)}
    # WordNet puts the adjectives of colour around "chromatic" and "achromatic", having hue or none.
    heads = {offset for word in ("chromatic", "achromatic") for offset in net.senses[word, "a"]}
    colours = frozenset(
        offset
        for offset, synset in net.meanings["a"].items()
        if any(symbol == "&" and other in heads for symbol, _, other in synset.pointers)
    )
    hues, figures = net.kinds("n", BELOW["color"]), net.kinds("n", FORMS, _SHAPE)
    forms: dict[str, Callable[[str], Forms]] = {
        "n": lambda word: _noun_forms(net, word, groups, hues, figures),
        "v": lambda word: _verb_forms(net, word, kinds),
        "a": lambda word: _adjective_forms(net, word, colours),
        "r": lambda word: iter([(word, ["adverb"])]),
    }
    found: dict[str, set[str]] = defaultdict(set)
    for word, pos in net.senses:
        if _WORD.fullmatch(word):
            for form, tags in forms[pos](word):
                found[form].update(tags)
    return {word: frozenset(tags) for word, tags in sorted(found.items()) if tags and _WORD.fullmatch(word)}


# Words of several parts and names with capitals are left to the lists, where phrases have tags of their own.
_WORD = re.compile(r"[a-z]{2,}")
_GRADED = 8
"""Letters of the longest adjective that gets a comparative of its own: longer ones take "more"."""


def _noun_forms(
    net: WordNet, word: str, groups: dict[str, frozenset[str]], hues: frozenset[str], figures: frozenset[str]
) -> Forms:
    """Forms with what the most usual meaning is, for nouns that are not verbs or adjectives in the first place."""
    tags: list[str] = []
    # Names such as Wolverine, of whoever comes from Michigan, are other words.
    common = [offset for offset in net.senses[word, "n"] if word in net.meanings["n"][offset].words]
    if common and net.uses[word, "n"] >= max(net.uses[word, "v"], net.uses[word, "a"]):
        offset, synset = common[0], net.meanings["n"][common[0]]
        if synset.file == _PERSON and not net.uses[word, "n"] and _DOER.search(word):
            # A printer, a stroller or a coaster: no text that WordNet counted in has it, and pictures have the thing.
            made = (net.meanings["n"][other] for other in common[1:])
            synset = next((other for other in made if other.file == _ARTEFACT), synset)
        names = [tag for tag, group in groups.items() if offset in group] or [NOUNS.get(synset.file, "")]
        tags = [name for name in names[:1] if name]
    if common and common[0] in figures and net.meanings["n"][common[0]].file == _SHAPE:
        tags.append("form")
    is_hue = hues.intersection(net.senses[word, "n"]) and "color" not in tags
    yield word, ["noun", *tags, *(["hue"] if is_hue else [])]
    for form in net.irregular.get((word, "n")) or [plural(word)]:
        yield form, ["nouns", *tags]


_PERSON, _ARTEFACT = 18, 6
_DOER = re.compile("[eo]r$")


def _verb_classes(net: WordNet, word: str, kinds: dict[str, frozenset[str]]) -> list[str]:
    """The classes of a verb: what somebody or something does, and whether it hides, covers or exceeds another."""
    (first_offset, *_), usual = net.senses[word, "v"], net.usual(word, "v", 2)
    classes = []
    hides = first_offset in kinds["hide"] and usual[0].frames_of(word) & _TRANSITIVE
    if hides or any(
        _UNSEEN.search(synset.definition) and _THING_TO_THING in synset.frames_of(word) and synset.file != _SPEECH
        for synset in usual
    ):
        classes.append("hide")
    if kinds["cover"].intersection(net.senses.get((word, "n"), [])[:_SENSES]) or any(
        _COVERS.search(synset.definition) and synset.frames_of(word) & _TRANSITIVE
        for synset in net.usual(word, "v", _SENSES)
    ):
        classes.append("cover")
    if any(_ENCLOSES.search(synset.definition) and synset.frames_of(word) & _TRANSITIVE for synset in usual):
        classes.append("enclose")
    if first_offset in kinds["surpass"] or (
        _OUT.match(word) and (word[3:], "v") in net.senses and word not in _NO_COMPARISONS
    ):
        classes.append("surpass")
    frames = set[int]()
    files = set[int]()
    effect = False
    for synset in net.usual(word, "v", _SENSES):
        mine = synset.frames_of(word)
        if synset.file == _MOTION or (synset.file in _ACTS and mine & _BY_SOMEBODY):
            files.add(synset.file)
            frames |= mine
            effect |= _THING_TO_THING in mine and synset.file in _PHYSICAL
    if not files:
        (first,) = net.usual(word, "v")
        happens = first.file in _HAPPENINGS and first.frames_of(word) & _THING_ALONE
        return ["happen", *classes] if happens and not _LIGHT.search(first.definition) else classes
    return [
        *classes,
        "act",
        *(["agent"] if not frames & _BY_SOMETHING else []),
        *(["rest"] if frames & _ALONE else []),
        *(["move"] if _MOTION in files else []),
        *(["effect"] if effect else []),
    ]


def _verb_forms(net: WordNet, word: str, kinds: dict[str, frozenset[str]]) -> Forms:
    classes = _verb_classes(net, word, kinds)
    irregular = net.irregular.get((word, "v"), [])
    participles = [form for form in irregular if form.endswith("ing") and form != word]
    pasts = [form for form in irregular if form not in participles]
    forms = {
        "base": [word],
        "s": [plural(word)],
        "ing": [*participles, present_participle(word)],
        # Irregular forms in -ed only double a letter, which some spellings do not: chiselled, chiseled.
        "past": [*pasts, *([past(word)] if all(form.endswith("ed") for form in pasts) else [])],
    }
    if any(_BENDS.search(synset.definition) for synset in net.usual(word, "v", 2)):
        yield from ((form, ["shape"]) for kind in ("ing", "past") for form in forms[kind])
    for kind, members in forms.items():
        for form in members if classes else []:
            yield form, [*(f"{name}_{kind}" for name in classes), *(["weak"] if _is_weak(net, word, form) else [])]


# Each is "out" and a verb, but no comparison.
_NO_COMPARISONS = ("outfit", "outlay", "outcry", "outlive", "outstare", "outline", "outpour", "outsource")


def _is_weak(net: WordNet, verb: str, form: str) -> bool:
    """Whether a verb's form is another part of speech at least as often: a plural, a noun in -ing, an adjective."""
    noun = verb if form == plural(verb) else form
    other = max(net.uses[noun, "n"], net.uses[form, "a"])
    named = (noun, "n") in net.senses or (form, "a") in net.senses
    if form == plural(verb) and other < 2 and {synset.file for synset in net.usual(noun, "n")} <= _DEEDS:
        return False  # Two pirouettes are danced, too.
    if form.endswith("ing") and form != verb:
        thing = any(synset.file not in _DEEDS for synset in net.usual(form, "n"))
        named = thing or ((form, "a") in net.senses and other > 0)
        return named and other >= net.uses[verb, "v"] // 4
    return named and other >= net.uses[verb, "v"]


_DEEDS = frozenset({4, 11, 22})
"""Lexicographer files of nouns that are deeds (act, event, process): "leaping" is none the less a verb."""


def _adjective_forms(net: WordNet, word: str, colours: frozenset[str]) -> Forms:
    (synset,) = net.usual(word, "a")
    shape = (
        _SHAPED.search(synset.definition)
        or _SHAPES.search(word)
        or any(
            symbol in ("+", "\\") and pos == "n" and net.meanings["n"][other].file == _SHAPE
            for symbol, pos, other in synset.pointers
        )
    )
    coloured = colours.intersection(net.senses[word, "a"]) or (
        net.uses[word, "a"] >= net.uses[word, "n"]
        and any(_COLOURED.search(meaning.definition) for meaning in net.usual(word, "a", 2))
    )
    yield word, ["adjective", *["shape"] * bool(shape), *["color"] * bool(coloured)]
    if len(word) <= _GRADED:
        irregular = [form for form in net.irregular.get((word, "a"), []) if form.endswith("r") or form == "worse"]
        for form in irregular or [comparative(word)]:
            yield form, ["weak_more" if net.senses.keys() & {(form, "n"), (form, "v")} else "more"]


_SHAPE = 25


def main() -> None:
    """Write the packaged file from the folder that the command line names."""
    words = compile_words(Path(sys.argv[1]))
    groups: dict[str, list[str]] = defaultdict(list)
    for word, tags in words.items():
        groups[" ".join(sorted(tags))].append(word)
    text = "".join(f"{tags}: {' '.join(members)}\n" for tags, members in sorted(groups.items()))
    path = Path(__file__).with_name("data") / FILE
    path.write_bytes(lzma.compress(text.encode(), preset=9))
    print(f"{len(words)} words, {len(groups)} sets of tags, {path.stat().st_size} bytes")  # noqa: T201


@cache
def load() -> tuple[Group, ...]:
    """The packaged groups, read once a process.

    The name of every tag begins with wn_ here: the word lists have tags of the same names (animal, shape), and the
    rules tell what somebody listed from what WordNet says.
    """
    packed = files("dyneval.prompts").joinpath("data", FILE).read_bytes()
    lines = (line.partition(": ") for line in lzma.decompress(packed).decode().splitlines())
    return tuple((frozenset(f"wn_{tag}" for tag in tags.split()), tuple(words.split())) for tags, _, words in lines)


if __name__ == "__main__":
    main()
