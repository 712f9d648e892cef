"""Other metrics' scores through `dyneval rival`: CLIP with tiny random weights, a real HTTP server for chat judges.

Packages whose weights are gigabytes are stood in for by those of `packages/`, which check what they are called with.
"""

import base64
import json
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image

from dyneval.cli import main
from dyneval.files.jsonl import read_jsonl
from dyneval.llm.chat import UnusableReply
from dyneval.rivals.chat import read_axes
from dyneval.rivals.registry import RIVALS
from tests.rows import write_jsonl

PACKAGES = Path(__file__).parent / "packages"
WORDS = ["a", "photograph", "of", "three", "scarlet"]
SIZES = ((40, 30), (30, 40), (40, 30), (24, 24), (40, 30))


@pytest.fixture
def pairs(tmp_path):
    """Five images of three sizes, each redder than the one before, a broken one, and their metadata."""
    rows = []
    for number, size in enumerate(SIZES):
        Image.new("RGB", size, (50 * number, 90, 120)).save(tmp_path / f"{number}.png")
        rows.append({"pair_id": f"p{number}", "file_name": f"{number}.png", "prompt": " ".join(WORDS[: number + 1])})
    (tmp_path / "broken.png").write_bytes(b"no image")
    rows.append({"pair_id": "broken", "file_name": "broken.png", "prompt": "a cat"})
    return write_jsonl(tmp_path / "metadata.jsonl", rows)


