"""The page in a real chromium; where its passes are watched, a judge stands in for the model."""

import pytest
from PIL import Image

from dyneval.loaded_pairs import PassEnded
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher
from dyneval.serve.settings import ServerSettings

NASTY = '<img src=x onerror="document.title=`owned`"><b>bold</b>'


@pytest.fixture
def visit(chromium):
    """visit(address, **context) -> a page; at the end no script may have failed and nothing been asked of others."""
    opened = []

    def go(address, **options):
        page = chromium.new_context(**options).new_page()
        trouble = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "data:", "blob:")) or trouble.append(request.url),
        )
        page.goto(address)
        opened.append((page, trouble))
        return page

    yield go
    for page, trouble in opened:
        assert trouble == []
        page.context.close()


@pytest.fixture
def painting(tmp_path, picture):
    path = tmp_path / "circle.png"
    path.write_bytes(picture)
    return path


def score(page, painting, prompt="a red circle"):
    page.set_input_files("#image", painting)
    page.fill("#prompt", prompt)
    page.click("#submit")


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


def serve(start, judge, **settings):
    chosen = ServerSettings(**settings)
    batcher = Batcher(judge, batch_size=1, queue=chosen.queue, wait=0, patience=chosen.timeout)
    return start(create_app(batcher, chosen, {"model": "judge"}))


def test_an_image_and_a_prompt_become_two_scores_questions_and_a_graph(server, visit, painting):
    page = visit(server)
    assert page.locator("#submit").is_disabled()
    score(page, painting)
    page.wait_for_selector("#verdict[data-state=done]", timeout=60_000)
    for name in ("t2ia", "iqa", "overall"):
        shown = page.locator(f"#score-{name}")
        assert 1 <= float(shown.locator("dd").inner_text()) <= 5 and shown.get_attribute("data-score")
    for item in page.locator(".part li").all():
        assert item.get_attribute("data-score") == item.locator("b").inner_text()
    assert page.locator("#passes [data-state=done]").count() == 4
    assert page.locator("#graph svg .node").count() >= 0 and page.locator("#error").is_hidden()


def test_passes_arrive_one_by_one_and_hostile_text_stays_text(start, visit, painting, judge_class):
    judge = judge_class()
    page = visit(serve(start, Scene(judge)))
    score(page, painting)
    for done, name in enumerate(("t2ia_questions", "t2ia_scores", "iqa_questions", "iqa_scores"), 1):
        judge.go.set()
        page.wait_for_selector(f"[data-pass={name}][data-state=done]")
        assert page.locator("#passes [data-state=done]").count() == done
    assert page.locator("#t2ia li").get_attribute("data-score") == "2"
    assert page.locator("#t2ia li p").all_inner_texts() == [NASTY, NASTY]
    assert page.locator("#graph .node").count() == 5
    judge.go.set()
    page.wait_for_selector("#verdict[data-state=done]")
    assert page.title() == "DynEval" and page.locator("img").count() == 1
    colours = page.eval_on_selector_all("#iqa li b", "all => all.map(one => getComputedStyle(one).color)")
    assert len(set(colours)) == 1


def test_an_error_is_told_and_the_next_try_works(server, visit, painting, tmp_path):
    page = visit(server)
    (tmp_path / "text.png").write_text("no picture")
    score(page, tmp_path / "text.png")
    page.wait_for_selector("#error:not([hidden])")
    assert "not an image file" in page.locator("#error").inner_text()
    page.set_input_files("#image", painting)
    page.click("#submit")
    page.wait_for_selector("#verdict[data-state=done]", timeout=60_000)
    assert page.locator("#error").is_hidden()


def test_a_dropped_image_is_taken(server, visit, painting):
    page = visit(server)
    page.fill("#prompt", "a red circle")
    files = page.evaluate_handle(
        "async () => { const data = new DataTransfer(), canvas = new OffscreenCanvas(40, 40); canvas.getContext('2d');"
        "data.items.add(new File([await canvas.convertToBlob()], 'x.png', { type: 'image/png' })); return data; }"
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": files})
    page.wait_for_selector("#preview:not([hidden])")
    assert page.locator("#submit").is_enabled()


def test_a_server_with_a_token_asks_for_it(start, visit, painting, judge_class):
    page = visit(serve(start, judge_class(), token="a-long-enough-token"))
    page.wait_for_selector("#token:not([hidden])")
    page.fill("#token", "a-long-enough-token")
    score(page, painting)
    page.wait_for_selector("#verdict[data-state=done]")
    assert page.locator("#model").inner_text() == "judge"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen_and_text_can_be_read(start, visit, painting, judge_class, width, scheme):
    judge = judge_class()
    scene = Scene(judge)
    scene.found[2][1]["scene_graph"] = graph(40)
    judge.go.wait = lambda seconds: None
    page = visit(serve(start, scene), viewport={"width": width, "height": 800}, color_scheme=scheme)
    score(page, painting, "long" * 300)
    page.wait_for_selector("#verdict[data-state=done]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (brightness(ground) > brightness(ink)) == (scheme == "light")
    assert abs(brightness(ground) - brightness(ink)) > 120


def brightness(colour):
    return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")) / 3


def test_a_picture_of_any_size_is_shown_whole(server, visit, tmp_path):
    page = visit(server)
    Image.new("RGB", (2000, 50), "teal").save(tmp_path / "wide.png")
    page.set_input_files("#image", tmp_path / "wide.png")
    page.wait_for_function("document.getElementById('preview').naturalWidth === 2000")
    assert page.locator("#preview").bounding_box()["width"] <= page.locator("#drop").bounding_box()["width"]
