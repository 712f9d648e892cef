"""Every adapter, called as its trainer's code calls it: names, types, shapes and keywords are those of the trainers."""

import asyncio
import inspect
import math
import re
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dyneval import rewards
from dyneval.errors import CheckpointError, SettingError
from dyneval.loaded_pairs import PromptError
from dyneval.rewards import Reward, dance_grpo, ddpo, evalscope, flow_factory, flow_grpo, multi_score, verl_omni
from dyneval.rewards.judges import find_judge
from dyneval.rewards.pyiqa import PyiqaMetric
from dyneval.rewards.t2v_metrics import Score
from dyneval.scorer import ScoringError

from .conftest import PROMPTS


@pytest.fixture(scope="module")
def tensor(eight):
    """As a pipeline with output_type="pt" gives them: (8, 3, 48, 64) of 0-1."""
    return torch.from_numpy(eight).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def expected(scorer, eight):
    return [(one.soft["overall"] - 1) / 4 for one in scorer.score(eight, PROMPTS)]


@pytest.fixture
def named(scorer, monkeypatch):
    """The student as a trainer's YAML names it; loading is not what is tested here, so it is loaded already."""
    monkeypatch.setitem(rewards.judges._found, ("tiny", None), rewards.judges.SharedJudge(scorer))
    monkeypatch.setitem(rewards.judges._found, ("tiny", "cpu"), rewards.judges.SharedJudge(scorer))
    return "tiny"


def near(expected):
    return pytest.approx(expected, abs=1e-3)  # batches of another make-up round otherwise


def test_ddpo_pytorch(scorer, eight, tensor, expected):
    reward_fn = ddpo(scorer)  # train.py: getattr(ddpo_pytorch.rewards, config.reward_fn)()
    with ThreadPoolExecutor(max_workers=2) as executor:
        futures = [executor.submit(reward_fn, images, PROMPTS, [{}] * 8) for images in (tensor, eight)]
        for future in futures:
            found, metadata = future.result()
            assert torch.as_tensor(found, device="cpu").tolist() == near(expected)
            assert found.dtype == np.float32 and metadata == {}


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_flow_grpo_and_diffusion_nft(scorer, tensor, expected, kind):
    # flow_grpo/rewards.py, multi_score: a factory gets the device if it has a variable of that name.
    assert "device" in flow_grpo.__code__.co_varnames
    score_fn = flow_grpo(torch.device("cpu"), scorer)
    images = tensor.to(kind)
    with ThreadPoolExecutor(max_workers=8) as executor:
        scores, info = executor.submit(score_fn, images, tuple(PROMPTS), [{}] * 8).result()
    assert info == {} and len(scores) == 8
    total = [0.5 * score for score in scores]
    total = [one + other for one, other in zip(total, [0.5 * score for score in scores], strict=True)]
    found = torch.as_tensor(total, device="cpu").float()
    assert found.tolist() == pytest.approx(expected, abs=1e-3 if kind is torch.float32 else 0.1)


def test_multi_score_in_place_of_theirs(scorer, tensor, expected):
    # train_sd3.py: reward_fn = getattr(flow_grpo.rewards, "multi_score")(accelerator.device, config.reward_fn)
    reward_fn = multi_score(torch.device("cpu"), {"t2ia": 0.75, "iqa": 0.25, "overall whole": 0.0}, scorer)
    with ThreadPoolExecutor(max_workers=8) as executor:
        found, metadata = executor.submit(reward_fn, tensor, PROMPTS, [{}] * 8, only_strict=False).result()
    assert list(found) == ["t2ia", "iqa", "overall whole", "avg"] and metadata == {}
    gathered = {key: torch.as_tensor(value, device="cpu") for key, value in found.items()}
    assert all(one.dtype == torch.float32 and one.shape == (8,) for one in gathered.values())
    assert gathered["avg"].tolist() == pytest.approx((0.75 * gathered["t2ia"] + 0.25 * gathered["iqa"]).tolist())
    assert ((gathered["t2ia"] + gathered["iqa"]) / 2).tolist() == near(expected)
    assert reward_fn(tensor[:1], PROMPTS[:1], [{}], only_strict=True)[0]["avg"].shape == (1,)
    with pytest.raises(SettingError, match="'pickscore' is no word of a reward"):
        multi_score("cpu", {"pickscore": 1.0}, scorer)
    with pytest.raises(SettingError, match="at least one reward"):
        multi_score("cpu", {}, scorer)


