"""The weighted statistics against the long way: scipy, brute force over pairs, written-out resamples."""

import itertools
import json
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dyneval.cli import main
from dyneval.errors import SettingError
from dyneval.evaluation.bootstrap import (
    ONE_PROMPT,
    ClusterBootstrap,
    Estimate,
    drawn_counts,
    mean_resamples,
    weighted_pearson,
    weighted_ranks,
)
from dyneval.evaluation.calibration import calibrate
from dyneval.evaluation.correlation import agreement, category_agreement, human_ceiling, spearman, system_agreement
from dyneval.evaluation.pairwise import pair_statistics
from dyneval.evaluation.significance import srcc_difference, williams
from dyneval.files.jsonl import read_jsonl

from .scored_data import score_record, write_jsonl

few_levels = st.integers(0, 6).map(lambda n: n / 2)
fine = st.integers(-320, 320).map(lambda n: n / 64)


@st.composite
def rated(draw):
    """Scores, ratings (with many ties) and prompts of 4 to 24 images."""
    size = draw(st.integers(4, 24))
    scores = draw(st.lists(few_levels | fine, min_size=size, max_size=size))
    ratings = draw(st.lists(few_levels, min_size=size, max_size=size))
    prompts = draw(st.lists(st.sampled_from("abcdef"), min_size=size, max_size=size))
    return np.array(scores), np.array(ratings), prompts


def same(left, right):
    return (math.isnan(left) and math.isnan(right)) or left == pytest.approx(right, abs=1e-9)


@given(rated())
@settings(max_examples=60)
def test_weighted_ranks_and_correlation_equal_those_of_the_resample_written_out(data):
    scores, ratings, prompts = data
    bootstrap = ClusterBootstrap(prompts, resamples=5, seed=1)
    weights = bootstrap.over_items(lambda weights: weights)
    ranks = weighted_ranks(weights, scores)
    pearson = weighted_pearson(weights, scores, ratings)
    for row, counts in enumerate(weights.astype(int)):
        drawn = np.repeat(scores, counts)
        assert np.repeat(ranks[row], counts) == pytest.approx(scipy.stats.rankdata(drawn))
        if np.ptp(drawn) > 1e-3 and np.ptp(np.repeat(ratings, counts)) > 0:
            assert pearson[row] == pytest.approx(np.corrcoef(drawn, np.repeat(ratings, counts))[0, 1], abs=1e-6)


@pytest.mark.parametrize("size", [1, 1e6])
def test_a_constant_side_has_no_correlation_and_small_values_have_the_same(size):
    """The mean of three times 0.1 is a little more than 0.1: the spread of a constant side need not be 0."""
    ones, rising = np.ones((1, 3)), np.array([0, 1, 3]) * size
    assert np.isnan(weighted_pearson(ones, np.full(3, 0.1) * size, rising))
    assert np.isnan(weighted_pearson(np.ones((1, 3_000)), np.full(3_000, 0.1), np.tile(rising, 1_000)))
    assert np.isnan(weighted_pearson(ones, rising, np.full(3, 0.1)))
    other = np.array([1.0, 3.0, 2.0])
    expected = pytest.approx(np.corrcoef(rising, other)[0, 1])
    assert [weighted_pearson(ones, rising * unit, other * unit)[0] for unit in (1, 1e-14)] == [expected] * 2


def test_a_perfect_correlation_is_one_in_spite_of_rounding():
    values = np.random.default_rng(0).normal(size=(20, 9)).round(1)
    for sign in (1, -1):
        found = [weighted_pearson(np.ones((1, 9)), row, 3 * sign * row)[0] for row in values]
        assert found == pytest.approx([sign] * 20) and max(map(abs, found)) <= 1


def test_resamples_do_not_depend_on_the_blocks_that_they_are_drawn_and_weighed_in():
    whole, blocks = list(drawn_counts(3, 5, seed=1)), list(drawn_counts(3, 5, seed=1, items=2_000_000))
    assert [len(block) for block in whole] == [1, 5] and [len(block) for block in blocks] == [1, 2, 2, 1]
    assert np.array_equal(np.vstack(whole), np.vstack(blocks))
    bootstrap = ClusterBootstrap(np.arange(1_500_000) % 3, resamples=3)
    found = bootstrap.over_items(lambda weights: weights.sum(axis=1))
    assert found.tolist() == [1_500_000] * 4


