"""The report in a real browser: sort, search, filter, open a sample, dark, phone, hostile text, a file on its own."""

import itertools
import os
import shutil
import time

import pytest
from playwright.sync_api import Error, expect

from dyneval.evaluation.benchmarks import generic
from dyneval.evaluation.run_benchmark import BenchmarkRun, run_benchmark
from dyneval.evaluation.run_leaderboard import LeaderboardRun, run_leaderboard
from dyneval.files.jsonl import read_jsonl
from tests.rows import write_jsonl

from .conftest import HOSTILE, page_data
from .scored_data import draw, make_scores


def models(page):
    return page.locator("#board tbody tr:visible th").all_inner_texts()


def scroll_to_the_end(page, cards=220):
    deadline = time.monotonic() + 60  # a busy browser adds cards late
    while (found := page.locator(".card").count()) < cards:
        assert time.monotonic() < deadline, f"{found} of {cards} cards"
        page.evaluate("scrollTo({top: document.body.scrollHeight, behavior: 'instant'})")
        page.wait_for_timeout(50)
    assert found == cards


def column(page, name):
    number = page.locator("#board thead th").all_inner_texts().index(name)
    return [
        float(row.locator("td, th").nth(number).get_attribute("data-value"))
        for row in page.locator("#board tbody tr").all()
    ]


def test_the_leaderboard_sorts_both_ways_searches_and_filters_by_tier(large_report, visit):
    page = visit(large_report / "board" / "report.html")
    assert models(page)[-1] == "Stable Diffusion v1.5"
    for name in ("T2IA", "Counting"):
        page.get_by_role("button", name=name, exact=True).click()
        assert column(page, name) == sorted(column(page, name), reverse=True)
        page.get_by_role("button", name=name, exact=True).click()
        assert column(page, name) == sorted(column(page, name))
    page.get_by_role("button", name="Model", exact=True).click()
    assert models(page) == sorted(models(page))
    page.get_by_role("searchbox", name="Search models").fill("flux")
    assert models(page) == ["FLUX.2 [dev]"]
    assert page.locator("#found").inner_text() == "1 of 4 models"
    page.get_by_role("searchbox", name="Search models").fill("")
    page.get_by_role("button", name="Tier 1").click()
    assert sorted(models(page)) == ["Sana", "Stable Diffusion v1.5"]


def test_the_gallery_filters_by_model_category_score_text_and_disagreement(large_report, visit):
    path = large_report / "board" / "report.html"
    page, index = visit(path), page_data(path)["gallery"]
    columns = index["columns"]
    numbers = range(len(columns["id"]))
    assert page.locator("#shown").inner_text() == "220 of 220 images"
    assert float(page.locator(".card .badge").first.text_content()) == min(columns["overall"])

    def shown(expected):
        assert page.locator("#shown").inner_text() == f"{len(expected)} of 220 images"

    sana = index["models"].index("Sana")
    page.select_option("[name=model]", label="Sana")
    shown([n for n in numbers if columns["model"][n] == sana])
    page.select_option("[name=model]", "")
    category = index["categories"][2]
    page.select_option("[name=category]", label=category.replace("_", " "))
    shown([n for n in numbers if 2 in index["skills"][columns["prompt"][n]]])
    page.select_option("[name=category]", "")
    page.fill("[name=from]", "2")
    page.fill("[name=to]", "3")
    shown([n for n in numbers if 2 <= columns["overall"][n] <= 3])
    page.fill("[name=from]", "1")
    page.fill("[name=to]", "5")
    page.fill("[name=text]", "NUMBER 17")
    shown([n for n in numbers if "number 17" in index["prompts"][columns["prompt"][n]]])
    page.fill("[name=text]", "")
    page.fill("[name=apart]", "40")
    apart = [n for n in numbers if (columns["apart"][n] or 0) >= 40]
    assert apart
    shown(apart)
    page.fill("[name=apart]", "0")
    page.select_option("[name=order]", "apart")
    page.locator(".card").first.click()
    assert f"{max(a for a in columns['apart'] if a is not None)} %" in page.locator("#sample-scores").inner_text()