def test_dance_grpo(scorer, eight, expected):
    reward_model = dance_grpo(torch.device("cpu"), scorer)
    found = [reward_model(Image.fromarray(one), prompt) for one, prompt in zip(eight, PROMPTS, strict=True)]
    assert all(one.shape == (1,) and one.dtype == torch.float32 for one in found)
    assert torch.cat(found, dim=0).tolist() == near(expected)


def test_verl_omni(named, eight, expected):
    assert inspect.iscoroutinefunction(verl_omni.compute_score)

    async def one(image, prompt, **more):
        return await verl_omni.compute_score(
            data_source="ocr",
            solution_image=torch.from_numpy(image).permute(2, 0, 1),
            ground_truth=prompt,
            extra_info={"num_turns": 1, "rollout_reward_scores": {}},
            judge=named,
            reward_router_address="127.0.0.1:1",
            model_name="none",
            **more,
        )

    async def batch():
        return await asyncio.gather(*(one(*each) for each in zip(eight, PROMPTS, strict=True)))

    for _ in range(2):  # every worker has a loop of its own
        found = asyncio.run(batch())
        assert [one["score"] for one in found] == near(expected)
        assert set(found[0]) == {"score", "t2ia", "iqa", "overall"}
        assert all(type(value) is float for one in found for value in one.values())
    whole = asyncio.run(one(eight[0], PROMPTS[0], score="t2ia whole 1-5"))
    assert whole["score"] == whole["t2ia"] >= 1


def test_verl_omni_finds_the_prompt_or_says_that_there_is_none(named, eight):
    image = torch.from_numpy(eight[0]).permute(2, 0, 1)
    chat = [{"role": "system", "content": "draw"}, {"role": "user", "content": PROMPTS[0]}]
    found = [
        asyncio.run(verl_omni.compute_score(solution_image=image, ground_truth=text, extra_info=more, judge=named))
        for text, more in ((PROMPTS[0], None), ("", {"prompt": PROMPTS[0]}), (None, {"raw_prompt": chat}))
    ]
    assert found[0] == found[1] == found[2]
    with pytest.raises(PromptError, match="expected the prompt"):
        asyncio.run(verl_omni.compute_score(solution_image=image, ground_truth="", extra_info={}, judge=named))
    with pytest.raises(ScoringError, match="expected \\(3, H, W\\)"):
        video = torch.stack([image, image])
        asyncio.run(verl_omni.compute_score(solution_image=video, ground_truth="a", extra_info={}, judge=named))


def test_flow_factory(named, eight, expected):
    config = SimpleNamespace(device=torch.device("cpu"), dtype=torch.bfloat16, batch_size=16)
    config.extra_kwargs = {"judge": named, "score": "overall"}
    accelerator = SimpleNamespace(device=torch.device("cpu"))
    images = [Image.fromarray(one) for one in eight]
    nothing = {"video": None, "audio": None, "condition_images": None, "condition_videos": None}

    point = flow_factory.DynEval(config, accelerator)
    assert set(point.required_fields) == {"prompt", "image"} and point.use_tensor_inputs is False
    output = point(prompt=PROMPTS, image=images, **nothing)
    assert torch.as_tensor(output.rewards).shape == (8,) and output.rewards.tolist() == near(expected)
    point.to(torch.device("cpu"))
    with pytest.raises(ValueError, match="no videos"):
        point(prompt=PROMPTS, image=None, video=[images], audio=None)

    group = flow_factory.DynEvalGroup(config, accelerator)
    output = group(prompt=["the night"] * 8, image=images, metadata="{}", **nothing)
    assert output.rewards.dtype == np.float32 and output.rewards.mean() == pytest.approx(0.5)
    order = Reward(named)(images, ["the night"] * 8)
    whole = Reward(named, "whole")(images, ["the night"] * 8)
    best = max(range(8), key=lambda number: (whole[number], order[number]))
    assert output.rewards[best] == output.rewards.max()


def test_evalscope(named, eight, tmp_path):
    paths = []
    for number, one in enumerate(eight[:2]):
        Image.fromarray(one).save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    metric = evalscope.EvalscopeMetric(model=named, score="overall 1-5")
    found = [metric(path, prompt)[0] for path, prompt in zip(paths, PROMPTS, strict=False)]  # text2image_adapter.py
    assert [one["overall"] for one in found] == near(Reward(named, "overall 1-5")(paths, PROMPTS[:2]))
    assert all(set(one) == {"overall", "t2ia", "iqa"} and min(one.values()) >= 1 for one in found)


