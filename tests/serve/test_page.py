"""The page in a real chromium; where its passes are watched, a judge stands in for the model."""

import csv
import json
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from dyneval.evaluation.scores import read_scores
from dyneval.loaded_pairs import PassEnded
from dyneval.records import ScoreRecord
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher
from dyneval.serve.settings import ServerSettings

from .accessibility import FAULTS

NASTY = '<img src=x onerror="document.title=`owned`"><b>bold</b>'
PASSES = ("t2ia_questions", "t2ia_scores", "iqa_questions", "iqa_scores")


@pytest.fixture
def painting(tmp_path, picture):
    path = tmp_path / "circle.png"
    path.write_bytes(picture)
    return path


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "square.png"
    Image.new("RGB", (60, 60), "navy").save(path)
    return path


def score(page, painting, prompt="a red circle"):
    page.set_input_files("#image", painting)
    page.fill("#prompt", prompt)
    page.click("#submit")


def is_done(page):
    expect(page.locator("#verdict")).to_have_attribute("data-state", "done")


class Scene:
    """A judge whose passes come one by one, each when the test says so."""

    def __init__(self, judge):
        self.judge = judge
        self.found = [
            ("t2ia_questions", {"t2ia_questions": [{"question": NASTY, "answer": "yes"}]}),
            ("t2ia_scores", {"t2ia_questions": [{"question": NASTY, "answer": "yes", "score": 2, "reasoning": NASTY}]}),
            ("iqa_questions", {"iqa_questions": [{"question": "Sharp?", "answer": "yes"}], "scene_graph": graph(5)}),
            (
                "iqa_scores",
                {"iqa_questions": [{"question": "Sharp?", "answer": "yes", "score": 5, "reasoning": "Yes."}]},
            ),
        ]

    def __call__(self, pairs):
        for name, found in self.found:
            self.judge.go.wait(20)
            self.judge.go.clear()
            yield 0, PassEnded(name, found)
        self.judge.go.wait(20)
        yield 0, list(self.judge(pairs))[-1][1]


def graph(count):
    nodes = [{"id": f"n{n}", "label": f"thing {n} {NASTY}", "attributes": ["red"] * (n % 3)} for n in range(count)]
    edges = [{"source": f"n{n}", "target": f"n{n * 7 % count}", "relationship": "beside"} for n in range(count)]
    return {"nodes": nodes, "edges": [*edges, {"source": "n0", "target": "nowhere", "relationship": "of"}]}


def serve(start, judge, model=None, **settings):
    chosen = ServerSettings(**settings)
    batcher = Batcher(judge, batch_size=1, queue=chosen.queue, wait=0, patience=chosen.timeout)
    return start(create_app(batcher, chosen, {"model": "judge"} | (model or {})))


def test_an_image_and_a_prompt_become_two_scores_questions_and_a_graph(server, visit, painting):
    page = visit(server)
    expect(page.locator("#submit")).to_be_disabled()
    score(page, painting)
    is_done(page)
    for name in ("t2ia", "iqa", "overall"):
        shown = page.locator(f"#score-{name}")
        assert 1 <= float(shown.locator("dd").inner_text()) <= 5 and shown.get_attribute("data-score")
    for item in page.locator(".part li").all():
        assert item.get_attribute("data-score") == item.locator("b").inner_text()
    expect(page.locator("#passes [data-state=done]")).to_have_count(4)
    expect(page.locator("#graph")).to_be_visible()
    expect(page.locator("#error")).to_be_hidden()
    expect(page.locator("#live")).to_contain_text("Overall")


def test_passes_arrive_one_by_one_and_hostile_text_stays_text(start, visit, painting, judge_class):
    judge = judge_class()
    page = visit(serve(start, Scene(judge), {"seconds": 600}))
    score(page, painting)
    expect(page.locator("#clock")).to_have_text(re.compile(r"^\d+(\.\d)? s of about 600 s$"))
    for done, name in enumerate(PASSES, 1):
        judge.go.set()
        expect(page.locator(f"[data-pass={name}]")).to_have_attribute("data-state", "done")
        assert page.locator("#passes [data-state=done]").count() == done
        if done == 2:
            expect(page.locator("#score-t2ia dd")).to_have_text("2.00")
            expect(page.locator("#score-overall dd")).to_have_text("–")
    assert page.locator("#t2ia li").get_attribute("data-score") == "2"
    assert page.locator("#t2ia li p").all_inner_texts() == [f"{NASTY} expected: yes", NASTY]
    expect(page.locator("#t2ia small")).to_have_text("1 question")
    expect(page.locator("#graph .node")).to_have_count(5)
    judge.go.set()
    is_done(page)
    assert page.title() == "DynEval" and page.locator("img").count() == 1
    colours = page.eval_on_selector_all("#iqa li b", "all => all.map(one => getComputedStyle(one).color)")
    assert len(set(colours)) == 1
    page.get_by_text("What the numbers mean").click()
    expect(page.get_by_text("the judge gives a chance to every rating")).to_be_visible()