def test_more_cards_come_with_scrolling_and_images_load_lazily(large_report, visit):
    page = visit(large_report / "board" / "report.html")
    assert page.locator(".card").count() <= 120
    scroll_to_the_end(page)
    assert page.locator(".card", has_text="This image could not be read.").count() == 1
    assert "not an image file that can be read" in page.locator("#notes").inner_text()


def test_a_sample_shows_questions_reasons_and_a_drawn_scene_graph(large_report, visit):
    page = visit(large_report / "board" / "report.html")
    page.locator(".card").nth(4).click()
    dialog = page.locator("#sample")
    page.wait_for_selector("#sample-graph svg[viewBox]")
    assert dialog.locator(".asked").count() == 2
    assert dialog.locator(".asked li").count() == 9
    scores = [int(text) for text in dialog.locator(".asked").first.locator("li > b").all_inner_texts()]
    assert scores == sorted(scores), "worst answers first"
    assert "It looks like" in dialog.locator(".asked small").first.inner_text()
    assert dialog.locator("#sample-graph .object").count() == 3
    assert sorted(dialog.locator("#sample-graph .relation text").all_text_contents()) == ["above", "sits on"]
    assert page.evaluate("document.getElementById('sample-image').decode().then(() => true)")
    before = dialog.locator("#sample-meta").inner_text()
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("#sample-meta")).not_to_have_text(before)
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_hostile_text_is_shown_and_never_run(large_report, visit):
    page = visit(large_report / "board" / "report.html")
    assert page.locator("h1").inner_text() == f"Four models {HOSTILE}"
    number = page_data(large_report / "board" / "report.html")["gallery"]["columns"]["id"][7]
    scroll_to_the_end(page)
    page.locator(f".card[aria-label^='Open {number},']").click()
    page.wait_for_selector("#sample-graph svg[viewBox]")
    assert HOSTILE in page.locator(".asked").first.inner_text()
    assert page.evaluate("window.hacked") is None


def test_a_script_that_got_into_a_report_does_not_run(large_report, small_report, chromium):
    context = chromium.new_context()
    for report in (large_report / "board" / "report.html", small_report):
        page = context.new_page()
        page.goto(report.as_uri())
        with pytest.raises(Error, match="Content Security Policy"):
            page.add_script_tag(content="window.hacked = 1")
        assert page.evaluate("window.hacked") is None
        assert "unsafe-eval" not in page.locator("meta[http-equiv]").get_attribute("content")
    context.close()


def test_every_chart_is_drawn_in_both_themes_and_the_page_fits_a_phone(large_report, visit):
    for width, theme in ((1280, "dark"), (390, "light")):
        page = visit(large_report / "board" / "report.html", width, theme)
        charts = page.locator("[data-chart]")
        assert charts.count() == 10
        for chart in charts.all():
            chart.scroll_into_view_if_needed()
            expect(chart).to_have_attribute("data-ready", "yes")
            assert chart.locator("svg, canvas").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") == width
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(20, 22, 26)") == (theme == "dark")
        page.get_by_role("button", name="Switch between dark and light").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != back


@pytest.fixture(scope="module")
def small_report(tmp_path_factory):
    """A benchmark's report of 24 images, which it carries in itself."""
    folder = tmp_path_factory.mktemp("small")
    scores, _ = make_scores(folder, {"sana": (2, 0.6), "sdxl": (3, 0.5), "sd1-5": (3, 0.3)}, prompts=8, images=True)
    rows = list(read_jsonl(scores))
    ratings = [{"image": row["image"], "rating": row["overall"], "prompt": row["prompt"]} for row in rows]
    annotations = write_jsonl(folder / "ratings.jsonl", ratings)
    other = write_jsonl(folder / "other.jsonl", [{"image": row["image"], "score": row["t2ia"]} for row in rows])
    run_benchmark(
        BenchmarkRun(
            benchmark=generic.benchmark(title="twenty-four images"),
            annotations=annotations,
            images=folder / "gendb",
            scores=[("DynEval-4B", scores), ("T2IA alone", other)],
            output=folder / "agreement",
            resamples=50,
        )
    )
    return folder / "agreement" / "report.html"


