"""Categories: the pattern language, and the rules on prompts labelled by hand."""

import importlib
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyneval.prompts import categories, lexicon
from dyneval.prompts.analysis import analyse
from dyneval.prompts.patterns import Classes, Matcher, parse
from dyneval.prompts.text import tokenise
from dyneval.prompts.units import find_units

ROOT = Path(__file__).parents[2]
LABELLED = [json.loads(line) for line in (ROOT / "benchmarks/data/labelled_prompts.jsonl").open(encoding="utf-8")]
PUBLISHED = ROOT.parent / "shared" / "data" / "categories.json"


@pytest.fixture(scope="module")
def skills():
    """The benchmark's sentences of words that no list names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        module = importlib.import_module("prompt_skills")
    return module


def labels_of(*prompts: str) -> list[set[str]]:
    found = analyse(pl.Series(prompts), None).labels
    return [set(names) for names in categories.load().expand(found)]


def f1(truth: list[set[str]], found: list[set[str]], names: list[str]) -> float:
    pairs = [(t & set(names), f & set(names)) for t, f in zip(truth, found, strict=True)]
    hits = sum(len(t & f) for t, f in pairs)
    return 2 * hits / max(1, sum(len(t) + len(f) for t, f in pairs))


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published categories lie beside the repository")
def test_names_are_the_published_ones():
    published = json.loads(PUBLISHED.read_text("utf-8"))
    rules = categories.load()
    assert [name for names in published.values() for name in names] == list(rules.names)
    dimensions = {name: dimension for dimension, names in published.items() for name in names}
    assert {one.name: one.dimension for one in rules.categories} == dimensions


def test_nine_dimensions_with_forty_two_defined_sub_categories():
    rules = categories.load()
    assert len({category.dimension for category in rules.categories}) == 9 and len(rules.names) == 42
    assert all(category.definition.endswith(".") for category in rules.categories)


def test_the_labelled_set_covers_every_sub_category():
    counts = Counter(name for row in LABELLED for name in row["categories"])
    assert len(LABELLED) >= 150 and set(counts) == set(categories.load().names)


@pytest.mark.parametrize("split", ["rules", "held_out"])
def test_macro_f1_on_labelled_prompts(split):
    rows = [row for row in LABELLED if row["split"] == split]
    truth = [set(row["categories"]) for row in rows]
    found = labels_of(*(row["prompt"] for row in rows))
    dimensions = {}
    for category in categories.load().categories:
        dimensions.setdefault(category.dimension, []).append(category.name)
    by_dimension = [f1(truth, found, names) for names in dimensions.values()]
    by_name = [f1(truth, found, [name]) for name in categories.load().names if any(name in t for t in truth)]
    assert np.mean(by_dimension) >= 0.85 and np.mean(by_name) >= 0.85


@pytest.mark.parametrize(
    ("prompt", "has", "has_not"),
    [
        ("a hot dog on a paper plate in a busy diner", {"food_present", "indoor_scene"}, {"animal_present"}),
        ("A wooden sign that says 'two red dogs' in a park", {"text_in_image"}, {"animal_present", "count_exact"}),
        ("the words “big cats” painted on a brick wall", {"text_in_image"}, {"animal_present"}),
        ("12 penguins and 3 seals on an ice floe", {"count_exact", "count_multi_object"}, {"single_object"}),
        ("a portrait, 8 k, 8 5 mm lens, f / 1. 4, octane render", set(), {"count_exact"}),
        ("geese, mice and wolves in a snowy forest", {"animal_present", "multi_object"}, set()),
        ("a scarlet parakeet", {"color_binding", "single_object"}, {"multi_object"}),
        ("scarletish words and pantherlike things nobody knows", set(), {"color_binding", "animal_present"}),
        ("a castle in the style of studio ghibli", {"style_binding", "artist_style"}, set()),
        ("crows outnumber chimneys", {"comparative_relation"}, set()),
        ("a kiosk in stark contrast to the temple", {"comparative_relation"}, set()),
        ("a coat of red that contrasts sharply against the snow", {"comparative_relation"}, set()),
        ("swirls of contrasting colours on a fabric", set(), {"comparative_relation"}),
        ("the contrasting textures of the wool and the steel", {"comparative_relation"}, set()),
        ("The rough bark and the smooth stone are juxtaposed.", {"comparative_relation"}, set()),
        ("two identical vases", {"comparative_relation"}, set()),
        ("a tower as crooked as the tree", {"comparative_relation"}, set()),
        ("the smallest boat in the fleet", {"comparative_relation"}, set()),
        ("fewer people than chairs", {"comparative_relation"}, set()),
        ("a wardrobe and more crates with rope", set(), {"comparative_relation"}),
        ("an older man on a bench", set(), {"comparative_relation"}),
        ("a high contrast photo of a boxer", set(), {"comparative_relation"}),
        ("a leather-topped stool in an overgrown yard", set(), {"comparative_relation"}),
        ("a salt shaker and two printers near a coaster", set(), {"human_present"}),
        ("a bulldozer on top of a ridge plowing a track", {"object_interaction"}, set()),
        ("a minibus sits in a garage", set(), {"object_interaction"}),
        ("a badger, in front of a wall, lifts a melon", {"animal_action"}, set()),
        ("a badger in a hat chases the postman", {"animal_action"}, set()),
        (
            "A badger, its fur wet and its eyes on the far bank of a river, darted through the reeds.",
            {"animal_action"},
            set(),
        ),
        ("Perched on a gatepost, a badger with a lamp", {"animal_action"}, set()),
        ("beside the gate stands a weary badger", {"animal_action"}, set()),
        ("a badger with dark paws and a leather belt", set(), {"animal_action", "object_interaction"}),
        ("a pennant waves in the gale", {"object_interaction"}, set()),
        ("a shelf of pennants, lamps and flags in a hall", set(), {"object_interaction"}),
        ("a torch casting a blue shadow", {"object_interaction"}, set()),
        ("a gate creaks open", {"object_interaction"}, set()),
        ("cocoa is poured into a mug", {"object_interaction"}, set()),
        ("a badger is being combed in a barn", {"object_interaction"}, set()),
        ("an umpire, half asleep, waving flags at the crowd", {"human_action"}, set()),
        ("a crate holds a melon", set(), {"object_interaction"}),
        ("a crate conceals a melon", {"spatial_3d"}, {"object_interaction"}),
        ("a crate partly curtained by a rug", {"spatial_3d"}, set()),
        ("a crate stands proudly before the melon", {"spatial_3d"}, set()),
        ("a melon just before noon", set(), {"spatial_3d"}),
        ("a hut surrounded by pines", {"spatial_3d"}, set()),
        ("a coin encased in ice", {"spatial_3d"}, set()),
        ("a wooden fence surrounds the pasture", {"spatial_3d"}, set()),
        ("The backdrop is a snowy ridge.", {"spatial_3d"}, set()),
        ("a teapot on a grey backdrop", set(), {"spatial_3d"}),
        ("The background features rows of cabins", {"spatial_3d"}, set()),
        ("a red mug on a blue background", set(), {"spatial_3d"}),
        ("an arrow going through an apple", {"spatial_3d"}, set()),
        ("sunlight filtering through the leaves", {"spatial_3d"}, set()),
        ("a badger looking through a window", {"spatial_3d"}, set()),
        ("a courier cycling through a busy street", set(), {"spatial_3d"}),
        ("ships on the distant shore", {"spatial_3d"}, set()),
        ("the sun sinks below the horizon", {"spatial_3d"}, set()),
        ("a whale emerging from the water", {"spatial_3d"}, set()),
        ("a truck leaping in mid-air", set(), {"spatial_3d"}),
        ("a rug neatly draped over a chair", set(), {"spatial_3d"}),
        ("a watercolor of a badger", {"art_style"}, set()),
        ("a badger next to a painting", set(), {"art_style"}),
        ("a woman in a charcoal coat", set(), {"art_style"}),
        ("a digitally edited image of a flooded library", {"art_style"}, set()),
        ("a 3D render of a castle", {"art_style"}, set()),
        ("vines painting the walls in shades of green", set(), {"art_style"}),
        ("creating a lively mosaic of colours on the pavement", set(), {"art_style"}),
        ("a folder with pencil drawings", set(), {"art_style"}),
        ("a man holding a drawing", set(), {"art_style"}),
        ("a squid releasing black ink", {"color_binding"}, {"art_style"}),
        ("an artistic woman in a scarf", set(), {"art_style"}),
        ("a piano and other musical instruments", set(), {"genre_style"}),
        ("a vinyl record player stands on a rug", set(), {"human_present", "human_action"}),
        ("a serrated trowel", {"shape_binding"}, set()),
        ("zigzagged stripes on a scarf", {"shape_binding"}, set()),
        ("the spout is gently curved", {"shape_binding"}, set()),
        ("a blue swirl on a white page", {"shape_binding"}, set()),
        ("an orange pyramid next to a lamp", {"shape_binding"}, set()),
        ("the Egyptian pyramids at dawn", set(), {"shape_binding"}),
        ("a box, cylindrical and tall", {"shape_binding"}, set()),
        ("a circle of stones", {"shape_binding"}, set()),
        ("a semicircle of chairs", {"shape_binding"}, set()),
        ("a diamond necklace", set(), {"shape_binding"}),
        ("crossed arms", set(), {"shape_binding"}),
        ("two wardens are playing tennis", {"human_action"}, set()),
        ("a kettle is whistling", {"object_interaction"}, set()),
        ("a dinghy is moored in the cove", set(), {"object_interaction"}),
        ("a banner hangs between two chimneys", {"object_interaction"}, set()),
        ("a stool stands on a rug", set(), {"object_interaction"}),
        ("The lamp on the shelf lit the hallway", {"object_interaction"}, set()),
        ("a lamp lit by candles", set(), {"object_interaction"}),
        ("The curtain fluttered in the draught", {"object_interaction"}, set()),
        ("The moon shone on the estuary", {"object_interaction"}, set()),
        ("a glowing lantern", set(), {"object_interaction"}),
        ("A warden looked up in surprise", {"human_action"}, set()),
        ("a warden wearing a coat", set(), {"human_action", "object_interaction"}),
        ("a velvet chair and a steel desk forming a sharp contrast", {"comparative_relation"}, set()),
        ("a rough wall contrasting with a smooth door", {"comparative_relation"}, set()),
        ("a warden in a hut, movie texture", {"photographic_style"}, set()),
        ("a painting by a window, a movie theater", set(), {"photographic_style"}),
        ("a badger in a warm and bright watercolor style", {"style_binding"}, set()),
        ("a badger before the Egyptian pyramids", set(), {"style_binding"}),
        ("a spherical, transparent flask", {"shape_binding"}, set()),
        ("a deep crimson, uneven wall", {"color_binding"}, set()),
        ("hills tinged pink by the dawn", {"color_binding"}, set()),
        ("a wall with hues of teal and rust", {"color_binding"}, set()),
        ("warm amber tones", {"color_binding"}, set()),
        ("a green swirl", {"color_binding"}, set()),
        ("a scarf with yellow, white and grey", {"color_binding"}, set()),
        ("a den with a brown bear", {"color_binding"}, set()),
        ("a blue-eyed doll", {"color_binding"}, set()),
        ("everything is blue", {"color_binding"}, set()),
        ("a glass of orange juice", set(), {"color_binding"}),
        ("a coral reef", set(), {"color_binding"}),
        ("A toddler with a mournful expression gazes downward", {"human_action"}, set()),
        ("A dancer with one leg raised spins on her toes.", {"human_action"}, set()),
        ("Two wardens, clad in woollen shawls, hold up a lantern", {"human_action"}, set()),
        ("a mechanic getting a wheel off a truck", {"human_action"}, set()),
        ("a badger looking up at a chandelier", {"animal_action"}, set()),
        ("the players are engaged in a fierce game", {"human_action"}, set()),
        ("the girl's small hands grip the railing", {"object_interaction"}, set()),
        ("flakes of ash drifting over the rooftops", {"object_interaction"}, set()),
        ("a beach ball carried away by the tide", {"object_interaction"}, set()),
        ("a paper lantern above the lake crossing the night sky", {"object_interaction"}, set()),
        ("a bicycle melting into a puddle", {"object_interaction"}, set()),
        ("smoke billowing from a chimney", {"object_interaction"}, set()),
        ("the flames dance in the hearth", {"object_interaction"}, set()),
        ("a lid and a pan are set down as the kettle whistles on the stove", {"object_interaction"}, set()),
        ("six yellow peppers to the left of a jug", set(), {"object_interaction"}),
        ("clothes scattered across the floor", set(), {"object_interaction"}),
        ("a visually striking digital portrait", set(), {"object_interaction"}),
        ("a teddy bear with pilot goggles on its nose", set(), {"human_action", "animal_action"}),
        ("a magazine with the editor's name boldly printed at the top", set(), {"human_action"}),
        ("the windows are framed by shutters", set(), {"object_interaction"}),
    ],
)
def test_what_rules_are_made_for(prompt, has, has_not):
    (found,) = labels_of(prompt)
    assert has <= found and not has_not & found


def test_a_prompt_enclosed_in_quotes_keeps_its_content():
    (found,) = labels_of("“two red dogs in a park”")
    assert "animal_present" in found


@pytest.mark.parametrize("split", ["dev", "held_out"])
def test_words_that_no_list_names_are_labelled(skills, split):
    rows = {(skill, length): (recall, precision) for skill, length, recall, precision, _ in skills.table(split)}
    for (skill, length), (recall, precision) in rows.items():
        assert recall >= 0.9 and precision >= 0.95, (skill, length)


@pytest.mark.parametrize("split", ["dev", "held_out"])
def test_acts_in_captions_of_every_shape(skills, split):
    recall, precision, acts, plain = skills.captions(split)
    assert recall >= 0.85 and precision >= 0.95 and min(acts, plain) >= 40


def test_the_test_of_skills_is_large_and_split_by_word(skills):
    rows = skills.sentences()
    assert len(rows) >= 600 and len({row.text for row in rows}) == len(rows)
    assert all(sum(row.skill == skill for row in rows) >= 16 for skill in skills.SKILLS)


def test_labels_do_not_depend_on_the_neighbours():
    prompts = [row["prompt"] for row in LABELLED]
    together = labels_of(*prompts)
    assert together == [labels_of(prompt)[0] for prompt in prompts[:40]] + together[40:]
    assert together[::-1] == labels_of(*reversed(prompts))


LETTERS = {"a": "a", "b": "b", "c": "c"}
LEXICON = lexicon.build({(letter,): frozenset({letter}) for letter in LETTERS})
STEPS = st.tuples(st.sampled_from(["a", "b", "c", "ab", "a|c", "!a", "!ab"]), st.sampled_from(["", "?", "*3", "*"]))
AS_REGEX = {"a": "a", "b": "b", "c": "c", "ab": "[ab]", "a|c": "[ac]", "!a": "[bcx]", "!ab": "[cx]"}


@given(
    st.lists(st.text("abcx", max_size=12), min_size=1, max_size=4),
    st.lists(STEPS, max_size=4),
    st.sampled_from(list(AS_REGEX)),
    st.sampled_from(list(AS_REGEX)),
    st.booleans(),
)
def test_patterns_match_where_a_regular_expression_would(texts, middle, first, last, prepared):
    """Letters stand for units: a pattern over classes is a regular expression over letters."""
    steps = [(first, ""), *middle, (last, "")]
    pattern = parse(" ".join(name + repeat for name, repeat in steps))
    regex = "".join(AS_REGEX[name] + repeat.replace("*3", "{0,3}") for name, repeat in steps)
    classes = Classes(LEXICON, {"ab": ["a", "b"]})
    if prepared:
        classes.prepare(pattern)
    prompts = pl.Series([" ".join(text) for text in texts], dtype=pl.String)
    matcher = Matcher(find_units(tokenise(prompts), LEXICON), classes)
    line = "".join(text + "." for text in texts)
    starts = [bool(re.compile(regex).match(line, place)) for place in range(len(line))]
    ends = [
        any(re.fullmatch(regex, line[begin : place + 1]) for begin in range(place + 1)) for place in range(len(line))
    ]
    assert matcher.starts(pattern).tolist() == starts
    assert matcher.ends(pattern).tolist() == ends


def test_a_context_is_a_class_that_depends_on_the_neighbours():
    contexts = {
        "x": [{"at": "a", "after": ["b"], "not_before": ["c"]}, {"at": "c", "before": ["end"]}],
        "y": [{"at": "x a", "not_after": ["a b"]}],
    }
    matcher = Matcher(find_units(tokenise(pl.Series(["b a b a c", "b a a", "a b a c c"])), LEXICON),
                      Classes(LEXICON, {}, contexts))  # fmt: skip
    assert np.flatnonzero(matcher.starts(parse("x"))).tolist() == [1, 4, 7, 14]
    assert np.flatnonzero(matcher.starts(parse("b y"))).tolist() == [0, 6]
    assert np.flatnonzero(matcher.starts(parse("!x end"))).tolist() == [8]


def test_a_context_names_what_it_cannot_be():
    with pytest.raises(ValueError, match="context x: expected at and any of after, before"):
        Classes(LEXICON, {}, {"x": [{"after": ["a"]}]})
    with pytest.raises(ValueError, match="'nobody' is neither a word list nor a class"):
        Classes(LEXICON, {}, {"x": [{"at": "a", "after": ["nobody"]}]})


@pytest.mark.parametrize("text", ["a*", "A", "a? b", "a b?", "", "a**2", "(a)"])
def test_patterns_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match=r"pattern|step"):
        parse(text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"classes": {"x": ["nothing"]}, "dimensions": {}}, "neither a word list nor a class"),
        ({"classes": {"x": {"words": ["qwxyz"]}}, "dimensions": {}}, "in no word list"),
        ({"classes": {"x": {"some": []}}, "dimensions": {}}, "expected any, all"),
        (
            {"classes": {}, "dimensions": {"D": {"n": {"definition": "", "rules": [{"any": ["human nobody"]}]}}}},
            "nobody",
        ),
        ({"classes": {}, "dimensions": {"D": {"n": {"definition": "", "rules": [{"some": []}]}}}}, "unknown key"),
    ],
)
def test_mistakes_in_the_rules_are_named(data, message):
    with pytest.raises(ValueError, match=message):
        categories.Labeller(lexicon.load(), data)


def test_label_sets_are_packed_and_expanded():
    rules = categories.load()
    for names in ([], list(rules.names), ["food_present", "text_in_image"]):
        assert rules.expand(np.array([rules.pack(names)], np.uint64)).to_list() == [names]