def test_a_graph_without_objects_is_told_in_words(start, visit, painting, judge_class):
    page = visit(serve(start, judge_class()))
    score(page, painting)
    is_done(page)
    expect(page.locator("#graph")).to_contain_text("0 objects, 0 relations")
    expect(page.locator("#graph svg")).to_have_count(0)


def test_a_result_belongs_to_its_image_and_prompt(start, visit, painting, other, judge_class):
    page = visit(serve(start, judge_class()))
    score(page, painting)
    is_done(page)
    previous = page.locator("#previous")
    expect(previous).to_be_hidden()
    page.fill("#prompt", "a blue circle")
    expect(previous).to_have_text("Previous result: the prompt has changed since.")
    page.fill("#prompt", "a red circle")
    expect(previous).to_be_hidden()
    page.set_input_files("#image", other)
    expect(previous).to_have_text("Previous result: the image has changed since.")
    expect(page.locator("#caption")).to_contain_text("circle.png")
    page.click("#submit")
    expect(page.locator("#caption")).to_contain_text("square.png")
    is_done(page)
    expect(previous).to_be_hidden()


def test_several_images_run_side_by_side_and_two_are_compared(start, visit, painting, other, judge_class, tmp_path):
    judge = judge_class()
    page = visit(serve(start, Scene(judge)))
    score(page, [painting, other])
    cells = page.locator("#strip li")
    expect(cells).to_have_count(2)
    expect(page.locator("#strip li[data-state=running]")).to_have_count(2)
    for share in ("25%", "50%", "75%", "100%"):  # of the one that is at work, whichever came first
        judge.go.set()
        expect(page.locator(f"#strip .bar[style*='width: {share}']")).to_have_count(1)
    judge.go.wait = lambda seconds: None
    judge.go.set()
    expect(page.locator("#strip li[data-state=done]")).to_have_count(2)
    expect(cells.first.get_by_role("button", name="circle.png, scored 3.0")).to_be_visible()

    page.get_by_role("button", name="Compare two").click()
    expect(page.locator("#two .side img")).to_have_count(2)
    expect(page.locator("#two li").first.locator(".answer b")).to_have_text(["3", "3"])
    before = page.locator("#two img").first.get_attribute("src")
    page.get_by_label("Left image").select_option(label="square.png")
    expect(page.locator("#two img").first).not_to_have_attribute("src", before)
    page.get_by_role("button", name="Compare two").click()
    expect(page.locator("#one")).to_be_visible()

    for button, kind in (("JSON", "json"), ("CSV", "csv")):
        with page.expect_download() as loading:
            page.get_by_role("button", name=button).click()
        saved = tmp_path / f"saved.{kind}"
        loading.value.save_as(saved)
        assert sorted(read_scores(saved, "iqa").image_of.values()) == ["circle.png", "square.png"]
    for record in json.loads((tmp_path / "saved.json").read_text()):
        ScoreRecord.from_dict(record, "saved.json")

    page.get_by_role("button", name="Remove circle.png").click(force=True)
    expect(page.locator("#strip")).to_be_hidden()
    expect(page.locator("#caption")).to_contain_text("square.png")


def test_saved_cells_run_no_formula(start, visit, painting, judge_class, tmp_path):
    page = visit(serve(start, judge_class()))
    score(page, painting, '=cmd|"/c calc"!A1, really')
    is_done(page)
    with page.expect_download() as loading:
        page.get_by_role("button", name="CSV").click()
    loading.value.save_as(tmp_path / "saved.csv")
    (row,) = csv.DictReader((tmp_path / "saved.csv").open(newline=""))
    assert row["prompt"] == """'=cmd|"/c calc"!A1, really"""


def test_an_address_brings_a_result_back_after_a_reload(start, visit, painting, judge_class):
    address = serve(start, judge_class())
    page = visit(address)
    score(page, painting)
    is_done(page)
    expect(page).to_have_url(re.compile("#r="))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    is_done(page)
    expect(page.locator("#score-overall dd")).to_have_text("3.00")
    expect(page.locator("#prompt")).to_have_value("a red circle")
    expect(page.locator("#previous")).to_be_hidden()
    expect(page.locator("#preview")).to_have_js_property("naturalWidth", 96)
    assert not any("/v1/score" in url for url in asked)
    page.get_by_role("button", name="Forget them").click()
    expect(page).to_have_url(f"{address}/")
    page.goto(f"{address}/#r=0123")
    page.reload()
    expect(page.locator("#notes")).to_contain_text("not in this browser")