@pytest.fixture
def packages(monkeypatch):
    """The packages of `packages/` come first, and are forgotten in the end."""
    names = [path.name for path in PACKAGES.iterdir()]
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}
    monkeypatch.syspath_prepend(PACKAGES)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    sys.modules.update(real)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP of random weights that reads 20 tokens, with its processor."""
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    units = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({unit: place for place, unit in enumerate(units)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"bos_token_id": len(units) - 2, "eos_token_id": len(units) - 1, "pad_token_id": len(units) - 1}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(
            text_config={**sizes, **marks, "vocab_size": len(units), "max_position_embeddings": 20},
            vision_config={**sizes, "image_size": 16, "patch_size": 8},
            projection_dim=8,
        )
    ).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def rival(name, metadata, *flags):
    """Status and rows of `dyneval rival`."""
    output = metadata.with_name(f"{name}.jsonl")
    status = main(["rival", name, "--metadata", str(metadata), "--output", str(output), *map(str, flags)])
    return status, {row["pair_id"]: row for row in read_jsonl(output)}


def cosines(clip, rows, folder, longest):
    """Cosine of image and prompt, one pair at a time; the text cut to `longest` tokens that end in the mark."""
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(clip).eval(), AutoProcessor.from_pretrained(clip)
    found = {}
    with torch.no_grad():
        for row in rows:
            image = processor(images=[Image.open(folder / row["image"])], return_tensors="pt")
            ids = processor.tokenizer(row["prompt"]).input_ids
            ids = ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]]
            shown = model.get_image_features(**image).pooler_output
            said = model.get_text_features(input_ids=torch.tensor([ids])).pooler_output
            found[row["pair_id"]] = torch.cosine_similarity(shown, said).item()
        return found, model.logit_scale.exp().item()


def test_clipscore_and_pickscore_are_the_cosine_of_each_pair_whatever_the_batch(pairs, clip, caplog):
    status, rows = rival("clipscore", pairs, "--model", clip, "--batch-size", 2, "--device", "cpu")
    expected, scale = cosines(clip, rows.values(), pairs.parent, 20)
    assert status == 1 and set(rows) == {f"p{number}" for number in range(5)}, "the broken image is a reject"
    assert {key: row["score"] for key, row in rows.items()} == pytest.approx(
        {key: max(100 * value, 0) for key, value in expected.items()}, abs=1e-4
    )
    assert [key for key, row in rows.items() if row.get("truncated")] == ["p4"], "longer than 20 tokens"
    assert "1 prompts are longer than CLIPScore reads" in caplog.text
    (reject,) = read_jsonl(pairs.with_name("clipscore.rejects.jsonl"))
    assert (reject["pair_id"], reject["kind"]) == ("broken", "image")
    _, rows = rival("pickscore", pairs, "--model", clip, "--device", "cpu")
    assert {key: row["score"] for key, row in rows.items()} == pytest.approx(
        {key: scale * value for key, value in expected.items()}, abs=1e-4
    )


def test_the_published_pickscore_takes_its_processor_from_where_that_stands(pairs, clip, monkeypatch):
    monkeypatch.chdir(pairs.parent)
    weights, processor = Path("yuvalkirstain/PickScore_v1"), Path("laion/CLIP-ViT-H-14-laion2B-s32B-b79K")
    for place, names in {weights: ("config.json", "model.safetensors"), processor: None}.items():
        ignore = None if names is None else lambda _, here, names=names: [name for name in here if name not in names]
        shutil.copytree(clip, place, ignore=ignore)
    status, rows = rival("pickscore", pairs, "--device", "cpu")
    assert len(rows) == 5 and status == 1, "the broken image alone fails"


def test_clipscore_is_that_of_torchmetrics(pairs, clip):
    clip_score = pytest.importorskip("torchmetrics.multimodal.clip_score")
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(clip).eval(), AutoProcessor.from_pretrained(clip)
    for name in ("get_image_features", "get_text_features"):  # torchmetrics 1.9.0 wants what transformers 4 gave
        theirs = getattr(model, name)
        setattr(model, name, lambda *given, theirs=theirs: theirs(*given).pooler_output)
    metric = clip_score.CLIPScore(model_name_or_path=lambda: (model, processor))
    _, rows = rival("clipscore", pairs, "--model", clip, "--device", "cpu")
    for row in [row for row in rows.values() if not row.get("truncated")]:
        image = Image.open(pairs.parent / row["image"])
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(image.height, image.width, 3)
        assert metric(pixels.permute(2, 0, 1), row["prompt"]).item() == pytest.approx(row["score"], abs=1e-3)


def test_a_second_run_scores_only_what_has_changed(pairs, clip, capsys, caplog):
    rival("clipscore", pairs, "--model", clip)
    before = pairs.with_name("clipscore.jsonl").read_bytes()
    Image.new("RGB", (40, 30), (255, 255, 0)).save(pairs.parent / "2.png")
    _, rows = rival("clipscore", pairs, "--model", clip)
    assert "1 pairs scored, 4 were there before, 1 failed" in caplog.text
    lines = {json.loads(line)["pair_id"]: line for line in before.splitlines()}
    kept = pairs.with_name("clipscore.jsonl").read_bytes().splitlines()
    assert {key for key, line in lines.items() if line not in kept} == {"p2"}
    assert (
        main(["rival", "pickscore", "--metadata", str(pairs), "--output", str(pairs.with_name("clipscore.jsonl"))]) == 1
    )
    assert "holds scores of clipscore" in capsys.readouterr().err and len(rows) == 5


def reds(rows):
    return [round(rows[f"p{number}"]["score"], 3) for number in range(5)]


RED = [round(50 * number / 255, 3) for number in range(5)]
LENGTHS = [len(" ".join(WORDS[: number + 1])) for number in range(5)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip-iqa", RED),
        ("pyiqa", RED),
        ("vqascore", RED),
        ("imagereward", [round(red + number + 3, 3) for number, red in enumerate(RED)]),
        ("hpsv3", [float(torch.tensor(50 * n / 255 + LENGTHS[n], dtype=torch.bfloat16)) for n in range(5)]),
    ],
)
def test_each_package_is_called_as_it_is_published(packages, pairs, name, expected):
    status, rows = rival(name, pairs, "--device", "cpu", "--batch-size", 3)
    assert status == 1 and reds(rows) == pytest.approx(expected, abs=2e-3), "the broken image alone fails"
    assert all(row["rival"] == name and row["model"] == RIVALS[name].model for row in rows.values())


def test_a_metric_of_quality_needs_no_prompts_and_one_of_alignment_says_so(packages, tmp_path, capsys):
    rows = [{"t2i_model": "sd1dot1", "source_id": f"coco_{n}", "worker_id": "w", "answer": 1 + n} for n in range(3)]
    text = "".join(f"{','.join(map(str, row.values()))}\n" for row in [dict(zip(rows[0], rows[0], strict=True)), *rows])
    (tmp_path / "tifa160-likert-anns.csv").write_text(text)
    for number in range(3):
        name = f"coco_{number}_stable_diffusion_v1_1.jpg"
        Image.new("RGB", (40, 30), (50 * number, 90, 120)).save(tmp_path / name, quality=100)
    these = ["--benchmark", "dsg", "--annotations", str(tmp_path), "--images", str(tmp_path), "--device", "cpu"]
    assert main(["rival", "pyiqa", *these, "--output", str(tmp_path / "musiq.jsonl")]) == 0
    assert len(list(read_jsonl(tmp_path / "musiq.jsonl"))) == 3
    assert main(["rival", "vqascore", *these, "--output", str(tmp_path / "vqa.jsonl")]) == 1
    assert "3 images come without their prompt, which scoring needs" in capsys.readouterr().err


def test_hpsv2_loads_its_checkpoint_once(packages, pairs, monkeypatch):
    checkpoint = pairs.with_name("hps.pt")
    torch.save({"state_dict": {"weight": torch.tensor([0.5])}}, checkpoint)
    read = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *given, **options: read.append(given[0]) or load(*given, **options))
    _, rows = rival("hpsv2", pairs, "--device", "cpu", "--batch-size", 2, "--model", checkpoint)
    assert reds(rows) == pytest.approx([25 * n / 255 * LENGTHS[n] / 100 for n in range(5)], abs=1e-3)
    assert read == [str(checkpoint)]


def test_where_lower_is_better_the_sign_is_turned_and_other_kinds_of_metrics_are_refused(packages, pairs, capsys):
    _, rows = rival("pyiqa", pairs, "--model", "niqe", "--device", "cpu")
    assert reds(rows) == pytest.approx([-red for red in RED], abs=1e-3)
    assert rows["p4"]["raw"] == pytest.approx(-rows["p4"]["score"])
    for model in ("psnr", "fid", "nique"):
        pairs.with_name("pyiqa.jsonl").unlink(missing_ok=True)
        assert rival("pyiqa", pairs, "--model", model)[0] == 1
        said = capsys.readouterr().err
        assert f"--model {model}: no metric of pyiqa that rates single images" in said
    assert "did you mean niqe?" in said


def test_a_pair_that_a_package_fails_for_is_one_reject(packages, pairs):
    import pyiqa

    def picky(self, target):
        if (target[:, 0, 0, 0] * 255).round().eq(100).any():
            raise IndexError("an odd image")
        return target[:, :1, 0, 0]

    pyiqa._Metric.__call__ = picky
    status, rows = rival("pyiqa", pairs, "--device", "cpu")
    assert status == 1 and set(rows) == {"p0", "p1", "p3", "p4"}
    rejects = {row["pair_id"]: row for row in read_jsonl(pairs.with_name("pyiqa.rejects.jsonl"))}
    assert rejects["p2"]["reason"] == "IndexError: an odd image" and rejects["p2"]["kind"] == "failed"


def test_a_missing_package_is_one_line_with_the_command(pairs, capsys):
    assert main(["rival", "hpsv3", "--metadata", str(pairs), "--output", str(pairs.with_name("x.jsonl"))]) == 1
    assert "hpsv3 needs hpsv3, which is not installed: pip install 'dyneval[hpsv3]'\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["clipscore", "--base-url", "http://x/v1"], "--base-url: goes with chat judges"),
        (["clipscore", "--server-option", "top_k=1"], "--server-option: goes with chat judges"),
        (["chat", "--model", "m", "--device", "cpu"], "--device: goes with packages in this process, not with chat"),
        (["chat", "--base-url", "http://x/v1"], "chat needs --model, its name on the server"),
        (["clipscore", "--benchmark", "tifa"], "name either --metadata, or --benchmark"),
    ],
)
def test_flags_that_do_not_go_together_are_told(pairs, capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        main(["rival", *words, "--metadata", str(pairs), "--output", str(pairs.with_name("x.jsonl"))])
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_scores_of_dyneval_are_no_output_and_stay_as_they_are(pairs, clip, capsys):
    scores = write_jsonl(pairs.with_name("scores.jsonl"), [{"pair_id": "p0", "overall": 3.0}])
    rejects = write_jsonl(pairs.with_name("scores.rejects.jsonl"), [{"pair_id": "p1", "reason": "broken"}])
    before = scores.read_bytes(), rejects.read_bytes()
    assert main(["rival", "clipscore", "--metadata", str(pairs), "--output", str(scores), "--model", str(clip)]) == 1
    assert "is left as it is, name another --output" in capsys.readouterr().err
    assert (scores.read_bytes(), rejects.read_bytes()) == before


def test_the_list_names_package_licence_and_call(capsys):
    assert main(["rival", "--list"]) == 0
    said = capsys.readouterr().out
    for name, one in RIVALS.items():
        assert f"{name}: {one.title}, rates {one.rates}, {one.scale}" in said and one.licence in said
        assert f"pip install 'dyneval[{one.extra}]'" in said


class Judge(BaseHTTPRequestHandler):
    """Rates by the number of words of the prompt: for two words not at all, for three after a mistake."""

    asked: list

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        (image, text) = body["messages"][0]["content"]
        assert base64.b64decode(image["image_url"]["url"].partition("base64,")[2]).startswith(b"\x89PNG")
        is_axes = "Style Score" in text["text"]
        prompt = text["text"].rpartition("Text Caption: [")[2].rstrip("]")
        if not is_axes:
            prompt = text["text"].split("\n")[1]
        words, times = len(prompt.split()), len(body["messages"])
        self.asked.append(body)
        rating = min(words, 5)
        content = json.dumps({"reasoning": "so it is", "alignment": rating, "quality": 6 - rating})
        if is_axes:
            content = f"Alignment Score (1-5): {rating}\nCoherence Score (1-5): {6 - rating}.5\nStyle Score (1-5): 2\n"
            content = content.replace("5.5", "4.5")
        if words == 2 or (words == 3 and times == 1):
            content = "I like it."
        reply = {
            "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }  # fmt: skip
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *given):
        pass


@pytest.fixture
def judge():
    """Address of a server of chat completions, and what it was asked."""
    handler = type("Asked", (Judge,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", handler.asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["chat", "unifiedreward"])
def test_a_chat_judge_rates_what_it_answers_for_and_the_rest_are_rejects(pairs, judge, name):
    url, asked = judge
    status, rows = rival(name, pairs, "--base-url", url, "--model", "vlm")
    assert status == 1 and set(rows) == {"p0", "p2", "p3", "p4"}
    assert [rows[f"p{n}"]["t2ia"] for n in (0, 2, 3, 4)] == [1, 3, 4, 5]
    iqa = [5, 3, 2, 1] if name == "chat" else [4.5, 3.5, 2.5, 1.5]
    assert [rows[f"p{n}"]["iqa"] for n in (0, 2, 3, 4)] == iqa
    score = 3 if name == "chat" else pytest.approx((1 + 4.5 + 2) / 3)
    assert rows["p0"]["score"] == score
    rejects = {row["pair_id"]: row["kind"] for row in read_jsonl(pairs.with_name(f"{name}.rejects.jsonl"))}
    assert rejects == {"p1": "reply", "broken": "image"}
    assert asked[0]["model"] == "vlm" and asked[0]["temperature"] == 0
    known = len(asked)
    rival(name, pairs, "--base-url", url, "--model", "vlm")
    assert len(asked) == known + 3, "only the pair without a rating is asked about again, as often as before"


@pytest.mark.parametrize("rating", ["X", "n/a", "four", "(none)", "-3", "9"])
def test_a_line_without_a_rating_from_1_to_5_is_none(rating):
    lines = "Alignment Score (1-5): {}\nCoherence Score: 3.5/5\n**Style Score (1-5):** **2**"
    assert read_axes(lines.format(4)).t2ia == 4
    with pytest.raises(UnusableReply):
        read_axes(lines.format(rating))


def test_an_instruction_of_ones_own_takes_the_place_of_ours(pairs, judge, capsys):
    url, asked = judge
    mine = pairs.with_name("mine.txt")
    mine.write_text("Style Score and the others, please. Text Caption: [{prompt}]")
    rival("unifiedreward", pairs, "--base-url", url, "--instruction", mine)
    assert asked[0]["messages"][0]["content"][1]["text"].startswith("Style Score and the others, please.")
    mine.write_text("Rate it.")
    pairs.with_name("unifiedreward.jsonl").unlink()
    assert main(["rival", "unifiedreward", "--metadata", str(pairs), "--output", "x", "--instruction", str(mine)]) == 1
    assert "says nowhere {prompt}" in capsys.readouterr().err


def test_one_table_shows_dyneval_beside_its_rivals(packages, tmp_path, capsys):
    annotations = {}
    (tmp_path / "images").mkdir()
    scores = []
    for number in range(12):
        key = f"coco_{number // 2}_model_{number % 2}"
        Image.new("RGB", (40, 30), (20 * number, 90, 120)).save(tmp_path / "images" / f"{key}.jpg", quality=100)
        human = {"human_scores": [1 + number % 5, 1 + number // 3 % 5]}
        text = f"a photo of {number // 2} dogs"
        annotations[key] = {"text_id": f"coco_{number // 2}", "image_path": f"{key}.jpg", "text": text, **human}
        scores.append({"pair_id": key, "score": 1 + number % 5})
    (tmp_path / "human_annotations.json").write_text(json.dumps(annotations))
    write_jsonl(tmp_path / "dyneval.jsonl", scores)
    these = ["--benchmark", "tifa", "--annotations", str(tmp_path / "human_annotations.json")]
    these += ["--images", str(tmp_path / "images")]
    for name in ("clip-iqa", "imagereward"):
        assert main(["rival", name, *these, "--output", str(tmp_path / f"{name}.jsonl"), "--device", "cpu"]) == 0
    capsys.readouterr()
    tables = ["--scores", f"DynEval={tmp_path / 'dyneval.jsonl'}", "--compare"]
    tables += [f"{RIVALS[name].title}={tmp_path / name}.jsonl" for name in ("clip-iqa", "imagereward")]
    assert main(["benchmark", *these, *tables, "--resamples", "50", "--no-report"]) == 0
    said = capsys.readouterr().out
    agreement, _, differences = said.partition("Differences")
    assert all(name in agreement for name in ("DynEval ", "CLIP-IQA", "ImageReward"))
    assert "DynEval − CLIP-IQA" in differences and "DynEval − ImageReward" in differences


def test_a_local_model_whose_weights_change_scores_anew(pairs, clip, tmp_path, caplog):
    """A folder keeps its name when a model is trained on; its old scores would be compared as the new ones."""
    from safetensors.torch import load_file, save_file

    model = shutil.copytree(clip, tmp_path / "model")
    caplog.set_level("INFO")
    _, first = rival("clipscore", pairs, "--model", model, "--device", "cpu")
    (model / ".cache").mkdir()
    (model / ".cache" / "download.lock").write_text("no part of the model")
    rival("clipscore", pairs, "--model", model, "--device", "cpu")
    assert "0 pairs scored, 5 were there before" in caplog.text
    weights = load_file(model / "model.safetensors")
    save_file({name: -one if "text_projection" in name else one for name, one in weights.items()},
              model / "model.safetensors", {"format": "pt"})  # fmt: skip
    _, second = rival("clipscore", pairs, "--model", model, "--device", "cpu")
    assert "5 pairs scored, 0 were there before" in caplog.text.rpartition("0 pairs scored")[2]
    assert any(first[key]["score"] != second[key]["score"] for key in second)
    assert {row["settings"]["weights"] for row in first.values()}.isdisjoint(
        row["settings"]["weights"] for row in second.values()
    )