def test_means_of_resamples_are_those_of_the_clusters_drawn():
    values = np.array([1.0, 5.0, 6.0])
    expected = [np.repeat(values, counts).mean() for block in drawn_counts(3, 4, seed=7) for counts in block]
    assert mean_resamples(values, 4, seed=7) == pytest.approx(expected) and expected[0] == 4
    assert mean_resamples(values[:0], 4, seed=7) == pytest.approx([math.nan] * 5, nan_ok=True)


def test_an_interval_holds_the_middle_95_percent_of_the_resamples_that_are_defined():
    drawn = np.append(np.arange(1001.0), math.nan)
    assert Estimate.from_resamples(np.append(7.0, drawn), 2) == Estimate(7.0, pytest.approx(25), pytest.approx(975))
    assert Estimate.from_resamples(np.append(math.nan, drawn), 2).to_dict() == {"reason": "not defined on these data"}
    assert Estimate.from_resamples(np.array([7.0, math.nan]), 2) == Estimate(7.0)
    assert Estimate.from_resamples(np.array([7.0, 7.0]), 1) == Estimate(7.0, reason=ONE_PROMPT)
    assert Estimate.from_resamples(np.array([7.0]), 1) == Estimate(7.0), "nobody asked for an interval"


@pytest.mark.parametrize(("clusters", "resamples"), [([], 5), (["a"], -1)])
def test_a_bootstrap_of_nothing_is_refused(clusters, resamples):
    said = f"^a bootstrap needs items and resamples >= 0, got {len(clusters)} and {resamples}$"
    with pytest.raises(SettingError, match=said):
        ClusterBootstrap(clusters, resamples)


def slack(scores):
    """Thresholds are rounded to hundred-thousandths of the range; the scores drawn here are further apart."""
    return 1e-5 * np.ptp(scores) + 1e-9


def brute_accuracy(scores, ratings, threshold):
    right = 0
    for i, j in itertools.combinations(range(len(scores)), 2):
        apart, human = scores[i] - scores[j], ratings[i] - ratings[j]
        equal = abs(apart) <= threshold
        right += equal if human == 0 else (not equal and apart * human > 0)
    return right / math.comb(len(scores), 2)


@given(rated())
@settings(max_examples=60)
def test_pair_statistics_equal_scipy_and_the_best_threshold_of_brute_force(data):
    scores, ratings, _ = data
    alone = ClusterBootstrap([str(i) for i in range(len(scores))], resamples=0)
    found = pair_statistics(scores, ratings, alone)
    assert same(found.kendall[0], scipy.stats.kendalltau(scores, ratings).statistic)
    candidates = {0.0, *(abs(a - b) + 1e-9 for a, b in itertools.combinations(scores, 2))}
    best = max(brute_accuracy(scores, ratings, threshold) for threshold in candidates)
    assert found.accuracy[0] == pytest.approx(best)
    assert brute_accuracy(scores, ratings, found.threshold + slack(scores)) == pytest.approx(best)


@given(rated())
@settings(max_examples=40)
def test_pair_statistics_of_a_resample_count_whole_prompts_and_never_pair_an_image_with_its_copy(data):
    scores, ratings, prompts = data
    bootstrap = ClusterBootstrap(prompts, resamples=3, seed=2)
    found = pair_statistics(scores, ratings, bootstrap)
    for row, counts in enumerate(bootstrap.counts):
        right = pairs = agreeing = scores_differ = ratings_differ = 0.0
        for i, j in itertools.combinations(range(len(scores)), 2):
            a, b = bootstrap.codes[i], bootstrap.codes[j]
            weight = counts[a] if a == b else counts[a] * counts[b]
            pairs += weight
            right += weight * brute_accuracy(scores[[i, j]], ratings[[i, j]], found.threshold + slack(scores))
            apart, human = np.sign(scores[i] - scores[j]), np.sign(ratings[i] - ratings[j])
            agreeing += weight * apart * human
            scores_differ += weight * abs(apart)
            ratings_differ += weight * abs(human)
        assert same(found.accuracy[row], right / pairs if pairs else math.nan)
        both = math.sqrt(scores_differ * ratings_differ)
        assert same(found.kendall[row], agreeing / both if both else math.nan)