def test_a_small_report_is_one_file_that_can_be_sent_away(small_report, visit, tmp_path):
    assert not small_report.with_name("report_files").exists()
    page = visit(shutil.copy(small_report, tmp_path / "sent.html"))
    assert page.locator("#agreement table").first.locator("tbody tr").count() == 2
    assert "1.0000" in page.locator("#agreement table").first.inner_text()
    page.locator(".card").first.click()
    page.wait_for_selector("#sample-graph svg[viewBox]")
    assert page.evaluate("document.getElementById('sample-image').decode().then(() => true)")
    assert page.locator(".asked li").count() == 9


def test_a_report_without_the_folder_beside_it_says_what_is_missing(large_report, chromium, tmp_path):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(shutil.copy(large_report / "board" / "report.html", tmp_path / "alone.html").as_uri())
    page.locator(".card").first.click()
    expect(page.locator("#sample-questions")).to_contain_text("is missing")
    assert "report_files/details/" in page.locator("#sample-questions").inner_text()
    context.close()


def test_an_image_has_an_address_that_can_be_sent_and_back_works(large_report, visit):
    path = large_report / "board" / "report.html"
    page = visit(path)
    dialog, shown = page.locator("#sample"), page.locator("#sample-meta a")
    page.select_option("[name=model]", label="Sana")
    address = page.locator(".card").first.get_attribute("href")
    page.locator(".card").first.click()
    expect(dialog).to_be_visible()
    assert page.url.endswith(address) and page_data(path)["gallery"]["columns"]["id"][0] != shown.inner_text()
    first = shown.inner_text()
    page.get_by_role("button", name="Next image").click()
    expect(shown).not_to_have_text(first)
    page.go_back()
    expect(dialog).to_be_hidden()
    assert page.locator("[name=model]").input_value() != "" and "#pair" not in page.url
    page.go_forward()
    expect(dialog).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    assert "#pair" not in page.url

    other = page_data(path)["gallery"]["columns"]["id"][0]  # of a model that the filter leaves out
    page.evaluate("id => { location.hash = `pair=${encodeURIComponent(id)}`; }", other)
    expect(shown).to_have_text(other)
    page.get_by_role("button", name="Next image").click()
    expect(shown).to_have_text(
        page.locator(".card").first.get_attribute("aria-label").split(",")[0].removeprefix("Open ")
    )


def test_a_sent_address_opens_its_image_and_a_broken_one_the_page(large_report, visit):
    path = large_report / "board" / "report.html"
    page = visit(path)
    number = 170
    wanted = page_data(path)["gallery"]["columns"]["id"][number]
    page.goto("about:blank")
    page.goto(f"{path.as_uri()}#pair={wanted}")
    expect(page.locator("#sample-meta a")).to_have_text(wanted)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#sample")).to_be_hidden()
    page.wait_for_function("location.hash === '#gallery'")  # going back would leave the page
    for broken in ("#pair=%E0%A4%A", "#pair=unknown", "#pair="):
        page.goto("about:blank")
        page.goto(path.as_uri() + broken)
        expect(page.locator(".card").first).to_be_visible()
        assert not page.locator("#sample").is_visible()


NAMES = (
    HOSTILE, "a.b[0].c[\"x\"]", "x" * 200, "名前\u2028Ünï\u202e 🤖", "name\\with\nnewline", "datum['a'] + 1",
    "constructor", "__proto__", "nul\x00", "${a}`b`",
)  # fmt: skip


