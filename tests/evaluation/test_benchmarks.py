"""Each loader on a fixture in the published layout: what the rating is, how raters are averaged, what is refused."""

import json
import math
import struct

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyneval.cli import main
from dyneval.errors import DataFileError, ImageError
from dyneval.evaluation.benchmarks import BENCHMARKS, LayoutError, generic, load
from dyneval.evaluation.benchmarks.richhf import parse_example, tfrecords
from dyneval.files.images import load_image


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def read(name, path, field=None):
    return load(BENCHMARKS[name], path, field).items


def test_evalmuse_averages_raters_and_names_element_types(tmp_path):
    row = {
        "prompt_id": "00001",
        "prompt": "two cats on a red sofa",
        "type": "real",
        "img_path": "SDXL-Turbo/00001.png",
        "total_score": [4, 5, 3],
        "element_score": "{'cats (animal)': [1, 1, 0], 'two (counting)': [0, 0, 0], 'red (color)': [1, 1, 1]}",
        "promt_meaningless": [0, 0, 0],
    }
    path = write(tmp_path / "train_list.json", [row])
    (item,) = read("evalmuse", path)
    assert (item.rating, item.ratings, item.model) == (4, (4, 5, 3), "SDXL-Turbo")
    assert item.categories == ("animal", "color", "counting")
    assert read("evalmuse", path, "element_score")[0].rating == pytest.approx(5 / 9)
    row["element_score"] = "{'cats (animal)': __import__('os')}"
    with pytest.raises(LayoutError, match="element_score is not the text of a dict"):
        read("evalmuse", write(path, [row]))


def test_genai_bench_reads_the_json_release_with_skills(tmp_path):
    write(tmp_path / "genai_skills.json", {"counting": [0], "basic": [0, 1]})
    path = write(
        tmp_path / "genai_image.json",
        {
            "00000": {"prompt": "three red balls", "models": {"DALLE_3": [5, 4, 3], "SDXL_Base": [1, 1, 2]}},
            "00001": {"prompt": "a cat", "models": {"DALLE_3": [5, 5, 5]}},
        },
    )
    items = read("genai-bench", path)
    assert [(i.image, i.rating) for i in items][:2] == [("DALLE_3/00000.jpeg", 4), ("SDXL_Base/00000.jpeg", 4 / 3)]
    assert [i.categories for i in items] == [("basic", "counting"), ("basic", "counting"), ("basic",)]


