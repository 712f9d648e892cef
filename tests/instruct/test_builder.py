import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from playwright.sync_api import Error

from dyneval import replies, tokens
from dyneval.cli import overall
from dyneval.errors import DataFileError
from dyneval.files.jsonl import read_jsonl
from dyneval.instruct.builder import build
from dyneval.instruct.chunks import BuildConfig
from dyneval.instruct.curation import Curation
from dyneval.instruct.overall import OverallConfig, compute_overall_scores
from dyneval.instruct.parallel import SLOT
from dyneval.instruct.report import write_report
from dyneval.instruct.token_length import TokenLimit
from dyneval.records import InstructSample, json_schema
from tests import processes

ROOT = Path(__file__).parents[2]
PAIRS = [
    (f"a red cat, number {i}, on a mat", model, 1 + i % 3, (5, 4 - i % 2), (3, 5)) for i in range(60) for model in "ab"
]

STAGES = ("t2ia", "iqa")
MODELS = {"high": (5,), "low": (2,)}
EARLIER = [0, 4, 5, 14, 27, 34, 43, 54, 58]


def run(annotated, *pairs, heldout=0.0, change=None, **options):
    metadata, folder = annotated(*pairs, change=change)
    delta = options.pop("delta", {1: 5.0, 2: 5.0, 3: 5.0})
    config = BuildConfig(
        metadata=metadata,
        annotations=folder,
        output=folder / "instruct",
        curation=Curation(delta=delta, heldout=heldout),
        **options,
    )
    return build(config), folder / "instruct"


def stages(output):
    return [json.loads((output / f"dynevalinstruct_{stage}.json").read_text()) for stage in ("t2ia", "iqa")]


def test_samples_are_exactly_what_training_expects(annotated):
    prompt = 'a red cat <|IQA|> says "<image>", number 7'

    def add_a_key(files):
        next(iter(files["iqa_questions"].values()))["scene_graph"]["nodes"][0]["extra"] = 1

    _, output = run(annotated, (prompt, "a", 1, (5, 2), (1, 4)), change=add_a_key)
    t2ia, iqa = stages(output)
    assert [(s["id"].split(":")[1], s.get("image")) for s in t2ia + iqa] == [
        ("t2ia", None),
        ("evaluation", t2ia[1]["image"]),
        ("iqa", t2ia[1]["image"]),
        ("evaluation", t2ia[1]["image"]),
    ]
    human = [sample["conversations"][0]["value"] for sample in t2ia + iqa]
    answers = [json.loads(sample["conversations"][1]["value"]) for sample in t2ia + iqa]
    questions = ["Is part 0 there?", "Is part 1 there?"]
    assert human == [
        tokens.t2ia_turn(prompt),
        tokens.evaluation_turn(prompt, questions),
        tokens.iqa_turn(),
        tokens.evaluation_turn(prompt, ["Is part 0 whole?", "Is part 1 whole?"]),
    ]
    assert answers[0] == [{"question": q, "answer": "yes"} for q in questions]
    assert list(answers[1]["answers"][1].items()) == [("question", questions[1]), ("score", 2), ("reasoning", "Seen.")]
    assert list(answers[2]) == ["scene_graph", "questions"] and answers[2]["scene_graph"]["nodes"][0]["extra"] == 1
    assert [answer["score"] for answer in answers[3]["answers"]] == [1, 4]


def test_every_sample_fits_its_schemas_and_carries_one_task_token_in_front(annotated):
    summary, output = run(annotated, *PAIRS, heldout=0.2)
    sample_schema = Draft202012Validator(json_schema(InstructSample))
    tasks = {tokens.T2IA: "t2ia", tokens.IQA: "iqa", tokens.EVALUATION: "evaluation"}
    shapes = {
        "t2ia": list[replies.QuestionItem],
        "iqa": replies.SceneReply,
        "evaluation": replies.ReadmeEvaluation,
    }
    t2ia, iqa = stages(output)
    for stage, allowed in ((t2ia, {"t2ia", "evaluation"}), (iqa, {"iqa", "evaluation"})):
        for sample in stage:
            sample_schema.validate(sample)
            human, gpt = (turn["value"] for turn in sample["conversations"])
            turn = tokens.split_human_turn(human, 1 if "image" in sample else 0)
            assert tasks[turn.task_token] in allowed and not tokens.contains_task_token(turn.text + gpt)
            shape = msgspec.json.schema(shapes[tasks[turn.task_token]])
            Draft202012Validator(shape).validate(json.loads(gpt))
    assert {"t2ia": len(t2ia), "iqa": len(iqa)} == summary["samples"]


