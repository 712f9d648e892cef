"""What is written here opens in the releases that people run, and what those write opens here, with equal logits."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from PIL import Image

from dyneval.checkpoints import write_for_every_reader
from dyneval.errors import DataFileError
from dyneval.processing import Processor, Turn
from dyneval.tokens import TASK_TOKEN_IDS, evaluation_turn, t2ia_turn
from tests import processes

from .qwenvl.conftest import make_instruct_data
from .qwenvl.test_training import TRAIN, arguments, run, user_environment

READER = Path(__file__).with_name("checkpoint_reader.py")
PUBLISHED = "transformers-4.57.6-torchvision"
# The release that made the published checkpoints, our oldest, the newest that vLLM runs with, and ours. The class of a
# slow tokenizer, which 4.57 reads from files of its own; transformers 5 has one kind only.
READERS = {
    PUBLISHED: ("4.57.6", "Qwen2Tokenizer", "Qwen2TokenizerFast"),
    "transformers-5.4.0": ("5.4.0", "Qwen2Tokenizer", "Qwen2Tokenizer"),
    "transformers-5.20.0-torchvision": ("5.20.0", "Qwen2Tokenizer", "Qwen2Tokenizer"),
    "torchvision": (version("transformers"), "Qwen2Tokenizer", "Qwen2Tokenizer"),
}
TEXT = "".join(TASK_TOKEN_IDS) + "\n<|im_start|>user\n a cafe\u0301, 猫 👩‍🎨 <think><|im_end|>"
QUESTION = "<|IQA|>\nDescribe."
# Kernels of one torch: only the order of a few operations differs between releases.
TOLERANCE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def trained(tiny_checkpoint, tmp_path_factory):
    """Output folder of a run of Step 4 with one step and its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    environment = user_environment(make_instruct_data(folder / "data", 4), tiny_checkpoint, folder)
    flags = ["--max_steps", 1, "--save_steps", 1, "--min_pixels", 784, "--max_pixels", 50_176]
    run([sys.executable, *TRAIN, *arguments(tiny_checkpoint, folder / "run", *flags)], environment)
    return folder / "run"


@pytest.fixture(scope="module")
def inputs(trained, tmp_path_factory):
    """What readers are given: a conversation with an image and one without, as our processor encodes them."""
    folder = tmp_path_factory.mktemp("inputs")
    image = Image.linear_gradient("L").convert("RGB").resize((300, 200))
    image.save(folder / "image.png")
    processor = Processor.from_pretrained(trained)
    spoken = [Turn("user", t2ia_turn("a café")), Turn("assistant", '[{"question": "Is there a café?"}]')]
    seen = [Turn("user", evaluation_turn("a café", ["Is there one?"]), 1), Turn("assistant", '{"answers": []}')]
    conversations = {
        "text": processor.encode(spoken, []).model_inputs(),
        "image": processor.encode(seen, [image]).model_inputs(),
    }
    given = {"conversations": conversations, "text": TEXT, "question": QUESTION, "image": str(folder / "image.png")}
    torch.save(given, folder / "inputs.pt")
    return folder / "inputs.pt"