def test_pair_statistics_of_many_images_are_counted_in_blocks():
    random = np.random.default_rng(4)
    ratings = random.integers(0, 5, 1_500).astype(float)
    scores = (ratings + random.normal(0, 1, 1_500)).round()
    found = pair_statistics(scores, ratings, ClusterBootstrap(np.arange(1_500) // 3, resamples=0))
    assert found.kendall[0] == pytest.approx(scipy.stats.kendalltau(scores, ratings).statistic)
    first, second = np.triu_indices(1_500, 1)
    apart, human = scores[first] - scores[second], ratings[first] - ratings[second]
    accuracies = [
        np.mean(np.where(human == 0, np.abs(apart) <= level, (np.abs(apart) > level) & (apart * human > 0)))
        for level in range(5)
    ]
    assert found.accuracy[0] == pytest.approx(max(accuracies)) and found.threshold == np.argmax(accuracies)


def alone(scores, ratings):
    scores, ratings = np.array(scores), np.array(ratings)
    return pair_statistics(scores, ratings, ClusterBootstrap(np.arange(len(scores)), resamples=0))


def test_the_threshold_is_the_smallest_difference_that_serves_best():
    assert alone([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]).threshold == 0, "no pair is tied"
    found = alone([1.0, 1.25, 3.0, 5.0], [1.0, 1.0, 2.0, 3.0])
    assert (found.threshold, found.accuracy[0]) == (0.25, 1)
    for scores, ratings, threshold, accuracy in [
        ([1.0, 3.0, 4.0, 2.0], [1.0, 2.0, 2.0, 2.0], 1, 4 / 6),
        ([1.0, 0.0, 1.0, 2.0], [1.0, 1.0, 2.0, 1.0], 2, 3 / 6),
    ]:
        found = alone(scores, ratings)
        assert (found.threshold, found.accuracy[0]) == (threshold, pytest.approx(accuracy))
    # 0.3 - 0.2 is less than 0.2 - 0.1 by rounding, and no threshold may lie between the two.
    assert alone([0.1, 0.2, 0.3], [1.0, 2.0, 2.0]).accuracy[0] == pytest.approx(2 / 3)


def test_agreement_on_known_data():
    generator = np.random.default_rng(0)
    ratings = generator.integers(1, 6, 400).astype(float)
    scores = ratings + generator.normal(0, 1, 400)
    prompts = [f"p{i // 4}" for i in range(400)]
    found = agreement(scores, ratings, prompts, resamples=400)
    assert (found.items, found.prompts, found.left_out) == (400, 100, 0)
    assert found.srcc.value == pytest.approx(scipy.stats.spearmanr(scores, ratings).statistic)
    assert found.plcc.value == pytest.approx(scipy.stats.pearsonr(scores, ratings).statistic)
    assert found.krcc.value == pytest.approx(scipy.stats.kendalltau(scores, ratings).statistic)
    for estimate in (found.srcc, found.plcc, found.krcc, found.pairwise_accuracy):
        assert estimate.low < estimate.value < estimate.high
        assert estimate.high - estimate.low < 0.15
    assert found.tie_threshold == pair_statistics(scores, ratings, ClusterBootstrap(prompts, 0)).threshold
    assert agreement(scores, ratings, prompts, resamples=400) == found, "the same seed gives the same interval"


def test_intervals_are_of_a_thousand_resamples_from_seed_0():
    random = np.random.default_rng(6)
    scores, ratings, prompts = random.normal(size=30), random.normal(size=(30, 2)), [str(i // 2) for i in range(30)]
    models, kinds = list("abcde") * 6, [["x"]] * 30
    for measure in (
        lambda **more: agreement(scores, ratings[:, 0], prompts, **more),
        lambda **more: human_ceiling(ratings.tolist(), prompts, **more),
        lambda **more: system_agreement(scores, ratings[:, 0], models, prompts, **more),
        lambda **more: category_agreement(scores, ratings[:, 0], prompts, kinds, **more),
    ):
        published = measure()
        assert published == measure(resamples=1000, seed=0)
        assert published != measure(seed=1) and published != measure(resamples=1001)
    assert np.array_equal(ClusterBootstrap(prompts).counts, ClusterBootstrap(prompts, 1000, 0).counts)


def test_intervals_widen_when_the_images_of_a_prompt_go_together():
    generator = np.random.default_rng(3)
    easy = np.repeat(generator.normal(0, 1, 60), 10)
    scores, ratings = easy + generator.normal(0, 0.2, 600), easy + generator.normal(0, 0.2, 600)
    by_prompt = agreement(scores, ratings, [f"p{i // 10}" for i in range(600)], pairs=False).srcc
    by_image = agreement(scores, ratings, [str(i) for i in range(600)], pairs=False).srcc
    assert by_prompt.high - by_prompt.low > 2 * (by_image.high - by_image.low)


@pytest.mark.parametrize(
    ("scores", "ratings", "reason"),
    [
        ([3.0] * 5, [1, 2, 3, 4, 5], "the evaluator gives every image the same score, 3"),
        ([1, 2, 3, 4, 5], [2.5] * 5, "the raters give every image the same score, 2.5"),
        ([1, 2, math.nan, math.nan, 5], [1, 2, 3, 4, math.nan], "needs at least 3 rated and scored images, found 2"),
    ],
)
def test_what_cannot_be_correlated_says_why(scores, ratings, reason):
    found = agreement(scores, ratings, list("abcde"))
    for estimate in (found.srcc, found.plcc, found.krcc, found.pairwise_accuracy):
        assert (estimate.value, estimate.reason) == (None, reason)
    assert found.to_dict()["srcc"] == {"reason": reason}


def test_images_without_a_score_are_left_out_and_counted():
    found = agreement([1, math.nan, 3, 4], [1, 2, math.inf, 4], list("abcd"), resamples=0)
    assert (found.items, found.left_out) == (2, 2)


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="3 scores, 2 ratings and 3 prompts"):
        agreement([1, 2, 3], [1, 2], list("abc"))
    with pytest.raises(ValueError, match="3 values cannot be correlated with 2"):
        spearman([1, 2, 3], [1, 2])


def test_spearman_of_constant_or_single_values_is_nan():
    assert spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1], [2])) and spearman([1, 2], [5, 3]) == pytest.approx(-1)