def test_no_prompt_is_on_both_sides(annotated):
    summary, output = run(annotated, *PAIRS, heldout=0.2)
    heldout = list(read_jsonl(output / "heldout.jsonl"))
    trained = {sample["id"].split(":")[0].split("-")[0] for stage in stages(output) for sample in stage}
    assert heldout and not {row["prompt_id"] for row in heldout} & trained
    assert 4 < summary["heldout_prompts"] < 24
    assert summary["heldout_pairs"] == len(heldout) == 2 * summary["heldout_prompts"], "all images of a prompt"
    assert len(trained) == summary["training_prompts"] == 60 - summary["heldout_prompts"]


def test_held_out_samples_are_those_that_training_would_have_got(annotated):
    pairs = [(f"a red cat, number {i}", model, 1, score, (3,)) for i in range(40) for model, score in MODELS.items()]
    summary, output = run(annotated, *pairs, heldout=0.3, delta={1: 4.0, 2: 5.0, 3: 5.0})
    rows = list(read_jsonl(output / "heldout.jsonl"))
    t2ia, iqa = (json.loads((output / f"dynevalinstruct_{stage}_heldout.json").read_text()) for stage in STAGES)
    prompts = {row["prompt_id"] for row in rows}
    kept = {row["pair_id"] for row in rows if row["generation_model"] == "low"}
    assert {s["id"].split(":")[0] for s in t2ia if "image" in s} == {s["id"].split(":")[0] for s in iqa} == kept
    assert len([s for s in t2ia if "image" not in s]) == len(prompts) == len(kept)
    assert summary["heldout_samples"] == {"t2ia": 2 * len(kept), "iqa": 2 * len(kept)}
    assert summary["heldout_pairs"] == 2 * len(kept)


def test_the_split_does_not_depend_on_what_else_is_there(annotated, tmp_path):
    whole = {p for i in range(200) if Curation(heldout=0.1).holds_out(p := f"P{i}")}
    more = {p for i in range(200) if Curation(heldout=0.3).holds_out(p := f"P{i}")}
    assert 8 < len(whole) < 35 and whole < more
    assert not any(Curation(heldout=0.0).holds_out(f"P{i}") for i in range(200))
    assert Curation(heldout=0.5).holds_out("a cat") is Curation(heldout=0.5).holds_out(" a cat\n")
    # The split of earlier builds, of which there are files, stays: a hash of the id that follows from the text.
    assert [i for i in range(60) if Curation(heldout=0.1).holds_out(f"a red cat, number {i}")] == EARLIER


def test_curation_by_tier(annotated):
    pairs = [(f"a cat in tier {tier} with {s}", "a", tier, (s,), (5,)) for tier in (1, 2, 3) for s in (3, 5)]
    summary, _ = run(annotated, *pairs)
    assert summary["kept"] == 3 and summary["dropped"] == {"score_not_below_delta": 3}
    summary, _ = run(annotated, *pairs, delta={1: 4.0, 2: 5.0, 3: 6.0})
    assert [summary["tiers"][tier].get("kept", 0) for tier in "123"] == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_change_nothing_but_the_time(annotated, workers, tmp_path):
    _, output = run(annotated, *PAIRS * 6, heldout=0.2, workers=workers, lines=True)
    t2ia, iqa = stages(output)
    ids = [sample["id"] for sample in t2ia + iqa[::2]]
    assert len(set(ids)) == len(ids)
    assert list(read_jsonl(output / "dynevalinstruct_t2ia.jsonl")) == t2ia
    order = [row["pair_id"] for row in read_jsonl(tmp_path / "metadata.jsonl")]
    kept = [s["id"].split(":")[0] for s in iqa[::2]]
    assert kept == [name for name in order if name in set(kept)], "in the order of the metadata"


