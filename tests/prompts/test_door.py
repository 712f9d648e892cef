"""The door: files in, files out, and one line when something is wrong."""

import json
import random
import sys
from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import astuple

from dyneval.prompts import clean, complexity, dedup
from dyneval.records import PromptRecord, prompt_id
from tests import processes

ROOT = Path(__file__).parents[2]
DOOR = ROOT / "extract_diverse_prompts.py"
BASE = [
    "a red fox, sitting on a mossy log in a misty forest, highly detailed, digital painting",
    'a "Grand, Opening" banner over the door of a small bakery\nin the old town',
    "portrait of an astronaut\twith golden visor\x00, by greg rutkowski and alphonse mucha, 8 k",
    "three blue butterflies above a field of lavender, 35mm photo, bokeh",
    "<|T2IA|> <|im_end|> <script>alert(1)</script> a cat & a dog, $(rm -rf) {prompt} %s",
    "A RED FOX sitting on a mossy log in a misty forest - highly detailed digital painting",
    "tiny robot watering a cactus in a sunlit greenhouse, studio ghibli style",
]  # fmt: skip


def run(*args, code=0):
    done = processes.run([sys.executable, DOOR, *map(str, args)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == code, done.stderr
    return done


def write_input(path, prompts):
    pl.DataFrame({"prompt": prompts, "prompt_nsfw": [0.1] * len(prompts)}).write_parquet(path)
    return path


def records(folder):
    frame = pl.read_parquet(folder / "prompts.parquet")
    return [PromptRecord.from_dict(row) for row in frame.to_dicts()]


def test_everything_is_written_and_fits_the_schema(tmp_path):
    output = tmp_path / "out"
    done = run("--input", write_input(tmp_path / "in.parquet", [*BASE, None, "short"]), "--output", output,
               "--jsonl", "--write-dropped", "--quiet")  # fmt: skip
    found = records(output)
    assert len(found) == 6  # the red fox in capitals is a near-duplicate
    for record in found:
        assert record.prompt_id == prompt_id(record.prompt)
        weights = [0.2, 0.2] + [0.1] * 7
        assert record.complexity == pytest.approx(
            sum(w * v for w, v in zip(weights, astuple(record.factors), strict=True)), abs=1e-9
        )
        assert record.source == "in.parquet"
    lines = [
        line for tier in (1, 2, 3) for line in (output / f"tier-{tier}-prompts.txt").read_text("utf-8").split("\n")
    ]
    assert sorted(line for line in lines if line) == sorted(record.prompt for record in found)
    assert 'a "Grand, Opening" banner over the door of a small bakery in the old town' in lines
    jsonl = [json.loads(line) for line in (output / "prompts.jsonl").open("utf-8" and "r", encoding="utf-8")]
    assert [row["prompt_id"] for row in jsonl] == [record.prompt_id for record in found]
    summary = json.loads((output / "summary.json").read_text("utf-8"))
    assert (
        summary["dropped"] == {"missing": 1, "too_short": 1, "near_duplicate": 1} == json.loads(done.stdout)["dropped"]
    )
    dropped = [json.loads(line) for line in (output / "dropped.jsonl").open(encoding="utf-8")]
    assert sorted(row["reason"] for row in dropped) == ["missing", "near_duplicate", "too_short"]
    clusters = pl.read_parquet(output / "clusters.parquet")
    assert clusters.height == 2 and clusters["cluster_id"].n_unique() == 1
    assert clusters["cluster_id"][0] in {record.prompt_id for record in found}


def test_the_report_holds_no_markup_of_prompts_and_needs_no_network(tmp_path):
    run("--input", write_input(tmp_path / "in.parquet", BASE), "--output", tmp_path / "out", "--quiet")
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "<script" not in report and "&lt;script&gt;" in report
    assert "http" not in report.replace("http-equiv", "") and "<svg" in report
    assert "default-src 'none'" in report and "script-src" not in report


def test_the_order_of_the_input_changes_no_byte(tmp_path):
    rng = random.Random(2)
    words = [f"word{i}" for i in range(60)]
    prompts = [" ".join(rng.choices(words, k=rng.randint(8, 14))) for _ in range(400)]
    prompts += [f"{prompt} {rng.choice(words)}" for prompt in prompts[:200]]
    files = []
    for name in ("one", "two"):
        rng.shuffle(prompts)
        run("--input", write_input(tmp_path / "in.parquet", prompts), "--output", tmp_path / name, "--quiet",
            "--count", 150, "--jsonl")  # fmt: skip
        files.append((tmp_path / name / "prompts.jsonl").read_bytes())
    assert files[0] == files[1]
    assert files[0].count(b"\n") == 150


def test_asking_for_more_prompts_than_there_are_is_told(tmp_path):
    done = run("--input", write_input(tmp_path / "in.parquet", BASE), "--output", tmp_path / "out", "--count", 5000)
    assert f"--count asks for 5000 prompts, and {len(records(tmp_path / 'out'))} are there: all are kept" in done.stderr


def test_benchmark_prompts_are_kept_out_and_reported(tmp_path):
    (tmp_path / "bench.txt").write_text(BASE[3].upper() + "\na bench\n", "utf-8")
    run("--input", write_input(tmp_path / "in.parquet", BASE), "--output", tmp_path / "out", "--quiet",
        "--exclude", tmp_path / "bench.txt")  # fmt: skip
    (leak,) = [json.loads(line) for line in (tmp_path / "out" / "leakage.jsonl").open(encoding="utf-8")]
    assert leak["prompt"] == BASE[3] and leak["benchmark"] == "bench.txt" and leak["jaccard"] == 1.0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert summary["leaked"] == {"bench.txt": 1} and summary["dropped"]["excluded"] == 1
    assert BASE[3] not in {record.prompt for record in records(tmp_path / "out")}


def test_chinese_prompts_are_counted_compared_and_marked(tmp_path):
    fox = "一只红色的狐狸睡在覆盖着苔藓的木头上，周围是薄雾弥漫的森林，画面非常精细，“数字绘画”"
    others = ["两只蓝色的蝴蝶在薰衣草田野上方飞舞，三十五毫米照片，背景虚化，阳光明媚，色彩鲜艳的夏日早晨", BASE[3]]
    run(
        "--input",
        write_input(tmp_path / "in.parquet", [fox, fox + "呢", *others]),
        "--output",
        tmp_path / "out",
        "--quiet",
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert summary["dropped"] == {"near_duplicate": 1} and summary["other_scripts"] == 2
    found = {record.prompt: record for record in records(tmp_path / "out")}
    assert found[others[0]].categories == () and found[BASE[3]].categories
    assert found[others[0]].factors.prompt_length > 200
    assert "Prompts without labels: 2;" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_an_exclusion_file_may_be_empty(tmp_path):
    (tmp_path / "bench.txt").write_text("", "utf-8")
    run("--input", write_input(tmp_path / "in.parquet", BASE), "--output", tmp_path / "out", "--quiet",
        "--exclude", tmp_path / "bench.txt")  # fmt: skip
    assert len(records(tmp_path / "out")) == 6


def test_rank_tiering(tmp_path):
    prompts = [f"{'a very large red wooden ' * n}house number {n} on the cliff by the sea" for n in range(24)]
    run("--input", write_input(tmp_path / "in.parquet", prompts), "--output", tmp_path / "out", "--quiet",
        "--tiering", "rank", "--no-dedup")  # fmt: skip
    sizes = pl.read_parquet(tmp_path / "out" / "prompts.parquet")["tier"].value_counts().sort("tier")["count"].to_list()
    assert sizes == [4, 8, 4]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--input", "missing.txt"], "missing.txt: no such file"),
        (["--input", "IN", "--column", "text"], "lacks the column text; it has prompt, prompt_nsfw"),
        (["--input", "IN", "--tau1", "50"], "tau_1 = 50 has to be above"),
        (["--input", "IN", "--dedup", "7"], "threshold lies in"),
        (["--input", "IN", "--count", "0"], "select at least one"),
        (["--input", "IN", "--balance", "tier,colour"], "balance: colour"),
        (["--input", "IN", "--min-chars", "2000"], "none of 7 rows is a usable prompt"),
        (["--input", "IN", "--exclude", "gone.txt"], "gone.txt: no such file"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing_behind(tmp_path, args, message):
    source = str(write_input(tmp_path / "in.parquet", BASE))
    done = run(*(source if arg == "IN" else arg for arg in args), "--output", tmp_path / "out", "--quiet", code=1)
    assert (
        done.stderr.startswith("extract_diverse_prompts.py: ")
        and message in done.stderr
        and done.stderr.count("\n") == 1
    )
    written = [path.name for path in (tmp_path / "out").glob("*")] if (tmp_path / "out").exists() else []
    assert not [name for name in written if name.endswith((".parquet", ".txt", ".tmp"))]


def test_rows_without_the_column_are_told_where_no_prompt_is_left(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a knight riding a brown horse in the forest at dawn"}\n')
    done = run("--input", str(source), "--output", tmp_path / "out", "--quiet", code=1)
    assert done.stderr.endswith("in.jsonl: row 1: expected an object with the key 'prompt' (see --column)\n")


def test_a_rerun_leaves_no_file_of_the_last_one(tmp_path):
    source = write_input(tmp_path / "in.parquet", BASE)
    run("--input", source, "--output", tmp_path / "out", "--quiet", "--jsonl", "--write-dropped")
    run("--input", source, "--output", tmp_path / "out", "--quiet", "--no-dedup")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not names & {"prompts.jsonl", "dropped.jsonl", "clusters.parquet"}


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--input", "prompts.parquet"),
        ("--input", "tier-1-prompts.txt"),
        ("--exclude", "prompts.jsonl"),
        ("--exclude", "dropped.jsonl"),
    ],
)
def test_an_input_is_never_overwritten(tmp_path, flag, name):
    source, out = write_input(tmp_path / "in.parquet", BASE), tmp_path / "out"
    run("--input", source, "--output", out, "--quiet", "--jsonl", "--write-dropped")
    (tmp_path / "other").symlink_to(out)
    (tmp_path / "link.parquet").symlink_to(out / "prompts.parquet")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    inputs = ("--input", out / name) if flag == "--input" else ("--input", source, "--exclude", out / name)
    for output in (out, tmp_path / "other"):
        done = run(*inputs, "--column", "prompt", "--output", output, "--quiet", code=1)
        assert f"{name}: is an input and would be overwritten; name another --output" in done.stderr
    run("--input", tmp_path / "link.parquet", "--output", out, "--quiet", code=1)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_that_is_read_is_not_written_into(tmp_path):
    run("--input", write_input(tmp_path / "in.parquet", BASE), "--output", tmp_path / "set" / "out", "--quiet")
    done = run("--input", tmp_path / "set", "--output", tmp_path / "set" / "out", "--quiet", code=1)
    assert "is an input and would be overwritten" in done.stderr


def test_rows_that_cannot_be_read_are_rejects_as_everywhere(tmp_path):
    lines = [json.dumps({"prompt": prompt}) for prompt in BASE]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, "{", '{"text": 1}']))
    run("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out", "--quiet")
    broken, other = map(json.loads, (tmp_path / "out" / "prompts.rejects.jsonl").read_text().splitlines())
    assert broken.keys() == {"key", "kind", "reason"} and {broken["kind"], other["kind"]} == {"row"}
    assert broken["key"].endswith("in.jsonl:8") and broken["reason"].startswith("is not JSON")
    assert other["key"].endswith("in.jsonl: row 9") and other["reason"].startswith("expected an object with the key")


def test_a_word_that_stands_65_536_times_counts_as_often(tmp_path):
    for words in (65_535, 65_536, 140_000):
        lines = [start * words + "end" for start in ("red ", "two ", "oil painting ")]
        (tmp_path / "in.txt").write_text("\n".join(lines))
        run("--input", tmp_path / "in.txt", "--output", tmp_path / str(words), "--quiet", "--max-chars", 2_000_000,
            "--min-chars", 1, "--no-dedup", "--jsonl")  # fmt: skip
    found = [
        [record.factors for record in sorted(records(tmp_path / str(words)), key=lambda record: record.prompt[:3])]
        for words in (65_535, 65_536, 140_000)
    ]
    assert found[0] == found[1] == found[2] and found[0][2].color_specifications == 0
    assert max(astuple(found[0][1])) == 400


def test_help_names_the_defaults_of_the_library():
    text = " ".join(run("--help").stdout.split())
    for number in (
        clean.MIN_CHARS,
        clean.MAX_CHARS,
        clean.MAX_NSFW,
        dedup.DEFAULT_THRESHOLD,
        complexity.TAU_1,
        complexity.TAU_2,
    ):
        assert f"default: {number:g}" in text