def test_t2v_metrics(named, eight, tmp_path):
    paths = []
    for number, one in enumerate(eight[:3]):
        Image.fromarray(one).save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    score = Score(model=named, device="cpu", cache_dir="unused")
    table = score(images=paths, texts=PROMPTS[:2])
    assert table.shape == (3, 2) and table.dtype == torch.float32 and table.device.type == "cpu"
    assert table[2, 1].item() == near(Reward(named)(paths[2:], PROMPTS[1:2])[0])
    assert score(images=paths[0], texts=PROMPTS[0]).shape == (1, 1)
    dataset = [{"images": paths[:2], "texts": [text]} for text in PROMPTS[:3]]
    assert score.batch_forward(dataset=dataset, batch_size=2).shape == (3, 2, 1)
    assert "dyneval-4b" in score.list_all_models()


def test_pyiqa(named, eight, tensor, tmp_path):
    metric = PyiqaMetric(named)
    assert (metric.metric_mode, metric.lower_better, metric.score_range) == ("NR", False, "1, 5")
    found = metric(tensor.bfloat16(), caption_list=PROMPTS)
    assert found.shape == (8, 1) and found.dtype == torch.float32
    Image.fromarray(eight[0]).save(tmp_path / "a.png")
    for one in (str(tmp_path / "a.png"), Image.fromarray(eight[0])):
        assert metric(one, None, caption_list=PROMPTS[:1]).shape == (1, 1)
    with pytest.raises(ValueError, match="caption_list: expected the prompt"):
        metric(tensor)
    with pytest.raises(ValueError, match="ref"):
        metric(tensor, tensor, caption_list=PROMPTS)


def test_eight_threads_at_once_get_what_one_gets(scorer, tensor, expected):
    reward = flow_grpo("cpu", scorer)
    with ThreadPoolExecutor(8) as pool:
        singles = list(pool.map(lambda number: reward(tensor[number, None], [PROMPTS[number]], [{}]), range(8)))
        together = list(pool.map(lambda _: reward(tensor[:2], PROMPTS[:2], [{}] * 2)[0], range(8)))
    assert [one[0].item() for one, _ in singles] == near(expected)
    for found in together:
        assert found.tolist() == near(expected[:2])


def test_rewards_of_one_scorer_share_its_turns(scorer):
    assert find_judge(scorer) is find_judge(scorer)
    assert find_judge(find_judge(scorer)) is find_judge(scorer)


def test_a_path_is_a_folder_also_where_it_is_called_like_a_student(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / "demo"))):
        Reward(Path("demo"))


class Broken:
    """A judge that breaks down after a while."""

    def score_pairs(self, pairs):
        raise RuntimeError(f"the student broke at {len(list(pairs))} pairs")


def test_a_judge_that_breaks_is_told_in_every_thread(tensor):
    reward = Reward(Broken())
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(reward, tensor[:1], ["a"]) for _ in range(8)]
        for future in futures:
            with pytest.raises(RuntimeError, match="the student broke"):
                future.result(timeout=60)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda images: images * math.nan, "NaN"),
        (lambda images: images * 2 - 1, "values from -"),
        (lambda images: images * 255, "expected 0 to 1"),
        (lambda images: images[:, :1].expand(-1, 4, -1, -1), "expected \\(3, H, W\\)"),
    ],
)
def test_what_is_no_picture_becomes_no_reward(scorer, tensor, spoil, found):
    images = spoil(tensor[:2].bfloat16())
    for call in (flow_grpo("cpu", scorer), multi_score("cpu", {"overall": 1.0}, scorer), ddpo(scorer)):
        with pytest.raises(ScoringError, match=found):
            call(images, PROMPTS[:2], [{}, {}])