def test_samples_that_do_not_fit_their_slot_travel_too(annotated):
    def grow(files):
        list(files["t2ia_answers"].values())[1]["answers"][0]["reasoning"] = "x" * SLOT

    built = []
    for workers in (1, 2):
        _, output = run(annotated, *PAIRS[:4], change=grow, workers=workers)
        built.append(stages(output))
    assert built[0] == built[1]
    longest = max(len(sample["conversations"][1]["value"]) for sample in built[1][0])
    assert longest > SLOT


def corrupt(files):
    pairs = list(files["metadata"].values())
    names = [row["pair_id"] for row in pairs]
    del files["iqa_answers"][names[0]]
    files["t2ia_answers"][names[1]]["answers"][0]["score"] = 0
    files["t2ia_answers"][names[2]]["answers"].pop()
    files["iqa_answers"][names[3]]["answers"][0]["reasoning"] = "a <|EVALUATION|> b"
    files["metadata"][names[4]]["file_name"] = "../outside.png"
    files["metadata"][names[5]]["tier"] = 4


def test_bad_annotations_are_named_counted_and_left_out(annotated):
    metadata, folder = annotated(*PAIRS[:8:2], *PAIRS[8:16:2], change=corrupt)
    (folder / json.loads(metadata.read_text().splitlines()[6])["file_name"]).unlink()
    with metadata.open("a") as file:
        again = json.loads(metadata.read_text().splitlines()[7])
        lines = ("no JSON", '{"pair_id": "half"}', "", json.dumps({**again, "tier": 1}), json.dumps(again))
        file.write("\n".join(lines))  # the last line has no end, and is a row all the same
    output = folder / "instruct"
    summary = build(
        BuildConfig(metadata=metadata, annotations=folder, output=output, curation=Curation(heldout=0.0), workers=2)
    )
    rejected = [(row["kind"], row["reason"]) for row in read_jsonl(output / "rejects.jsonl")]
    patterns = [
        ("missing_annotation", "no iqa_answers"),
        ("bad_annotation", r"t2ia_answers: answers\[0\]\.score: Expected int >= 1, found 0"),
        ("bad_annotation", "answers to other questions.*--force"),
        ("bad_annotation", "holds a task token"),
        ("image", "leads out of"),
        ("bad_row", "metadata.jsonl:6: tier"),
        ("image", "no such image file"),
        ("bad_row", "metadata.jsonl:9: is not JSON"),
        ("bad_row", "missing required field"),
        ("bad_row", "line 12: this pair_id stands there before with another prompt or image"),
    ]
    assert [kind for kind, _ in rejected] == [kind for kind, _ in patterns]
    for (_, reason), (_, pattern) in zip(rejected, patterns, strict=True):
        assert re.search(pattern, reason), reason
    assert summary["repeated"] == 1, "what stands there twice and says the same is no reject"
    assert summary["kept"] == 5 and sum(summary["rejected"].values()) == 10
    assert summary["annotations"]["t2ia_answers"] == {"missing_annotation": 0, "bad_annotation": 2, "too_long": 0}
    assert [len(stage) for stage in stages(output)] == [8, 8], "each annotation stands on its own"


def test_what_is_counted_is_what_is_written_and_a_row_that_is_no_pair_takes_no_pair_id(annotated, tmp_path):
    metadata, folder = annotated(*PAIRS[:4])
    good = metadata.read_text().splitlines()
    broken = json.dumps({**json.loads(good[0]), "tier": 4})
    other = json.dumps({**json.loads(good[2]), "sha256": "1" * 64})
    metadata.write_text("\n".join([broken, *good, good[1], other, good[1]]))
    config = {"metadata": metadata, "annotations": folder, "output": folder / "out", "curation": Curation(heldout=0.0)}
    for workers in (1, 2):
        summary = build(BuildConfig(**config, workers=workers))
        assert (summary["kept"], summary["rejected"]["bad_row"], summary["pairs"]) == (4, 2, 6)
        assert summary["repeated"] == 2
        assert summary["statistics"]["overall"]["count"] == 4, "a pair that stands there twice is counted once"
        assert summary["samples"]["iqa"] == 8