def test_no_model_name_breaks_a_chart_a_table_or_a_picture(tmp_path, visit):
    scores, metadata = make_scores(tmp_path, {f"m{n}": (1 + n % 3, 0.05 + 0.09 * n) for n in range(10)}, prompts=6)
    rows = list(read_jsonl(metadata))
    for row in rows:
        row["generation_model"] = NAMES[int(row["generation_model"].removeprefix("m"))]
        row["categories"] = ["x" * 200, HOSTILE, "odd.name[1]", "constructor"]
    table = write_jsonl(tmp_path / "table.jsonl", rows)
    output = tmp_path / "board"
    outcome = run_leaderboard(
        LeaderboardRun(scores=[scores], metadata=[table], output=output, resamples=20, pictures=("png", "svg", "pdf"))
    )
    assert len(list((output / "pictures").iterdir())) == 3 * 5
    assert len(outcome.tables["Head to head"].rows) == 45
    for width in (1280, 390):
        page = visit(output / "report.html", width)
        for chart in page.locator("[data-chart]").all():
            chart.scroll_into_view_if_needed()
            expect(chart).to_have_attribute("data-ready", "yes")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("window.hacked") is None
        for table in page.locator(".scroll:has(> table)").all():
            table.evaluate("place => { place.scrollLeft = 1e6; }")
            last, frame = table.locator("tbody tr").first.locator("td").last.bounding_box(), table.bounding_box()
            assert last["x"] + last["width"] <= frame["x"] + frame["width"] + 1
            name = table.locator("tbody tr").first.locator(":is(td, th):visible").first
            assert name.bounding_box()["x"] + name.bounding_box()["width"] <= last["x"], "the names leave it room"


def test_axes_legends_and_heads_of_a_board_of_two_near_models(tmp_path, visit):
    scores, metadata = make_scores(tmp_path, {"sana": (2, 0.5), "sd1-5": (3, 0.5)}, prompts=30)
    rows = list(read_jsonl(scores))
    for row in rows:  # means 3.999 and 4
        value = 3.97 if row is rows[0] else 4.0
        row |= {"overall": value, "normalised": row["normalised"] | {"overall": (value - 1) / 4}}
    write_jsonl(scores, rows)
    pairs = list(read_jsonl(metadata))
    for n, pair in enumerate(pairs):
        pair["categories"] = [["spatial_3d"], ["comparative_relation"], ["animal_action"], ["indoor_scene"]][n % 4]
    write_jsonl(metadata, pairs)
    run_leaderboard(LeaderboardRun(scores=[scores], metadata=[metadata], output=tmp_path / "b", resamples=20))
    page = visit(tmp_path / "b" / "report.html")

    def texts(chart, role):
        place = page.locator(f"[data-chart={chart}]")
        place.scroll_into_view_if_needed()
        expect(place).to_have_attribute("data-ready", "yes")
        return place.locator(f".{role} text").all_text_contents()

    ticks = texts("years", "role-axis-label")
    assert len(ticks) == len(set(ticks)) > 4 and {"2022", "2024"} & set(ticks)
    for chart in ("tiers", "hardest", "distributions", "years"):
        assert texts(chart, "role-legend-label") == ["Tier 2", "Tier 3"]
    heads = page.locator("[data-chart=heat-map] .mark-text.role-mark text")
    boxes = [head.bounding_box() for head in heads.all()]
    assert len(boxes) == 4
    for left, right in itertools.pairwise(boxes):  # slanted: they start apart by more than a line is high
        assert right["x"] - left["x"] > 18


def test_thumbnails_are_made_once_and_anew_for_an_image_that_changed(tmp_path):
    scores, metadata = make_scores(tmp_path, {"sana": (2, 0.6), "sdxl": (3, 0.4)}, prompts=110, images=True)
    run = LeaderboardRun(
        scores=[scores], metadata=[metadata], images=tmp_path / "gendb", output=tmp_path / "b", resamples=0, workers=3
    )
    run_leaderboard(run)
    thumbs = tmp_path / "b" / "report_files" / "thumbs"
    made = {path: path.stat().st_mtime_ns for path in thumbs.rglob("*.webp")}
    assert len(made) == 220
    first = next(iter(made))
    first.unlink()
    (first.parent / "half.99.tmp").write_bytes(b"RIFF")  # as a killed run leaves it
    changed = tmp_path / "gendb" / "sana" / "0003.png"
    before = changed.stat()
    draw(changed, 999)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns - 10**12))  # another image, and an older one
    run_leaderboard(run)
    again = {path: path.stat().st_mtime_ns for path in thumbs.rglob("*") if path.is_file()}
    assert len(again) == 220 and len(made.items() & again.items()) == 218