def test_system_level_correlates_the_means_of_models():
    models = ["a", "b", "c", "d"] * 50
    base = np.tile([1.0, 2.0, 3.0, 4.0], 50)
    noise = np.random.default_rng(0).normal(0, 0.5, (2, 200))
    found = system_agreement(base + noise[0], base + noise[1], models, [str(i // 4) for i in range(200)])
    assert found["srcc"].value == pytest.approx(1)
    assert 0.9 < found["plcc"].low <= found["plcc"].value <= 1
    few = system_agreement([1, 2, 3], [1, 2, 3], ["a", "b", "b"], list("xyz"))
    unnamed = system_agreement([1, 2, 9], [1, 2, 0], ["a", "b", ""], list("xyz"))
    reason = Estimate(None, reason="needs at least 3 T2I models, found 2")
    assert few == unnamed == {"srcc": reason, "plcc": reason}


def test_system_level_takes_models_of_different_size_and_passes_over_what_is_missing():
    scores = [1, 2, 6, 5, 4, math.nan, 9]
    ratings = [1, 1, 4, 5, 1, 9, math.inf]
    found = system_agreement(scores, ratings, ["a", "a", "a", "b", "c", "c", "b"], list("uuuvwww"), resamples=20)
    assert found["srcc"].value == pytest.approx(0.5)
    assert found["plcc"].value == pytest.approx(np.corrcoef([3, 5, 4], [2, 5, 1])[0, 1])
    assert found["plcc"].low is not None, "of the resamples that drew all three models"


def test_an_image_counts_in_each_of_its_categories():
    found = category_agreement(
        [1, 2, 3, 4], [1, 2, 4, 3], list("abcd"), [["text"], ["text", "count"], ["text"], ["count"]], resamples=0
    )
    assert list(found) == ["count", "text"]
    assert found["text"].srcc.value == pytest.approx(1)
    assert found["count"].srcc.reason == "needs at least 3 rated and scored images, found 2"
    assert found["text"].krcc == found["text"].pairwise_accuracy == Estimate(None, reason="not asked for")


def test_williams_gives_the_published_example():
    # r.test(103, .4, .5, .1) in the manual of R's psych package: t = -0.89, p < 0.37.
    assert williams(0.4, 0.5, 0.1, 103) == pytest.approx(0.375, abs=5e-4)
    assert williams(0.5, 0.5, 1.0, 50) == pytest.approx(1)
    assert williams(0.5, 0.4, 0.1, 3) is None
    assert williams(0.5, 0.4, 0.1, 4) == pytest.approx(0.9414, abs=5e-5), "one degree of freedom"


def test_a_better_evaluator_is_told_from_a_worse_one_and_not_from_its_twin():
    generator = np.random.default_rng(5)
    ratings = generator.normal(0, 1, 500)
    good, bad = ratings + generator.normal(0, 0.5, 500), ratings + generator.normal(0, 2, 500)
    twin = ratings + generator.normal(0, 0.5, 500)
    prompts = [str(i) for i in range(500)]
    apart = srcc_difference(("good", good), ("bad", bad), ratings, prompts)
    assert apart.difference.low > 0.2
    assert apart.p_bootstrap == pytest.approx(2 / 1001)
    assert apart.p_williams < 1e-6
    alike = srcc_difference(("good", good), ("twin", twin), ratings, prompts)
    assert alike.difference.low < 0 < alike.difference.high
    assert min(alike.p_bootstrap, alike.p_williams) > 0.05
    itself = srcc_difference(("good", good), ("good", good), ratings, prompts, resamples=50)
    assert (itself.difference.value, itself.p_bootstrap) == (0, 1)


def test_two_evaluators_are_compared_on_the_images_that_both_scored():
    found = srcc_difference(("a", [1, 2, 3, math.nan]), ("b", [1, 2, 2, 4]), [1, 2, 3, 4], list("wxyz"), resamples=0)
    assert found.items == 3
    assert found.p_bootstrap is None


@pytest.mark.parametrize("constant", ["first", "second"])
def test_an_evaluator_that_gives_one_score_is_not_compared(constant):
    pair = [("a", [3.0] * 5), ("b", [1, 2, 3, 4, 5])]
    found = srcc_difference(*(pair if constant == "first" else pair[::-1]), [1, 2, 3, 5, 4], list("vwxyz"))
    assert found.difference.reason == "the evaluator gives every image the same score, 3"
    assert found.p_bootstrap is None and found.p_williams is None


def test_the_ceiling_is_one_rater_against_the_others():
    random = np.random.default_rng(0)
    truth = random.normal(size=400)
    raters = truth[:, None] + random.normal(size=(400, 3))
    ratings = [tuple(row) for row in raters]
    ratings[0] = (1.0, math.nan, math.nan)
    found = human_ceiling(ratings, [str(number) for number in range(400)], resamples=50)
    expected = np.mean(
        [scipy.stats.spearmanr(raters[1:, k], np.delete(raters[1:], k, 1).mean(1)).statistic for k in range(3)]
    )
    assert found.items == 399 and found.left_out == 1
    assert found.srcc.value == pytest.approx(expected) and found.srcc.low < expected < found.srcc.high
    assert found.krcc == found.pairwise_accuracy == Estimate(None, reason="not computed for raters")
    assert human_ceiling([(3.0,), (4.0,), (2.0,)], ["a", "b", "c"]) is None


def test_the_ceiling_takes_three_images_and_ten_of_their_raters():
    ratings = np.random.default_rng(2).normal(size=(3, 12))
    found = human_ceiling(ratings.tolist(), ["a", "b", "c"], resamples=0)
    turns = [scipy.stats.pearsonr(ratings[:, k], np.delete(ratings, k, 1).mean(1)).statistic for k in range(10)]
    assert found.plcc == Estimate(pytest.approx(np.mean(turns)))
    unequal = [(1.0, 2.0, 6.0), (4.0, 5.0), (2.0, 2.0, 2.0)]
    turns = [[(1, 4), (4, 5), (2, 2)], [(2, 3.5), (5, 4), (2, 2)], [(6, 1.5), (4, 5), (2, 2)]]
    expected = np.mean([scipy.stats.pearsonr(*zip(*turn, strict=True)).statistic for turn in turns])
    assert human_ceiling(unequal, ["a", "b", "c"], resamples=0).plcc.value == pytest.approx(expected)


def test_calibration_is_fitted_on_some_prompts_and_holds_on_others():
    random = np.random.default_rng(1)
    scores = random.uniform(1, 5, 4000)
    prompts = [f"prompt {number // 2}" for number in range(4000)]
    curved = 2 + np.tanh(2 * (scores - 3)) + random.normal(0, 0.2, 4000)
    found = calibrate(scores, curved, prompts, level=0.8)
    assert found.best == "isotonic" and found.isotonic < 0.22 < found.linear < found.constant
    assert found.covered == pytest.approx(0.8, abs=0.04)
    assert found.half_width == pytest.approx(0.2 * 1.2816, abs=0.03), "of a normal error, four in five"
    ratings = [rating for _, rating in found.steps]
    assert ratings == sorted(ratings) and 0.9 < ratings[0] < 1.3 and 2.7 < ratings[-1] < 3.1
    straight = calibrate(scores, 0.5 * scores + 1 + random.normal(0, 0.3, 4000), prompts)
    assert straight.slope == pytest.approx(0.5, abs=0.02) and straight.intercept == pytest.approx(1, abs=0.06)
    assert calibrate(scores[:60], curved[:60], prompts[:60]) is None, "too few in a part"
    assert calibrate(np.full(4000, 3.0), curved, prompts) is None
    few = calibrate(scores[:200], curved[:200], prompts[:200], level=0.999)
    assert few.half_width is None and few.covered is None, "no fifty errors can promise that"


@pytest.fixture
def one_prompt(tmp_path):
    """Ratings of eight images of one prompt, two evaluators' scores of them, and the names of two T2I models."""
    random = np.random.default_rng(0)
    rows = [score_record(f"m{n % 2}-{n}", "a cat", f"m{n % 2}/{n}.png", [n % 5 + 1], [n % 4 + 1]) for n in range(8)]
    ratings = [
        {"id": row["pair_id"], "image": row["image"], "prompt": "a cat", "rating": int(random.integers(1, 6))}
        for row in rows
    ]
    (tmp_path / "ratings.json").write_text(json.dumps(ratings))
    write_jsonl(tmp_path / "other.jsonl", [row | {"pair_id": row["pair_id"], "overall": 5.0} for row in rows][:3])
    return write_jsonl(tmp_path / "scores.jsonl", rows)


def test_of_one_prompt_no_interval_is_shown_and_the_reason_is_said(one_prompt, tmp_path, capsys):
    """Whole prompts are drawn: each resample of one is the data again, an interval of width 0 that looks sure."""
    flags = ["--resamples", "50", "--no-report", "--output"]
    reversed_scores = [row | {"overall": 6 - row["overall"]} for row in read_jsonl(one_prompt)]
    table = "".join(f"{row['pair_id']},{row['overall']}\n" for row in reversed_scores)
    (tmp_path / "second.csv").write_text("id,score\n" + table)
    words = ["benchmark", "--benchmark", "generic", "--annotations", tmp_path / "ratings.json", "--scores", one_prompt]
    assert main([*map(str, [*words, "--compare", tmp_path / "second.csv", *flags, tmp_path / "agreement"])]) == 0
    found = json.loads((tmp_path / "agreement" / "agreement.json").read_text())
    for one in found["evaluators"]:
        for figure in ("srcc", "plcc", "krcc", "pairwise_accuracy"):
            assert set(one[figure]) == {"value", "reason"} and one[figure]["reason"] == ONE_PROMPT
    (difference,) = found["differences"]
    assert "low" not in difference["srcc_difference"] and difference["p_bootstrap"] is None
    assert ONE_PROMPT in capsys.readouterr().err

    assert main([*map(str, ["leaderboard", "--model-from", "folder", *flags, tmp_path / "board", one_prompt])]) == 0
    board = json.loads((tmp_path / "board" / "leaderboard.json").read_text())
    assert board["notes"] == [ONE_PROMPT]
    for row in board["models"]:
        assert row["rank_range"] is None and "low" not in row["overall"]
    (duel,) = board["head_to_head"]
    assert duel["prompts"] == 1 and duel["win_rate"]["low"] is None

    capsys.readouterr()
    second = write_jsonl(tmp_path / "again.jsonl", [*read_jsonl(one_prompt)])
    assert main([*map(str, ["reliability", one_prompt, second, *flags, tmp_path / "runs"])]) == 0
    runs = json.loads((tmp_path / "runs" / "reliability.json").read_text())["runs"]
    assert all("low" not in one["equal"] and one["equal"]["reason"] == ONE_PROMPT for one in runs)
    assert ONE_PROMPT in capsys.readouterr().err


def test_a_model_with_one_prompt_has_no_interval_on_a_board_of_several(one_prompt, tmp_path, capsys):
    more = [score_record(f"m0-x{n}", f"dog {n}", f"m0/x{n}.png", [n + 1], [3]) for n in range(4)]
    scores = write_jsonl(tmp_path / "more.jsonl", [*read_jsonl(one_prompt), *more])
    words = ["leaderboard", "--model-from", "folder", "--no-report", "--output", tmp_path / "board", scores]
    assert main([*map(str, words)]) == 0
    board = json.loads((tmp_path / "board" / "leaderboard.json").read_text())
    assert {row["model"]: "low" in row["overall"] for row in board["models"]} == {"m0": True, "m1": False}
    assert board["notes"][-1] == f"m1: {ONE_PROMPT}"
