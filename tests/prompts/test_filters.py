"""Filters by name: what each keeps, changes and counts, through the command line."""

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from dyneval.errors import SettingError
from dyneval.prompts import filters
from tests import processes

ROOT = Path(__file__).parents[2]
DOOR = ROOT / "extract_diverse_prompts.py"


def run(folder, prompts, *args, code=0):
    (folder / "in.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts))
    command = [
        sys.executable,
        DOOR,
        "--input",
        folder / "in.jsonl",
        "--output",
        folder / "out",
        "--quiet",
        "--no-dedup",
    ]
    done = processes.run([*command, *args], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == code, done.stderr
    return done


def kept(text, *prompts):
    """What a filter makes of prompts: their text, None for the dropped."""
    rows = pl.DataFrame(
        {"prompt": prompts, "prompt_nsfw": 0.1, "image_nsfw": None}, schema_overrides={"prompt": pl.String}
    )
    found = filters.parse(text).apply(rows)
    if found.dtype == pl.String:
        return found.to_list()
    return [prompt if keep else None for prompt, keep in zip(prompts, found, strict=True)]


@pytest.mark.parametrize(
    ("text", "prompt", "result"),
    [
        ("weights", "(masterpiece:1.2), ((best quality)), a [dull] {cat}", "masterpiece, best quality, a dull cat"),
        ("weights", "((a cat:1.3), red) and (a dog, sitting)", "(a cat, red) and (a dog, sitting)"),
        ("weights", "red hat::2 blue sea::-0.5", "red hat blue sea"),
        ("weights=drop", "a (cat:1.1)", None),
        ("weights=drop", "a cat (sitting), at 16:9", "a cat (sitting), at 16:9"),
        ("lora", "a cat <lora:add_detail:0.8>, <LyCO:x:1>", "a cat , "),
        ("lora=drop", "a cat <lora:add_detail:0.8>", None),
        ("lora=drop", "a < b and c > d: a heart <3", "a < b and c > d: a heart <3"),
        ("options", "a cat --ar 16:9 --v 6.1 --style raw", "a cat   "),
        ("options", "a cat --no text, blur --tile", "a cat  "),
        ("options", "a cat —ar 3:2", "a cat "),
        ("options", "a cat --no hand-drawn lines --ar 16:9", "a cat  "),
        ("options", "a cat --no text, low-res", "a cat "),
        ("options", "a castle —golden light on it --vivid", "a castle —golden light on it --vivid"),
        ("options", "a cat --v 5 --q 2 --s 750 --hd", "a cat    "),
        ("options=drop", "a cat -- or a dog -- asleep", "a cat -- or a dog -- asleep"),
        ("urls", "a cat https://example.com/cat.png sleeping", "a cat  sleeping"),
        ("pii", "write to jane.doe+x@example.org about a cat", None),
        ("pii", "call +44 20 7946 0958 for a cat", None),
        ("pii", "call (555) 123-4567 for a cat", None),
        ("pii", "a cat in 1990, 8k, 35mm, f/1.4, 16:9, 1920x1080", "a cat in 1990, 8k, 35mm, f/1.4, 16:9, 1920x1080"),
        ("pii=strip", "a cat by jane@example.org at dawn", "a cat by  at dawn"),
        ("repetition", "cat cat cat cat a cat", None),
        ("repetition=0.5", "a cat and a dog and a bird", "a cat and a dog and a bird"),
        ("words=2-3", "a cat", "a cat"),
        ("words=3-", "a cat", None),
        ("nsfw-words", "a nude, oil painting", None),
        ("nsfw-words", "a denuded forest", "a denuded forest"),
    ],
)
def test_what_a_filter_makes_of_a_prompt(text, prompt, result):
    assert kept(text, prompt) == [result]


def test_a_list_of_words_may_be_long_and_in_any_script(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("\n".join(["裸体", "bare", "Ölbild", *(f"word{number}" for number in range(20_000))]), "utf-8")
    prompts = ["一幅裸体油画", "a barefoot child", "ein ÖLBILD der See", "画bare画", "word1999x and word19999"]
    assert kept(f"nsfw-words={words}", *prompts) == [None, prompts[1], None, None, None]


def test_samples_hide_addresses_that_the_cut_would_part():
    drops = filters.Drops([filters.parse("pii")])
    text = "a " * 93 + "john.smith@example.org by the sea"
    drops.apply(filters.parse("pii"), pl.DataFrame({"prompt": [text]}))
    assert "john" not in drops.samples["pii"][0]


def test_languages():
    pytest.importorskip("py3langid")
    prompts = (
        "a red fox sleeping in the deep snow",
        "ein roter Fuchs schläft im tiefen Schnee",
        "一只红色的狐狸睡在雪地里",
    )
    assert kept("language=en", *prompts) == [prompts[0], None, None]
    assert kept("language=de,zh", *prompts) == [None, *prompts[1:]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour", "no such filter; expected words, language"),
        ("words", "needs a value, words=VALUE"),
        ("words=5-2", "5 is more than 2"),
        ("words=many", "expected MIN-MAX"),
        ("repetition=2", "expected a number from 0 to 1"),
        ("lora=keep", "expected strip or drop"),
        ("nsfw-words=nowhere.txt", "nowhere.txt cannot be read"),
        ("nowhere:function", "nowhere cannot be imported"),
        ("json:nothing", "json has no 'nothing'"),
    ],
)
def test_a_filter_that_is_none_says_why(text, message):
    with pytest.raises(SettingError, match=message):
        filters.parse(text)


def test_filters_are_counted_and_shown(tmp_path):
    prompts = [
        "a (red:1.4) lighthouse above a stormy sea, <lora:x:1>",
        "a red lighthouse above a stormy sea, ",
        "mail me at someone@example.org about lighthouses",
        "a harbour with a dozen boats in the morning mist",
    ]
    run(tmp_path, prompts, "--filter", "weights", "--filter", "lora", "--filter", "pii", "--write-dropped")
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["dropped"] == {"exact_duplicate": 1, "pii": 1} and summary["changed"] == {"weights": 1, "lora": 1}
    assert summary["config"]["filters"] == ["weights", "lora", "pii"]
    assert sorted(pl.read_parquet(out / "prompts.parquet")["prompt"]) == [
        "a harbour with a dozen boats in the morning mist",
        "a red lighthouse above a stormy sea,",
    ]
    report = (out / "report.html").read_text()
    assert "someone@" not in report and "mail me at [...] about" in report and "&lt;lora:x:1&gt;" in report
    assert {json.loads(line)["reason"] for line in (out / "dropped.jsonl").open()} == {"exact_duplicate", "pii"}


def test_ones_own_filter_keeps_or_changes(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import polars as pl\n"
        "def no(prompts, word): return [word not in prompt for prompt in prompts]\n"
        "def upper(prompts): return [prompt.upper() if prompt else None for prompt in prompts]\n"
        "def none(prompts): return [None] * len(prompts)\n"
        "def wrong(prompts): return [1, 2]\n"
    )
    prompts = ["a red lighthouse above a stormy sea", "a green lighthouse above a calm sea"]
    run(tmp_path, prompts, "--filter", "mine:no=green", "--filter", "mine:upper")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["dropped"] == {"mine:no": 1} and summary["changed"] == {"mine:upper": 1}
    assert pl.read_parquet(tmp_path / "out" / "prompts.parquet")["prompt"].to_list() == [prompts[0].upper()]
    assert "{'mine:none': 2}" in run(tmp_path, prompts, "--filter", "mine:none", code=1).stderr
    done = run(tmp_path, prompts, "--filter", "mine:wrong", code=1)
    told = "returned 2 values of Int64 for 2 prompts; expected one of bool or text for each"
    assert done.stderr == f"extract_diverse_prompts.py: --filter mine:wrong: {told}\n"


def test_the_table_is_listed_without_an_input():
    done = processes.run([sys.executable, DOOR, "--list-filters"], capture_output=True, text=True, check=True)
    assert [line.split("=")[0].split("[")[0] for line in done.stdout.splitlines()] == [
        *filters.FILTERS,
        "module:function",
    ]