def call(python, *command):
    done = processes.run([str(python), "-P", str(READER), *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def expected(trained, inputs):
    """Logits by conversation of the model that was trained, with our transformers."""
    from transformers import Qwen3VLForConditionalGeneration

    model = Qwen3VLForConditionalGeneration.from_pretrained(trained).eval()
    with torch.no_grad():
        return {name: model(**one).logits for name, one in torch.load(inputs)["conversations"].items()}


@pytest.mark.parametrize("reader", READERS)
def test_what_step_4_writes_opens_in(reader, environment, trained, inputs, expected, tmp_path):
    call(environment(reader), "read", trained, inputs, tmp_path / "report.pt")
    report = torch.load(tmp_path / "report.pt")
    assert (report["version"], report["slow"]["class"], report["fast"]["class"]) == READERS[reader]
    assert report["problems"] == {} and report["ends"] == [151_645, 151_643]
    for name, logits in expected.items():
        assert torch.allclose(report["logits"][name], logits, **TOLERANCE), name
    ours = Processor.from_pretrained(trained)
    ids = ours.tokenizer(TEXT)["input_ids"]
    assert ids[:3] == list(TASK_TOKEN_IDS.values())
    for kind in ("fast", "slow"):
        assert report[kind]["ids"] == ids, kind
        assert report[kind]["plain"] == ours.decode(ids)
        assert report[kind]["special"] == [*range(151_643, 151_657), *TASK_TOKEN_IDS.values()]
        assert report[kind]["marks"] == ("<|im_end|>", "<|endoftext|>", 262_144, "right")
    if reader != "transformers-5.4.0":  # without torchvision, transformers has no processor
        image = Image.open(torch.load(inputs)["image"])
        encoded = ours.encode([Turn("user", f"<image>\n{QUESTION}", 1)], [image], add_generation_prompt=True)
        assert report["processor"] == {"ids": encoded.input_ids, "grid": encoded.image_grid_thw.tolist()}


def test_checkpoints_on_the_way_are_as_the_last_one(trained):
    names = {"config.json", "vocab.json", "merges.txt", "added_tokens.json", "chat_template.jinja"}
    names |= {"generation_config.json", "preprocessor_config.json", "video_preprocessor_config.json"}
    names |= {"tokenizer.json", "tokenizer_config.json"}
    for name in names:
        assert (trained / name).read_bytes() == (trained / "checkpoint-1" / name).read_bytes(), name


def test_what_the_published_code_writes_opens_here(environment, tiny_checkpoint, inputs, tmp_path):
    from dyneval.scorer.loading import load_student

    folder = tmp_path / "published"
    call(environment(PUBLISHED), "publish", tiny_checkpoint, inputs, folder)
    assert not (folder / "tokenizer.json").exists() and (folder / "vocab.json").is_file()
    assert "rope_parameters" not in json.loads((folder / "config.json").read_text())["text_config"]
    report = torch.load(folder / "report.pt")
    model, processor = load_student(folder, device="cpu", dtype="float32")
    with torch.no_grad():
        for name, one in torch.load(inputs)["conversations"].items():
            assert torch.allclose(model(**one).logits, report["logits"][name], **TOLERANCE), name
    assert processor.tokenizer(TEXT)["input_ids"] == report["ids"]
    assert report["ids"][:3] == list(TASK_TOKEN_IDS.values())
    assert processor.max_pixels == 50_176

    processor.save_pretrained(tmp_path / "again")
    assert Processor.from_pretrained(tmp_path / "again").tokenizer(TEXT)["input_ids"] == report["ids"]


LOWER_BOUND = """
import json, sys, transformers
from dyneval import Scorer
from dyneval.scorer.settings import ReplyLimits, ScorerSettings
settings = ScorerSettings(limits=ReplyLimits().capped(2, 8))
scorer = Scorer.from_pretrained(sys.argv[1], device="cpu", settings=settings)
(record,) = scorer.score([sys.argv[2]], ["a dot"])
print(json.dumps([transformers.__version__, record.to_dict()]))
"""


def test_a_pair_is_scored_alike_by_the_oldest_and_the_newest_transformers(environment, student, inputs):
    image = torch.load(inputs)["image"]
    found = []
    for python in (environment("transformers-5.4.0"), sys.executable, environment("transformers-5.24.0")):
        command = [str(python), "-c", LOWER_BOUND, str(student), image]
        done = processes.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "is deprecated" not in done.stderr and "are deprecated" not in done.stderr
        version, row = json.loads(done.stdout.splitlines()[-1])
        found.append((version, {key: value for key, value in row.items() if key != "seconds"}))
    (oldest, one), (_, ours), (newest, other) = found
    assert (oldest, newest) == ("5.4.0", "5.24.0")
    assert one == ours == other


def test_a_second_completion_changes_nothing(student, tmp_path):
    for path in student.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    write_for_every_reader(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (student / path.name).read_bytes(), path.name


def test_a_damaged_file_is_named(student, tmp_path):
    (tmp_path / "config.json").write_text('{"text_config": ')
    with pytest.raises(DataFileError, match=f"{tmp_path / 'config.json'}: is not JSON"):
        write_for_every_reader(tmp_path)