def test_a_reward_says_what_it_is_in_words(scorer, eight):
    record = scorer.score(eight[:1], PROMPTS[:1])[0]
    for words, value in {
        "iqa": (record.soft["iqa"] - 1) / 4,
        "t2ia=3, iqa whole": ((3 * record.t2ia + record.iqa) / 4 - 1) / 4,
        "overall 1-5": record.soft["overall"],
        "whole normalised": (record.overall - 1) / 4,
    }.items():
        assert Reward(scorer, words)(eight[:1], PROMPTS[:1]) == near([value])
    for words, wrong in {
        "tia": "did you mean t2ia",
        "t2ia t2ia": "again",
        "soft whole": "again",
        "t2ia=-1": "at least 0",
        "t2ia=x": "at least 0",
        "t2ia=nan": "at least 0",
        "iqa=0": "all weights are 0",
    }.items():
        with pytest.raises(SettingError, match=wrong):
            Reward(scorer, words)


def test_judge_and_words_may_stand_in_the_environment(student, eight, monkeypatch):
    monkeypatch.setenv("DYNEVAL_JUDGE", str(student))
    monkeypatch.setenv("DYNEVAL_REWARD", "t2ia whole 1-5")
    with ThreadPoolExecutor(8) as pool:
        functions = list(pool.map(lambda _: flow_grpo("cpu"), range(8)))
    assert len({id(one.__closure__[0].cell_contents._judge) for one in functions}) == 1
    assert functions[0].__closure__[0].cell_contents.form.weights == {"t2ia": 1.0}


def test_each_question_has_a_reward_of_its_own(scorer, eight):
    reward = Reward(scorer)
    found = reward.of_questions(eight[:2], PROMPTS[:2])
    for record, questions in zip(reward.records(eight[:2], PROMPTS[:2]), found, strict=True):
        asked = [*record.t2ia_questions, *record.iqa_questions]
        assert [one.question for one in questions] == [one.question for one in asked]
        assert [one.reward for one in questions] == near([(one.soft_score - 1) / 4 for one in asked])
        assert [one.part for one in questions] == ["t2ia"] * 2 + ["iqa"] * (len(asked) - 2)
    whole = Reward(scorer, "whole 1-5").of_questions(eight[:1], PROMPTS[:1])[0]
    assert all(one.reward in {1, 2, 3, 4, 5} for one in whole)


class Given:
    """A judge that says what it was told to, as another program's may: (whole, soft) overall scores in order."""

    def __init__(self, scorer, scores):
        self.scorer, self.scores = scorer, scores

    def score_pairs(self, pairs):
        import msgspec

        for record, (whole, soft) in zip(self.scorer.score_pairs(pairs), self.scores, strict=True):
            both = {"t2ia": soft, "iqa": soft, "overall": soft}
            yield msgspec.structs.replace(record, t2ia=whole, iqa=whole, overall=whole, soft=both)


def test_soft_scores_break_the_ties_of_a_group(scorer, eight):
    scores = [(3, 2.9), (4, 4.1), (3, 3.2), (4, 4.1), (5, 3.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    prompts = ["a"] * 5 + ["b"] * 2 + ["c"]
    found = Reward(Given(scorer, scores)).in_group(eight, prompts)
    # Of "a": whole scores decide first (5 beats 4 although its soft score is lower), 2.9 and 3.2 part two threes, and
    # what ties in both beats each other half.
    assert found.tolist() == pytest.approx([0, 2.5 / 4, 1 / 4, 2.5 / 4, 1, 0, 1, 0.5])
    assert found.dtype == np.float32
    alone = Reward(Given(scorer, scores)).in_group(eight, prompts, range(8))
    assert alone.tolist() == [0.5] * 8
    with pytest.raises(ValueError, match="groups: 2, prompts: 8"):
        Reward(Given(scorer, scores)).in_group(eight, prompts, [1, 2])


def test_the_recipes_name_what_there_is():
    pages = sorted((Path(__file__).parents[2] / "docs" / "rewards").glob("*.md"))
    assert len(pages) >= 11
    for page in pages:
        text = page.read_text()
        for module, names in re.findall(r"^from (dyneval[\w.]*) import ([\w, ]+)", text, re.M):
            for name in names.split(", "):
                assert hasattr(import_module(module), name.split(" as ")[0]), page
        for module, name in re.findall(r"`?\"?(?:pkg://)?(dyneval\.rewards\.\w+)\.?([A-Z]\w+|compute_score)?", text):
            found = import_module(module.rpartition(".")[0])
            assert hasattr(found, module.rpartition(".")[2]) or import_module(module), page
            assert not name or hasattr(import_module(module), name), page
        for link in re.findall(r"\]\(([\w-]+\.md)\)", text):
            assert (page.parent / link).is_file(), link