def test_genai_bench_reads_the_parquet_release(tmp_path):
    pl.DataFrame(
        {
            "Index": [7],
            "Prompt": ["a cat"],
            "Tags": [{"advanced": ["negation"], "basic": ["scene"]}],
            "HumanRatings": [{"DALLE_3": [1, 2, 3], "SDXL_Base": [5, 5, 5]}],
            "DALLE_3": [b"not read"],
        }
    ).write_parquet(tmp_path / "genai.parquet")
    items = read("genai-bench", tmp_path / "genai.parquet")
    assert [(i.image, i.rating) for i in items] == [("DALLE_3/00007.jpeg", 2), ("SDXL_Base/00007.jpeg", 5)]
    assert items[0].categories == ("negation", "scene")
    pl.DataFrame({"Index": [7], "text": ["a cat"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(LayoutError, match="HumanRatings"):
        read("genai-bench", tmp_path / "other.parquet")


def test_tifa_takes_the_model_from_the_key(tmp_path):
    entry = {
        "text_id": "coco_301091",
        "image_path": "coco_301091_stable_diffusion_v2_1.jpg",
        "text": "On a gray day a surfer carrying a white board walks on a beach.",
        "human_scores": [5, 4],
        "human_avg": 4.5,
    }
    path = write(tmp_path / "human_annotations.json", {"coco_301091_stable_diffusion_v2_1": entry})
    (item,) = read("tifa", path)
    assert (item.rating, item.model, item.categories) == (4.5, "stable_diffusion_v2_1", ("coco",))
    entry["human_scores"] = [9, 9]
    with pytest.raises(LayoutError, match=r"1 of 1 rows .* rating 9 lies off the scale of TIFA v1\.0, 1-5"):
        read("tifa", write(path, {"coco_301091_x": entry}))


def varint(number):
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def message(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def example(features):
    """A tf.train.Example as the protobuf library writes it (floats packed)."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = message(1, message(1, value))
        elif isinstance(value, float):
            feature = message(2, message(1, struct.pack("<f", value)))
        else:
            feature = message(3, varint(1 << 3) + varint(value))
        entries += message(1, message(1, name.encode()) + message(2, feature))
    return message(1, entries)


def tfrecord(path, records):
    path.write_bytes(b"".join(struct.pack("<Q", len(r)) + b"\0" * 4 + r + b"\0" * 4 for r in records))
    return path


SCORES = {"aesthetics_score": 0.25, "artifact_score": 0.5, "misalignment_score": 0.75, "overall_score": 1.0}


def test_richhf_reads_tfrecords_without_tensorflow(tmp_path):
    heat_map = bytes(range(256))
    features = {"filename": b"test/0b1c.png", "artifact_map": heat_map, "count": 3, **SCORES}
    path = tfrecord(tmp_path / "test.tfrecord", [example(features), example(features | {"filename": b"test/2d.png"})])
    items = read("richhf", path)
    assert [(i.item_id, i.image, i.rating, i.prompt) for i in items] == [
        ("0b1c", "0b1c.png", 0.75, None),
        ("2d", "2d.png", 0.75, None),
    ]
    assert items[0].cluster == "0b1c", "without a prompt the image itself is drawn"
    assert read("richhf", path, "overall_score")[0].rating == 1
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LayoutError, match="no whole TFRecord file"):
        read("richhf", path)


def test_richhf_reads_the_joined_json_with_prompts(tmp_path):
    path = write(tmp_path / "test_meta_data.json", {"0b": {"filename": "test/0b.png", "prompt": "a cat", **SCORES}})
    (item,) = read("richhf", path)
    assert (item.prompt, item.rating) == ("a cat", 0.75)


@given(st.binary(max_size=60))
def test_garbage_is_never_taken_for_an_example(data):
    try:
        parsed = parse_example(data)
    except (TypeError, KeyError):
        return
    assert all(isinstance(name, str) for name in parsed)


@given(st.binary(max_size=60))
def test_garbage_is_never_taken_for_a_tfrecord_file(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("tfrecord") / "x.tfrecord"
    path.write_bytes(data)
    try:
        assert sum(len(record) + 16 for record in tfrecords(path)) == len(data)
    except DataFileError as error:
        assert str(path) in str(error)


GENEVAL = """HITId,Input.index,Input.prompt_id,Input.image_id,Input.image_url,Input.caption,Answer.task-objects,\
Answer.task-quality,Answer.task-real-0,Answer.task-real-1
A,328_1,328,1,https://host/images/sdv2/00328/samples/00001.png,a photo of a white teddy bear,"BEAR, BENCH",4,3.0,
A,328_1,328,1,https://host/images/sdv2/00328/samples/00001.png,a photo of a white teddy bear,bear,3,2.0,
B,220_2,220,2,https://host/images/sdv2/00220/samples/00002.png,a photo of four donuts,none,1,,
"""


def test_geneval_groups_the_raters_of_an_image(tmp_path):
    path = write(tmp_path / "annotations_sdv2.csv", GENEVAL)
    for source in (path, tmp_path):
        items = {item.item_id: item for item in read("geneval", source)}
        assert items["sdv2/328_1"].rating == 3.5
        assert items["sdv2/328_1"].image == "sdv2/00328/samples/00001.png"
        assert items["sdv2/220_2"].rating == 1
    realism = load(BENCHMARKS["geneval"], path, "realism")
    assert [(i.item_id, i.rating) for i in realism.items] == [("sdv2/328_1", 2.5)]
    assert realism.unrated == ["sdv2/220_2"], "no object there, so nobody rated its realism"


def test_t2i_eval_bench_averages_the_three_raters_not_their_published_mean(tmp_path):
    aspect = {"score": 7, "manual_score": [6, 8, 10, 99]}
    write(tmp_path / "scores.json", [{"id": "0", "overall": dict.fromkeys(("overall", "appearance"), aspect)}])
    sample = {"id": 0, "model_name": "sd3", "gt_image": "0.jpg", "image_caption": "a cat"}
    write(tmp_path / "t2i-eval-bench.json", [sample])
    (item,) = read("t2i-eval-bench", tmp_path, "appearance")
    assert (item.rating, item.image, item.model) == (8, "0.jpg", "sd3")
    write(tmp_path / "t2i-eval-bench.json", [sample | {"id": 1}])
    with pytest.raises(LayoutError, match=r"scores.json rates 0, which t2i-eval-bench.json does not hold"):
        read("t2i-eval-bench", tmp_path)


def evalmi(folder, rows, prompts="a cat\r\na dog"):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["ImageName", "MOS1", "MOS2", "Y/N", "YN_1"], *rows):
        book.active.append(row)
    (folder / "MOS&QA").mkdir(exist_ok=True)
    book.save(folder / "MOS&QA" / "AIGI2025_MOS_yn.xlsx")
    (folder / "MOS&QA" / "~$AIGI2025_MOS_yn.xlsx").write_bytes(b"mark of an open sheet")
    write(folder / "prompts" / "Englishall.txt", prompts)
    return folder


def test_evalmi_reads_the_sheet_of_the_release(tmp_path):
    folder = evalmi(tmp_path, [["flux/002.png", 61.5, 33, 1, None], ["sana/001.png", 40, 70.25, 0, 1]])
    write(folder / "prompts" / "prompt_tasks.jsonl", '{"tag": "counting"}\n{"tag": "color"}\n')
    items = read("evalmi", folder)
    assert [(i.prompt, i.model, i.rating) for i in items] == [("a dog", "flux", 33), ("a cat", "sana", 70.25)]
    assert [i.categories for i in items] == [("color",), ("counting",)]
    sheet = folder / "MOS&QA" / "AIGI2025_MOS_yn.xlsx"
    assert [i.rating for i in read("evalmi", sheet, "perception")] == [61.5, 40]
    assert [i.rating for i in read("evalmi", folder, "answer")] == [1, 0]
    with pytest.raises(LayoutError, match=r"image flux/003.png is not numbered like one of the 2 prompts"):
        read("evalmi", evalmi(tmp_path, [["flux/003.png", 1, 2, 1, None]]))


def test_agiqa_3k_reads_both_scores_and_zero_is_one(tmp_path):
    write(
        tmp_path / "data.csv",
        "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\r\n"
        "sd1.5_lowcorr_012.jpg,a tray of sushi,,,,0,0.6,0.43,0.6\r\n"
        "xl2.2_normal_013.jpg,a city,busy,,anime style,3.5,0.2,4.1,0.4\r\n",
    )
    quality = load(BENCHMARKS["agiqa-3k"], tmp_path, "quality")
    assert [i.rating for i in quality.items] == [0, 3.5] and quality.unrated == []
    items = read("agiqa-3k", tmp_path / "data.csv")
    assert [(i.rating, i.model) for i in items] == [(0.43, "sd1.5"), (4.1, "xl2.2")]
    assert items[1].categories == ("normal", "busy", "anime style")


def test_dsg_has_the_images_of_tifa(tmp_path):
    head = "dsg_prompt_split,t2i_model,item_id,source_id,worker_id,question,answer\n"
    rows = "".join(f"tifa160,sd1dot5,tifa160_1,coco_301091,{n},How?,{n}\n" for n in (2, 5))
    write(tmp_path / "tifa160-likert-anns.csv", head + rows)
    (item,) = read("dsg", tmp_path)
    assert (item.item_id, item.rating) == ("coco_301091_stable_diffusion_v1_5", 3.5) and item.prompt is None
    write(tmp_path / "tifa160-dev-anns.csv", "item_id,text\ncoco_301091,a surfer\n")
    assert read("dsg", tmp_path)[0].prompt == "a surfer"


def test_one_rating_off_the_scale_leaves_those_of_the_other_raters(tmp_path):
    models = {"DALLE_3": [5, 41, 4], "SDXL_Base": [3, 2, 1]}
    path = write(tmp_path / "genai_image.json", {"00231": {"prompt": "a cat", "models": models}})
    found = load(BENCHMARKS["genai-bench"], path)
    assert [i.rating for i in found.items] == [4.5, 2]
    (reject,) = found.rejects
    assert reject.key == "DALLE_3/00231" and "rating 41 lies off the scale of GenAI-Bench, 1-5" in reject.reason


def test_genai_bench_reads_the_parquet_release_with_texts(tmp_path):
    row = {"Index": ["7"], "prompt": ["a cat"], "basic_skills": ["['scene']"], "advanced_skills": ["[]"]}
    pl.DataFrame(row | {"DALLE_3_HumanRating": ["[1, 2, 3]"]}).write_parquet(tmp_path / "genai.parquet")
    (item,) = read("genai-bench", tmp_path / "genai.parquet")
    assert (item.image, item.rating, item.categories) == ("DALLE_3/00007.jpeg", 2, ("scene",))


def test_geneval_keeps_a_return_that_a_rater_typed(tmp_path):
    typed = GENEVAL.replace("BEAR, BENCH", "BEAR,\rBENCH").replace(",bear,", ",bear\rbench,")
    assert typed.count("\r") == 2
    path = tmp_path / "annotations_sdv2.csv"
    path.write_bytes(typed.encode())
    found = load(BENCHMARKS["geneval"], path)
    assert {i.item_id: i.ratings for i in found.items} == {"sdv2/220_2": (1,), "sdv2/328_1": (4, 3)}
    assert found.unrated == [] and found.rejects == []


def test_geneval2_takes_arithmetic_or_geometric_means_over_atoms(tmp_path):
    row = {"prompt": "four white bicycles", "atom_count": 2, "vqa_list": [], "skills": ["count", "attribute"]}
    write(tmp_path / "geneval2_data.jsonl", json.dumps(row) + "\n")
    write(tmp_path / "flux/score_lists.json", [[1, 0.25]])
    write(tmp_path / "flux/image_paths.json", {"four white bicycles": "flux/a.png"})
    (item,) = read("geneval2", tmp_path)
    assert (item.rating, item.image, item.model) == (0.625, "flux/a.png", "flux")
    assert item.categories == ("attribute", "count", "atoms 2")
    assert read("geneval2", tmp_path, "prompt")[0].rating == 0.5


def test_tiif_counts_the_answers_that_equal_the_target(tmp_path):
    prompt = {"type": "color", "short_description": "a red cup", "long_description": "a cup, all red"}
    write(tmp_path / "prompts/color_prompts.jsonl", json.dumps(prompt) + "\n")
    answers = {"questions": ["a?", "b?"], "gt_answers": ["yes", "no"], "model_pred": ["Yes", "yes"]}
    write(tmp_path / "answers/flux/color/long/0.json", answers)
    (item,) = read("tiif-bench", tmp_path)
    assert (item.rating, item.prompt) == (0.5, "a cup, all red")
    assert item.image == "color/flux/long_description/0.png"
    write(tmp_path / "answers/flux/color/long/0.json", answers | {"model_pred": []})
    with pytest.raises(LayoutError, match="answers 0 of 2 questions"):
        read("tiif-bench", tmp_path)


def test_tiif_answers_belong_to_the_lines_of_the_full_set(tmp_path):
    rows = [{"type": "color", "short_description": f"s{n}", "long_description": f"l{n}"} for n in range(3)]
    asked = [{"type": "color", "yn_question_list": [f"is it {n}?  "]} for n in range(3)]
    for name, lines in (("test_prompts", rows), ("test_eval_prompts", asked), ("testmini_prompts", rows[1:])):
        write(tmp_path / "data" / name / "color_prompts.jsonl", "\n".join(map(json.dumps, lines)))
    results = tmp_path / "eval-results" / "testmini" / "testmini_GPT-4o"
    answer = {"questions": ["is it 1?"], "gt_answers": ["yes"], "model_pred": ["yes"]}
    write(results / "flux" / "color" / "short" / "1.json", answer)
    assert [(i.prompt, i.rating, i.model) for i in read("tiif-bench", results)] == [("s1", 1, "flux")]
    write(results / "flux" / "color" / "short" / "2.json", answer)
    with pytest.raises(LayoutError, match="answers other questions than line 3 of color asks"):
        read("tiif-bench", results)
    write(results / "flux" / "color" / "short" / "2.json", answer | {"questions": ["is it 2?"]})
    (tmp_path / "data" / "test_prompts").rename(tmp_path / "data" / "full")
    (tmp_path / "data" / "testmini_prompts").rename(tmp_path / "data" / "test_prompts")
    with pytest.raises(LayoutError, match="there are 2 prompts of type 'color'; the numbers are those of data/test_p"):
        read("tiif-bench", results)


def test_unigenbench_names_model_and_set_and_a_null_result_is_no_rating(tmp_path):
    head = "index,prompt,testpoint,result_json,img_path\n"
    row = '1,a dog,[],"{""testpoint"": [""A - b""], ""score"": [1, 0]}",out/1_0.png\n'
    write(tmp_path / "FLUX_en_long.csv", head + "0,a cat,[],null,out/0_0.png\n" + row)
    found = load(BENCHMARKS["unigenbench"], tmp_path)
    assert found.unrated == ["en_long/FLUX/0_0.png"]
    assert [(i.image, i.model, i.categories, i.rating) for i in found.items] == [
        ("en_long/FLUX/1_0.png", "FLUX", ("en_long", "A"), 0.5)
    ]


def test_unigenbench_reads_its_result_tables(tmp_path):
    result = {"testpoint": ["Attribute - Color", "Grammar - Negation"], "score": [1, 0]}
    pl.DataFrame(
        {
            "index": [3],
            "prompt": ["no cat"],
            "testpoint": [str(result["testpoint"])],
            "output": ["<description>, " * 20_000],
            "result_json": [json.dumps(result, indent=4)],
            "img_path": ["/data/flux/3_0.png"],
        }
    ).write_csv(tmp_path / "flux_en.csv")
    (item,) = read("unigenbench", tmp_path)
    assert (item.rating, item.image, item.categories) == (0.5, "en/flux/3_0.png", ("en", "Attribute", "Grammar"))


def test_t2i_corebench_leaves_unanswered_questions_out(tmp_path):
    checklist = [{"question": "a?", "score": 1}, {"question": "b?", "score": 0}, {"question": "c?", "score": ""}]
    write(tmp_path / "flux/C-MI-human.json", {"C-MI-001-0": {"Prompt": "p", "Checklist": checklist}, "mean_score": 0.5})
    (item,) = read("t2i-corebench", tmp_path)
    assert (item.rating, item.image, item.categories) == (0.5, "flux/C-MI/C-MI-001-0.png", ("C-MI",))


def test_a_table_of_ones_own_with_renamed_columns(tmp_path):
    path = write(
        tmp_path / "mine.csv", "file,mos,text,kind\na.png,4.5,a cat,animals\nb.png,,a dog,\nc.png,nan,a cow,\n"
    )
    benchmark = generic.benchmark({"image": "file", "rating": "mos", "prompt": "text", "category": "kind"}, (1, 5))
    found = load(benchmark, path)
    assert [(i.item_id, i.rating, i.prompt, i.categories) for i in found.items] == [
        ("a.png", 4.5, "a cat", ("animals",))
    ]
    assert found.unrated == ["b.png", "c.png"]
    with pytest.raises(LayoutError, match=r"there is no field 'image'[\s\S]*image \(path below the image folder\)"):
        load(generic.benchmark(), path)
    with pytest.raises(ValueError, match="unknown column meaning 'stars'"):
        generic.benchmark({"stars": "mos"})
    # A mistyped one is told, optional or not: without its prompts every image would count as a prompt of its own.
    with pytest.raises(LayoutError, match=r"mine\.csv: lacks the column txt; it has file, mos, text, kind"):
        load(generic.benchmark({"image": "file", "rating": "mos", "prompt": "txt"}, (1, 5)), path)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_a_table_of_ones_own_in_other_forms(tmp_path, suffix):
    rows = [
        {"image": "a.png", "rating": [1, 2], "category": ["x", "y"]},
        {"image": "b.png", "rating": [3], "category": []},
    ]
    path = tmp_path / f"mine.{suffix}"
    if suffix == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        write(path, rows if suffix == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    items = load(generic.benchmark(), path).items
    assert [(i.rating, i.categories, i.prompt) for i in items] == [(1.5, ("x", "y"), None), (3, (), None)]


def test_rows_of_several_raters_become_one_image_and_the_last_word_of_each_counts(tmp_path):
    rows = ["Ann,a.png,1", "Ben,a.png,5", "Ann,b.png,", "Ann,a.png,2", "Ben,b.png,7", "Cem,b.png,4", "Ann,c.png,?"]
    path = write(tmp_path / "mine.csv", "rater,image,rating\n" + "\n".join(rows))
    found = load(generic.benchmark(scale=(1, 5)), path)
    assert [(item.item_id, item.ratings[-1], item.rating) for item in found.items] == [
        ("a.png", 5, 3.5),
        ("b.png", 4, 4),
    ]
    assert found.rejects == [
        ("mine.csv", "", 5, "rating 7 lies off the scale of own ratings, 1-5"),
        ("mine.csv", "", 7, "expected a number, found '?'"),
    ]
    other = (
        "rater,image,rating,prompt\nAnn,a.png,1,a cat\nAnn,b.png,3,\nAnn,c.png,3,\nBen,a.png,2,a dog\nBen,b.png,1,\n"
    )
    found = load(generic.benchmark(), write(tmp_path / "mixed.csv", other))
    assert [(item.item_id, item.rating) for item in found.items] == [("b.png", 2), ("c.png", 3)]
    assert [(reject.key, reject.row) for reject in found.rejects] == [("a.png", 1), ("a.png", 4)]
    # Four of eight rows are not most of them, though the other four make one image.
    few = "rater,image,rating\n" + "".join(f"R{n},a.png,{n if n < 5 else 9}\n" for n in range(1, 9))
    assert load(generic.benchmark(scale=(1, 5)), write(tmp_path / "few.csv", few)).items[0].ratings == (1, 2, 3, 4)


def test_cells_that_were_kept_from_being_formulas_are_read_as_they_were_meant(tmp_path):
    path = write(tmp_path / "mine.csv", "image,rating,prompt\n'=a.png,1,'-1 degrees\n'b.png,2,'tis\n")
    assert [(i.image, i.prompt) for i in load(generic.benchmark(), path).items] == [
        ("=a.png", "-1 degrees"),
        ("'b.png", "'tis"),
    ]


def test_blank_prompts_are_none_so_that_images_are_drawn(tmp_path):
    path = write(tmp_path / "mine.csv", "image,rating,prompt\na.png,1,\nb.png,2, \nc.png,3,a cat\n")
    assert [item.cluster for item in load(generic.benchmark(), path).items] == ["a.png", "b.png", "a cat"]
    row = {"prompt": "", "img_path": "m/1.png", "total_score": [4], "type": "real", "element_score": "{}"}
    (item,) = read("evalmuse", write(tmp_path / "train_list.json", [row | {"prompt_id": "1"}]))
    assert item.prompt is None


@pytest.mark.parametrize(
    ("row", "key", "said"),
    [
        ({"image": "", "rating": 1}, "", "image is empty, expected path below the image folder"),
        ({"image": {"path": "a.png"}, "rating": 1}, "", "expected a text, found dict \"{'path': 'a.png'}\""),
        ({"image": "b.png", "rating": "good"}, "b.png", "expected a number, found 'good'"),
        ({"image": "b.png", "rating": ["?"]}, "b.png", "expected a number, found '?'"),
        ({"image": "b.png", "rating": [[3]]}, "b.png", "expected a number, found list '[3]'"),
        ({"image": "b.png", "rating": True}, "b.png", "expected a number, found bool 'True'"),
        ({"image": "b.png", "rating": 5.5}, "b.png", "rating 5.5 lies off the scale of own ratings, 1-5"),
        ({"image": "b.png", "rating": [-1, -1]}, "b.png", "rating -1 lies off the scale of own ratings, 1-5"),
        ({"image": "b.png", "rating": math.inf}, "b.png", "rating inf is no number that can be compared"),
        ({"image": "b.png", "rating": "-inf"}, "b.png", "rating -inf is no number that can be compared"),
        ({"image": "b.png", "rating": 1e999}, "b.png", "rating inf is no number that can be compared"),
    ],
)
def test_a_row_that_is_no_rating_is_left_out_and_told(tmp_path, row, key, said):
    path = write(tmp_path / "mine.json", [{"image": "a.png", "rating": 1}, row])
    found = load(generic.benchmark(scale=(1, 5)), path)
    assert [item.item_id for item in found.items] == ["a.png"]
    assert found.rejects == [("mine.json", key, 2, said)]


def test_ratings_that_differ_for_one_image_do_not_count_and_equal_ones_count_once(tmp_path):
    rows = ["a.png,1", "b.png,2", "a.png,1", "c.png,3", "b.png,4", "d.png,4", "e.png,nan", "e.png,nan", "a.png,1"]
    found = load(generic.benchmark(), write(tmp_path / "mine.csv", "image,rating\n" + "\n".join(rows)))
    assert [(item.item_id, item.rating) for item in found.items] == [("a.png", 1), ("c.png", 3), ("d.png", 4)]
    assert (found.repeated, found.unrated) == (3, ["e.png"])
    reason = "occurs 2 times with different contents; which is right is unknown, so none counts"
    assert found.rejects == [("mine.csv", "b.png", 2, reason), ("mine.csv", "b.png", 5, reason)]


def test_a_published_file_is_used_without_its_bad_rows(tmp_path):
    entry = {"text_id": "coco_1", "image_path": "1.jpg", "text": "a surfer", "human_scores": [5, 4]}
    scores = {"coco_1_a": [5, 4], "coco_1_b": [5, 9], "coco_1_c": ["bad", 2], "coco_1_d": [1, 2], "coco_1_e": [1, None]}
    rows = {key: entry | {"human_scores": given} for key, given in scores.items()}
    found = load(BENCHMARKS["tifa"], write(tmp_path / "human_annotations.json", rows))
    kept = {"coco_1_a": 4.5, "coco_1_b": 5, "coco_1_c": 2, "coco_1_d": 1.5, "coco_1_e": 1}
    assert {item.item_id: item.rating for item in found.items} == kept
    assert [(reject.key, reject.row, reject.reason) for reject in found.rejects] == [
        ("coco_1_b", 2, "rating 9 lies off the scale of TIFA v1.0, 1-5"),
        ("coco_1_c", 3, "expected a number, found 'bad'"),
    ]


def test_an_atom_off_its_scale_does_not_hide_in_the_mean(tmp_path):
    prompts = [{"prompt": name, "atom_count": 2, "skills": ["color"]} for name in "abcd"]
    write(tmp_path / "geneval2_data.jsonl", "\n".join(map(json.dumps, prompts)))
    write(tmp_path / "flux/image_paths.json", {name: f"{name}.png" for name in "abcd"})
    write(tmp_path / "flux/score_lists.json", [[1, 0], [2, 0], [1, 1], ["yes", 1]])
    found = load(BENCHMARKS["geneval2"], tmp_path)
    assert [item.rating for item in found.items] == [0.5, 1]
    assert [reject.reason.split(" lies")[0] for reject in found.rejects] == [
        "rating 2",
        "expected a number, found 'yes'",
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a.png,1", "b.png,9", "c.png,?"], "2 of 3 rows cannot be used: b.png, row 2: rating 9 lies off"),
        (
            ["a.png,1", "a.png,2", "b.png,3"],
            "2 of 3 rows cannot be used: a.png, row 1: occurs 2 times with different contents",
        ),
        ([f"{n}.png,?" for n in range(9)], "2.png, row 3: expected a number, found '\\?'; and 6 more"),
    ],
)
def test_a_file_is_refused_where_most_rows_cannot_be_used(tmp_path, rows, said):
    path = write(tmp_path / "mine.csv", "image,rating\n" + "\n".join(rows))
    with pytest.raises(LayoutError, match=said):
        load(generic.benchmark(scale=(1, 5)), path)


def test_an_open_quote_takes_no_ratings_with_it(tmp_path):
    path = write(tmp_path / "mine.csv", 'image,rating,prompt\na.png,1,a\nb.png,2,"a fox\nc.png,3,c\n')
    with pytest.raises(LayoutError, match=r"mine\.csv:3: row 2: a quotation mark opens a cell and never closes it"):
        load(generic.benchmark(), path)


def test_an_unknown_rating_names_those_that_exist(tmp_path):
    with pytest.raises(LayoutError, match="GenEval has no rating called 'mood'; it has caption_fit"):
        load(BENCHMARKS["geneval"], tmp_path, "mood")


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("content", [None, "", "[]", "{}", '[{"a": 1}]', '{"a": {"b": 1}}', "\x89PNG", "[1, 2]"])
def test_any_other_file_gets_an_error_that_shows_the_layout(tmp_path, name, content):
    path = tmp_path / "found.json"
    if content is not None:
        write(path, content)
    for place in (path, tmp_path):
        with pytest.raises(LayoutError) as error:
            load(BENCHMARKS[name], place)
        assert BENCHMARKS[name].layout in str(error.value)
        assert BENCHMARKS[name].source in str(error.value)


def test_a_rating_that_is_no_number_is_another_layout(tmp_path):
    path = write(tmp_path / "mine.csv", "image,rating\na.png,good\n")
    with pytest.raises(LayoutError, match="expected a number, found 'good'"):
        load(generic.benchmark(), path)


POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\nsize 10112337\n"
)
PUBLISHED_FILES = {
    "evalmuse": "train_list.json",
    "genai-bench": "genai.parquet",
    "tifa": "human_annotations.json",
    "dsg": "tifa160-likert-anns.csv",
    "agiqa-3k": "data.csv",
    "richhf": "test.tfrecord",
    "geneval": "annotations_if-xl.csv",
    "evalmi": "AIGI2025_MOS_yn.xlsx",
    "unigenbench": "FLUX_en.csv",
    "imagerewarddb": "metadata-test.parquet",
    "hpdv2": "test.json",
    "hpdv3": "train.json",
    "pick-a-pic": "test.parquet",
}


@pytest.mark.parametrize(("name", "file"), PUBLISHED_FILES.items(), ids=PUBLISHED_FILES)
def test_a_pointer_of_git_lfs_is_called_one(tmp_path, name, file):
    write(tmp_path / "Englishall.txt", "a cat\n")
    with pytest.raises(LayoutError, match=f"{file}: is a Git LFS pointer, not the file itself; get that with `git lfs"):
        read(name, write(tmp_path / file, POINTER))


def test_an_image_that_git_lfs_has_left_out_is_called_so(tmp_path):
    with pytest.raises(ImageError, match=r"a\.png: is a Git LFS pointer"):
        load_image(write(tmp_path / "a.png", POINTER))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_another_layout_is_answered_with_what_was_found_and_what_is_wanted(tmp_path, name):
    benchmark = BENCHMARKS[name]
    wanted = f"expected: {benchmark.layout}\nsource: {benchmark.source}"
    write(tmp_path / "folder" / "notes.txt", "hello")
    write(tmp_path / "folder" / "images" / "a.png", "hello")
    for path, found in (
        (tmp_path / "folder", "a folder with images/, notes.txt"),
        (write(tmp_path / "rows.json", {"one": {"name": "a", "mos": 3}}), "a JSON object with the keys one, the first"),
        (write(tmp_path / "list.json", [{"name": "a", "mos": 3}]), "a JSON list of 1 with name, mos"),
        (write(tmp_path / "rows.csv", "name,mos\na,3\n"), "a .csv table with name, mos"),
        (tmp_path / "nowhere", "nothing: there is no such file or folder"),
        (write(tmp_path / "notes.txt", "hello"), "a file .txt of 5 bytes"),
    ):
        with pytest.raises(LayoutError) as refused:
            read(name, path)
        said = str(refused.value)
        assert f"not the layout of {benchmark.title}: " in said and f"\nfound: {found}" in said, said
        assert said.endswith(wanted)


def test_richhf_takes_the_test_split_of_a_folder_and_its_prompts(tmp_path):
    features = {"filename": b"test/0b1c.png", **SCORES}
    tfrecord(tmp_path / "train.tfrecord", [example(features | {"filename": b"train/9.png"})])
    tfrecord(tmp_path / "test.tfrecord", [example(features)])
    meta = {"0b1c": {"filename": "test/0b1c.png", "prompt": "a cat", "scores": SCORES}}
    write(tmp_path / "test_meta_data.json", meta)
    for path in (tmp_path, tmp_path / "test.tfrecord", tmp_path / "test_meta_data.json"):
        (item,) = read("richhf", path, "artifact_score")
        assert (item.item_id, item.prompt, item.rating) == ("0b1c", "a cat", 0.5)
    assert read("richhf", tmp_path / "train.tfrecord")[0].prompt is None


def test_the_list_tells_of_every_set_what_was_rated_items_licence_source_and_what_to_pass(capsys):
    assert main(["benchmark", "--list"]) == 0
    said = capsys.readouterr().out
    for name, one in BENCHMARKS.items():
        entry = said[said.index(f"{name}: {one.title}") :]
        for line in (f"items: {one.size}", f"licence: {one.licence}", f"from: {one.source}"):
            assert one.size and one.licence and line in entry
        assert f"--benchmark {name} --annotations: {one.layout}" in entry
        assert all(f"--rating {field}: {what.meaning}" in entry for field, what in one.fields.items())