def test_annotations_of_another_prompt_are_refused(annotated):
    def exchange(files):
        files["iqa_answers"][next(iter(files["metadata"]))]["prompt"] = "a dog"

    summary, output = run(annotated, *PAIRS[:2], change=exchange)
    (reject,) = read_jsonl(output / "rejects.jsonl")
    assert reject["workflow"] == "iqa_answers" and "made for the prompt 'a dog'" in reject["reason"]
    assert summary["samples"] == {"t2ia": 3, "iqa": 3}


def test_annotations_of_another_image_are_refused(annotated):
    """The row says which image it was made from; where the metadata says something else, the file decides."""
    digest = hashlib.sha256(b"").hexdigest()  # of the empty files that stand for images here

    def change(files):
        answers, graphs = list(files["iqa_answers"].values()), list(files["iqa_questions"].values())
        answers[0]["image_sha256"] = "1" * 64
        answers[1]["image_sha256"] = "0" * 64  # as the metadata says
        graphs[2]["image_sha256"] = digest

    summary, output = run(annotated, *PAIRS[:6:2], change=change)
    (reject,) = read_jsonl(output / "rejects.jsonl")
    assert reject["kind"] == "bad_annotation" and reject["workflow"] == "iqa_answers"
    assert "made from another image (SHA-256 111111111111..., while the pair's is 000000000000...)" in reject["reason"]
    assert summary["annotations"]["iqa_answers"]["bad_annotation"] == 1 and summary["kept"] == 3


def test_the_forms_of_the_published_builder(annotated):
    summary, output = run(annotated, ("a red cat", "a", 1, (5, 2), (1, 4)), template="release", reply_form="release")
    t2ia, iqa = stages(output)
    assert t2ia[0]["conversations"][0]["value"].endswith("alignment, including distortion checks.")
    alignment, quality = (json.loads(stage[1]["conversations"][1]["value"]) for stage in (t2ia, iqa))
    assert list(alignment["answers"][0]) == ["question", "target_answer", "reasoning", "score"]
    assert list(quality["answers"][0]) == ["question", "answer", "target_answer", "correct", "reasoning"]
    assert (alignment["score"], quality["score"]) == (4, 2), "3.5 and 2.5, rounded half to even"
    assert summary["reply_form"] == "release" and "form `release`" in (output / "README.md").read_text()


def test_nothing_is_written_where_nothing_can_be_made(annotated):
    with pytest.raises(DataFileError, match="no training sample can be made"):
        run(annotated, ("a perfect cat", "a", 1, (5,), (5,)))
    metadata, folder = annotated(("a perfect cat", "a", 1, (5,), (5,)))
    assert not list((folder / "instruct").glob("*"))
    (folder / "iqa_answers.jsonl").unlink()
    with pytest.raises(DataFileError, match=r"iqa_answers\.jsonl: cannot be read"):
        build(BuildConfig(metadata=metadata, annotations=folder, output=folder / "instruct"))


def test_long_samples_are_counted_and_rejected(annotated, tiny_checkpoint):
    pairs = [("a short cat", "a", 1, (3,), (3,)), ("a long cat " + "very " * 300, "a", 1, (3,), (3,))]
    summary, _ = run(annotated, *pairs, limit=TokenLimit(tokenizer=tiny_checkpoint, tokens=300), check_images="none")
    assert summary["kept"] == 2 and summary["rejected"]["too_long"] == 3, "the scene graph's sample has no prompt in it"
    assert summary["samples"] == {"t2ia": 2, "iqa": 3} and summary["statistics"]["tokens"]["count"] == 5


def test_broken_images_are_found_when_decoded(annotated):
    with pytest.raises(DataFileError, match="'image': 1"):
        run(annotated, ("a short cat", "a", 1, (3,), (3,)), check_images="decode")


