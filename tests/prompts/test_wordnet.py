"""WordNet's words: the packaged file is what its program makes of WordNet's own, and forms get the tags they should."""

import os
from pathlib import Path

import pytest

from dyneval.prompts import wordnet

FOLDER = Path(os.environ.get("WNSEARCHDIR", "/usr/share/wordnet"))
TAGS = {word: tags for tags, words in wordnet.load() for word in words}


@pytest.mark.skipif(not (FOLDER / "data.noun").exists(), reason="needs apt-get install wordnet-base")
def test_the_packaged_words_are_those_of_wordnet():
    made = wordnet.compile_words(FOLDER)
    assert {word: {f"wn_{tag}" for tag in tags} for word, tags in made.items()} == TAGS


@pytest.mark.parametrize(
    ("word", "has", "has_not"),
    [
        ("chiseling", {"wn_act_ing"}, {"wn_weak"}),
        ("chiselled", {"wn_act_past"}, set()),
        ("leaps", {"wn_act_s", "wn_rest_s", "wn_move_s"}, {"wn_weak"}),
        ("outnumbers", {"wn_surpass_s"}, set()),
        ("obscures", {"wn_hide_s"}, set()),
        ("ambushes", {"wn_act_s"}, {"wn_hide_s"}),
        ("enfolds", {"wn_cover_s"}, {"wn_hide_s"}),
        ("curtains", {"wn_cover_s"}, set()),
        ("encircles", {"wn_enclose_s"}, {"wn_hide_s"}),
        ("encased", {"wn_enclose_past"}, set()),
        ("besieged", set(), {"wn_enclose_past"}),
        ("caged", set(), {"wn_enclose_past"}),
        ("tiles", {"wn_act_s"}, {"wn_cover_s"}),
        ("illuminates", {"wn_effect_s"}, set()),
        ("sprouts", {"wn_happen_s"}, {"wn_act_s"}),
        ("glitters", set(), {"wn_act_s", "wn_happen_s"}),
        ("newer", {"wn_more"}, {"wn_weak_more"}),
        ("cooler", {"wn_weak_more"}, {"wn_more"}),
        ("geese", {"wn_nouns", "wn_animal"}, set()),
        ("marmots", {"wn_nouns", "wn_animal"}, {"wn_noun"}),
        ("pyramidal", {"wn_shape"}, set()),
        ("zigzagged", {"wn_shape"}, set()),
        ("curled", {"wn_shape"}, set()),
        ("swung", set(), {"wn_shape"}),
        ("swirl", {"wn_form", "wn_act_base"}, set()),
        ("dome", {"wn_form"}, set()),
        ("rainbow", set(), {"wn_form"}),
        ("puce", {"wn_color"}, set()),
        ("flaxen", {"wn_color"}, set()),
        ("wine", {"wn_hue"}, {"wn_color"}),
        ("lights", {"wn_weak"}, set()),
        ("knows", set(), {"wn_act_s"}),
        ("stevedore", {"wn_noun", "wn_human"}, set()),
    ],
)
def test_tags_of_a_form(word, has, has_not):
    assert has <= TAGS[word] and not has_not & TAGS[word]


def test_every_tag_that_is_told_of_occurs():
    verbs = ("act", "agent", "rest", "move", "effect", "happen", "hide", "cover", "enclose", "surpass")
    told = {f"wn_{name}_{form}" for name in verbs for form in ("base", "s", "ing", "past")}
    told |= {
        f"wn_{name}"
        for name in ("weak", "noun", "nouns", "adverb", "adjective", "more", "shape", "form", "color", "hue")
    }
    told |= {f"wn_{name}" for name in (*wordnet.NOUNS.values(), *wordnet.BELOW, "weak_more")}
    assert told == frozenset().union(*TAGS.values())


def test_words_are_whole_and_lower_case():
    assert len(TAGS) > 150_000 and all(word.isascii() and word.isalpha() and word.islower() for word in TAGS)