def test_an_address_of_two_results_brings_back_only_the_one_that_is_missing(start, visit, painting, other, judge_class):
    page = visit(serve(start, judge_class()))
    score(page, [painting, other])
    expect(page.locator("#strip li[data-state=done]")).to_have_count(2)
    page.get_by_role("button", name="Compare two").click()
    expect(page).to_have_url(re.compile("#r=[0-9a-f]+,[0-9a-f]+"))
    both = page.evaluate("location.hash")
    page.evaluate("hash => history.replaceState(null, '', hash)", both.split(",")[0])
    page.reload()
    is_done(page)
    expect(page.locator("#strip")).to_be_hidden()
    page.evaluate("hash => { location.hash = hash; }", both)
    expect(page.locator("#two .side img")).to_have_count(2)
    expect(page.locator("#strip li")).to_have_count(2)
    expect(page).to_have_url(re.compile(re.escape(both)))


def test_what_runs_can_be_cancelled_and_scored_again(start, visit, painting, judge_class):
    judge = judge_class()
    page = visit(serve(start, Scene(judge)))
    score(page, painting)
    judge.go.set()
    expect(page.locator("[data-pass=t2ia_questions]")).to_have_attribute("data-state", "done")
    page.click("#cancel")
    expect(page.locator("#clock")).to_have_text("Cancelled.")
    expect(page.locator("#cancel")).to_be_hidden()
    expect(page.locator("#submit")).to_be_focused()
    judge.go.wait = lambda seconds: None
    judge.go.set()
    page.click("#submit")
    is_done(page)


def test_a_busy_server_is_asked_again(start, visit, painting, other, judge_class):
    judge = judge_class()
    page = visit(serve(start, judge, queue=1, max_pairs=1))
    score(page, [painting, other, painting, other], "wait")
    expect(page.get_by_role("button", name="waits, the server is busy").first).to_be_visible()
    judge.go.set()
    expect(page.locator("#strip li[data-state=done]")).to_have_count(4)


def test_an_error_is_told_and_the_next_try_works(server, visit, painting, tmp_path):
    page = visit(server)
    (tmp_path / "text.png").write_text("no picture")
    score(page, tmp_path / "text.png")
    expect(page.locator("#error")).to_contain_text("not an image file")
    page.set_input_files("#image", painting)
    page.click("#submit")
    is_done(page)
    expect(page.locator("#error")).to_contain_text("text.png: ")
    page.get_by_role("button", name="Remove text.png").click(force=True)
    expect(page.locator("#error")).to_be_hidden()


def test_files_that_are_no_pictures_are_named(start, visit, painting, judge_class, tmp_path):
    page = visit(serve(start, judge_class()))
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#image", [tmp_path / "notes.txt", painting])
    expect(page.locator("#notes")).to_have_text("notes.txt is not a picture.")
    expect(page.locator("#preview")).to_be_visible()