def test_report_and_card_say_what_is_there(annotated):
    summary, output = run(annotated, *PAIRS, heldout=0.2)
    card, page = (output / "README.md").read_text(), (output / "report.html").read_text()
    assert card.startswith("---\n") and f"{summary['samples']['iqa']} samples" in card and "`e: m`" in card
    assert page.count("<svg") >= 6 and "Scores of T2IA answers" in page
    histogram = summary["statistics"]["iqa_scores"]["histogram"]
    assert histogram == {"3": summary["kept"], "5": summary["kept"]}
    counts = [int(number) for number in re.findall(r"<title>[0-9]: ([0-9]+)</title>", page.split("Scores of IQA")[1])]
    assert counts[:3] == [summary["kept"], 0, summary["kept"]], "an axis has no gaps"
    ticks = [int(number.replace(",", "")) for number in re.findall(r'class="count"[^>]*>([0-9,]+)<', page)]
    assert ticks[0] == 0 and max(ticks) >= summary["kept"]


def test_the_report_shows_the_pairs_where_bad_annotations_gather(annotated):
    scores = [((5, 5), (1, 2)), ((1, 1), (1, 1)), ((4, 4), (4, 5)), ((3, 3), (3, 4))]
    pairs = [(f"cat <b>{number}</b>", "a", 1, *both) for number, both in enumerate(scores)]
    metadata, folder = annotated(*pairs)
    rows = [json.loads(line) for line in metadata.read_text().splitlines()]
    Image.new("RGB", (640, 400), "red").save(folder / rows[1]["file_name"])
    for workers in (1, 2):
        options = {"curation": Curation(heldout=0.0), "output": folder / "out", "workers": workers}
        build(BuildConfig(metadata=metadata, annotations=folder, **options))
        page = (folder / "out" / "report.html").read_text()
        shown = {}
        for group in page.split("<h3>")[1:]:
            heading, _, rest = group.partition("</h3>")
            shown[heading] = re.findall(r"cat &lt;b&gt;(\d)&lt;/b&gt;</p>", rest)
        assert shown["Lowest S"] == ["1", "0", "3", "2"] and shown["Highest S"] == ["2", "0", "3", "1"]
        assert shown["T2IA and IQA furthest apart"][0] == "0"
        assert 'width="320" height="200"' in page and "<b>1" not in page
        assert "2 T2IA answers" in page and "Is part 1 whole?" in page and "expected: no, seen: no" in page