def test_dropped_and_pasted_images_are_taken(server, visit):
    page = visit(server)
    page.fill("#prompt", "a red circle")
    files = page.evaluate_handle(
        "async () => { const data = new DataTransfer(), canvas = new OffscreenCanvas(40, 40); canvas.getContext('2d');"
        "data.items.add(new File([await canvas.convertToBlob()], 'x.png', { type: 'image/png' })); return data; }"
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": files})
    expect(page.locator("#preview")).to_be_visible()
    expect(page.locator("#submit")).to_be_enabled()
    page.evaluate("files => dispatchEvent(new ClipboardEvent('paste', { clipboardData: files }))", files)
    expect(page.locator("#strip li")).to_have_count(2)


SQUARES = (
    "async (count) => { const data = new DataTransfer(), canvas = new OffscreenCanvas(4, 4); canvas.getContext('2d');"
    "const blob = await canvas.convertToBlob(), type = 'image/png';"
    "for (let n = 0; n < count; n++) data.items.add(new File([blob], `${n}.png`, { type })); return data; }"
)


def test_images_dropped_at_the_same_time_share_the_room_that_there_is(start, visit, judge_class):
    page = visit(serve(start, judge_class()))
    drop = "files => dispatchEvent(Object.assign(new Event('drop', { cancelable: true }), { dataTransfer: files }))"
    page.evaluate(f"files => {{ const drop = {drop}; drop(files); drop(files); }}", page.evaluate_handle(SQUARES, 60))
    expect(page.locator("#strip li")).to_have_count(100)
    expect(page.locator("#notes")).to_contain_text("Only 100 images at a time: 20 were left out.")
    expect(page.locator("#strip [aria-current]")).to_have_count(1)
    # Text, which the browser puts into the prompt by itself, takes nothing from the page.
    text = page.evaluate_handle(
        "() => { const data = new DataTransfer(); data.setData('text/plain', 'a'); return data; }"
    )
    page.evaluate("data => dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))", text)
    assert page.evaluate(drop, text), "not prevented"
    expect(page.locator("#notes")).to_contain_text("20 were left out")


def test_what_is_chosen_while_others_are_read_stays_chosen(start, visit, painting, judge_class):
    page = visit(serve(start, judge_class()))
    page.set_input_files("#image", painting)
    expect(page.locator("#preview")).to_be_visible()
    choosing = """files => {
      const strip = document.getElementById("strip");
      const seen = new MutationObserver(() => {
        if (strip.children.length === 3) strip.querySelector("button").click();  // back to the first of all
      });
      seen.observe(strip, { childList: true });
      dispatchEvent(Object.assign(new Event("drop", { cancelable: true }), { dataTransfer: files }));
    }"""
    page.evaluate(choosing, page.evaluate_handle(SQUARES, 6))
    expect(page.locator("#strip li")).to_have_count(7)
    expect(page.locator("#strip [aria-current]")).to_have_attribute("title", painting.name)


def test_a_picture_too_large_for_the_server_is_brought_to_size(start, visit, judge_class, tmp_path):
    judge, sizes = judge_class(), []

    def seen(pairs):
        sizes.extend(pair.image.size for pair in pairs)
        return judge(pairs)

    page = visit(serve(start, seen, max_pixels=100_000))
    Image.new("RGB", (1000, 500), "teal").save(tmp_path / "wide.png")
    score(page, tmp_path / "wide.png")
    expect(page.locator("#notes")).to_contain_text("wide.png is too large for the server: 1000 × 500 pixels")
    is_done(page)
    assert sizes == [(447, 223)]
    # So is a file of too many bytes, here noise that PNG cannot make smaller.
    Image.effect_noise((300, 300), 90).convert("RGB").save(tmp_path / "noise.png")
    other = visit(serve(start, seen, max_body=30_000))
    score(other, tmp_path / "noise.png")
    is_done(other)
    assert sizes[1][0] == sizes[1][1] <= 300


def test_the_token_is_asked_for_where_it_stands_and_takes_no_focus(start, visit, painting, judge_class):
    page = visit(serve(start, judge_class(), token="a-long-enough-token"))
    expect(page.locator("#token")).to_be_visible()
    expect(page.locator("#token")).not_to_be_focused()
    page.set_input_files("#image", painting)
    page.locator("#prompt").press_sequentially("a red circle")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#error")).to_have_text("This server asks for a token.")
    expect(page.locator("#prompt")).to_be_focused()
    page.fill("#token", "another-token-altogether")
    page.focus("#prompt")
    expect(page.locator("#token-told")).to_have_text("This is not the token of this server.")
    page.fill("#token", "a-long-enough-token")
    page.focus("#prompt")
    expect(page.locator("#model")).to_have_text("judge")
    expect(page.locator("#error")).to_be_hidden()
    page.click("#submit")
    is_done(page)
    page.reload()
    expect(page.locator("#model")).to_have_text("judge")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"demo": True}, "A demo judge"),
        ({"untrained": True, "demo": True}, "never learned to judge"),
        ({"settings": {"mode": "full", "reply_form": "either"}}, "does not clearly write"),
        ({}, None),
    ],
)
def test_a_judge_that_cannot_judge_is_announced(start, visit, judge_class, model, told):
    page = visit(serve(start, judge_class(), model))
    expect(page.locator("#model")).to_have_text("judge")
    if told:
        expect(page.locator("#demo")).to_contain_text(told)
    else:
        expect(page.locator("#demo")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_all_fits_the_screen_can_be_read_and_has_a_name(start, visit, painting, other, judge_class, width, scheme):
    judge = judge_class()
    scene = Scene(judge)
    scene.found[2][1]["scene_graph"] = graph(40)
    judge.go.wait = lambda seconds: None
    page = visit(serve(start, scene), viewport={"width": width, "height": 800}, color_scheme=scheme)
    score(page, [painting, other], "long" * 300)
    expect(page.locator("#strip li[data-state=done]")).to_have_count(2)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (brightness(ground) > 128) == (scheme == "light")
    for change in (lambda: None, lambda: page.fill("#prompt", "another"), lambda: page.click("#compare")):
        change()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(FAULTS) == []


def brightness(colour):
    return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")) / 3