def test_the_report_fits_a_phone_and_the_dark(annotated, chromium):
    _, output = run(annotated, *PAIRS, heldout=0.2)
    page = chromium.new_page(viewport={"width": 375, "height": 700}, color_scheme="dark")
    page.goto((output / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    red, green, blue = map(
        int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    assert max(red, green, blue) < 60
    box = page.locator("svg").first.bounding_box()
    assert box["width"] <= 375 - 2 * 10
    with pytest.raises(Error, match="Content Security Policy"):
        page.add_script_tag(content="document.title = 'run'")
    page.close()


def test_a_chart_of_many_values_has_few_bars_and_all_counts(annotated, tmp_path):
    summary, _ = run(annotated, *PAIRS, heldout=0.2)
    histogram = {str(value): value for value in range(3, 303) if value != 100}
    summary["statistics"]["t2ia_questions"] = {"count": len(histogram), "mean": 150, "histogram": histogram}
    write_report(tmp_path / "page.html", summary)
    chart = (tmp_path / "page.html").read_text().split("T2IA questions a pair")[1].split("</figure>")[0]
    bars = [int(number) for number in re.findall(r"<title>[0-9–]+: ([0-9]+)</title>", chart)]
    assert 30 < len(bars) <= 41 and sum(bars) == sum(histogram.values())


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_overall_scores(annotated, suffix):
    def drop(files):
        first, second = list(files["metadata"])[:2]
        del files["iqa_answers"][first]
        del files["iqa_questions"][second]  # costs no score

    metadata, folder = annotated(*PAIRS[:3], ("another cat here", "a", 2, (5, 2), (1, 4)), change=drop)
    output = folder / f"scores{suffix}"
    summary = compute_overall_scores(
        OverallConfig(metadata=metadata, annotations=folder, output=output, alpha=0.25, beta=0.75)
    )
    assert summary["pairs"] == 3 and summary["missing"] == 1
    if suffix == ".csv":
        with output.open() as file:
            rows = list(csv.DictReader(file))
        missing = output.with_suffix(".missing.csv").read_text()
    else:
        rows, missing = json.loads(output.read_text())["scores"], output.read_text()
    assert float(rows[-1]["overall"]) == 0.25 * 2.5 + 0.75 * 3.5 and float(rows[-1]["t2ia"]) == 3.5
    assert float(rows[-1]["normalised_overall"]) == (3.25 - 1) / 4
    assert "no iqa_answers" in missing


def test_overall_scores_do_not_take_the_place_of_the_pairs(annotated, capsys):
    metadata, folder = annotated(*PAIRS[:3])
    table = folder / "pairs.json"
    table.write_text(json.dumps(list(read_jsonl(metadata))))
    before = table.read_bytes()
    flags = ["--metadata", str(table), "--annotations", str(folder), "--output", str(table)]
    assert overall.main(flags, "dyneval overall") == 1
    assert "is an input and would be overwritten" in capsys.readouterr().err and table.read_bytes() == before


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.6), (-0.5, 1.5)])
def test_weights_that_leave_the_scale_are_refused(alpha, beta):
    with pytest.raises(ValueError, match="sum to 1"):
        OverallConfig(metadata=Path("m"), annotations=Path("a"), output=Path("o.csv"), alpha=alpha, beta=beta)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--heldout", "1"], "held-out share"),
        (["--delta", "1", "2"], "one value or three"),
        (["--delta", "9"], "delta"),
    ],
)
def test_wrong_command_lines_get_one_clear_line(annotated, flags, message):
    metadata, folder = annotated(PAIRS[0])
    door = [sys.executable, str(ROOT / "Distill Annotations" / "build_dynevalinstruct.py")]
    command = [*door, "--metadata", metadata, "--annotations", folder, "--output", folder / "out", *flags]
    done = processes.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "out").exists()


def test_lines_of_an_earlier_build_do_not_stay_beside_other_samples(annotated):
    _, output = run(annotated, *PAIRS, heldout=0.2, lines=True)
    assert len(list(output.glob("dynevalinstruct_*.jsonl"))) == 4
    run(annotated, *PAIRS, heldout=0.2)
    assert not list(output.glob("dynevalinstruct_*.jsonl")) and (output / "heldout.jsonl").exists()


def test_the_data_set_is_uploaded_with_its_card_and_without_paths_of_this_machine(annotated, tmp_path):
    metadata, folder = annotated(*PAIRS)
    hub = tmp_path / "hub"
    hub.mkdir()
    command = [sys.executable, ROOT / "tests" / "qwenvl" / "hub_server.py", hub, "a-token"]
    with processes.Process(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = f"http://127.0.0.1:{int(server.stdout.readline())}"
            known = {"HF_ENDPOINT": address, "HF_TOKEN": "a-token", "HF_HUB_OFFLINE": "0"}
            command = [sys.executable, "-m", "dyneval", "instruct", "--metadata", metadata, "--annotations", folder]
            command += ["--output", tmp_path / "out", "--check-images", "none", "--push_to_hub", "me/instruct"]
            done = processes.run(command, env=os.environ | known, capture_output=True, text=True, check=True)
        finally:
            server.kill()
    assert done.stdout.splitlines()[-1].endswith("/me/instruct")
    sent = {path.name for path in (hub / "me" / "instruct").rglob("*") if path.is_file()}
    assert {"README.md", "dynevalinstruct_t2ia.json", "heldout.jsonl"} <= sent and "summary.json" not in sent
    assert all(str(tmp_path) not in path.read_text() for path in (hub / "me").rglob("*") if path.is_file())
