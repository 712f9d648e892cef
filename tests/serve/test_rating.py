"""People rate pairs on a page in a real Chromium, and `dyneval benchmark` compares what they said with scores."""

import csv
import io
import json
import random
import re
import signal
import socket
import time
from contextlib import suppress

import httpx2
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

from dyneval.cli import benchmark
from dyneval.errors import DataFileError, SettingError
from dyneval.evaluation.benchmarks import generic
from dyneval.evaluation.benchmarks.base import load
from dyneval.files.tables import rows
from dyneval.hashing import short_id
from dyneval.serve import connections, rating_routes
from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher
from dyneval.serve.ratings import COLUMNS, PairRating, Ratings, RatingsFull, checked_name
from dyneval.serve.settings import ServerSettings

from .accessibility import FAULTS

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
TOKEN = "a-long-enough-token"


def write_gendb(folder):
    """Six pairs whose ids, files and models all say who made them."""
    (folder / "images").mkdir(parents=True)
    pairs = []
    for number, colour in enumerate(COLOURS, 1):
        name = f"images/secret-model-{number}.png"
        exif, text = Image.Exif(), PngInfo()
        exif[0x010E] = "secret-model"
        text.add_text("parameters", "secret-model")
        Image.new("RGB", (64, 48), colour).save(folder / name, pnginfo=text, exif=exif)
        pairs.append({"pair_id": f"secret-model-{number}", "file_name": name, "prompt": f"all in {colour}"})
    metadata = folder / "metadata.jsonl"
    metadata.write_text("".join(json.dumps(pair | {"generation_model": "secret-model"}) + "\n" for pair in pairs))
    return metadata


@pytest.fixture
def metadata(tmp_path):
    return write_gendb(tmp_path / "gendb")


def begin(page, name):
    page.fill("#name", name)
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#rate")).to_have_attribute("aria-busy", "false")


def wish(page):
    return page.locator("#prompt").inner_text()


def rate(page, alignment, quality):
    """Rate what is shown by key, and wait until the next one is."""
    place = int(re.search(r"Picture (\d+)", page.locator("#done").inner_text())[1])
    page.keyboard.press(str(alignment))
    expect(page.locator("#alignment [aria-pressed=true]")).to_contain_text(str(alignment))
    page.keyboard.press(str(quality))
    if place < len(COLOURS):
        expect(page.locator("#done")).to_contain_text(f"Picture {place + 1}.")
        expect(page.locator("#rate")).to_have_attribute("aria-busy", "false")
    else:
        expect(page.locator("#end")).to_be_visible()


def true_rating(prompt):
    """What all raters here think: each colour is better than the one before."""
    place = COLOURS.index(prompt.removeprefix("all in "))
    return min(5, 1 + place), max(1, place)


def test_two_raters_are_two_commands_away_from_their_agreement(run_server, metadata, visit, tmp_path):
    ratings, log = tmp_path / "mine.csv", tmp_path / "log.txt"
    flags = ("--rate", str(metadata), "--ratings", str(ratings))
    orders = {}
    with run_server(log, *flags) as (address, process):
        for name in ("Ann", "=Ben"):
            page = visit(address)
            begin(page, name)
            seen = orders[name] = []
            for _ in COLOURS:
                seen.append(wish(page))
                rate(page, *true_rating(wish(page)))
            expect(page.locator("#thanks")).to_have_text(f"Thank you, {name}.")
            expect(page.locator("#done")).to_have_text("6 of 6 rated.")
            expect(page.locator("#saved")).to_have_text("Saved.")
            assert "secret" not in page.content()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert orders["Ann"] != orders["=Ben"] and sorted(orders["Ann"]) == sorted(orders["=Ben"])
    assert len(list(rows(ratings))) == 2 * 2 * len(COLOURS)

    with run_server(log, *flags) as (address, _):
        page = visit(address)
        page.fill("#name", "Ann")
        page.keyboard.press("Enter")
        expect(page.locator("#thanks")).to_be_visible()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#rate")).to_have_attribute("aria-busy", "false")
        last = orders["Ann"][-1]
        assert wish(page) == last
        for key in ("1", "ArrowDown", "1"):
            page.keyboard.press(key)
        expect(page.locator("#quality [aria-pressed=true]")).to_contain_text("1")
        expect(page.locator("#saved")).to_have_text("Saved.")
        page.reload()
        expect(page.locator("#thanks")).to_be_visible()

    annotated = {(row["rater"], row["prompt"]): row for row in csv.DictReader(ratings.open(newline=""))}
    assert annotated["Ann", last]["alignment"] == annotated["Ann", last]["quality"] == "1"
    assert {name for name, _ in annotated} == {"Ann", "'=Ben"}
    scores = tmp_path / "scores.csv"
    lines = [f"secret-model-{n},{sum(true_rating(f'all in {colour}'))}" for n, colour in enumerate(COLOURS, 1)]
    scores.write_text("id,score\n" + "\n".join(lines) + "\n")
    command = ["--benchmark", "generic", "--annotations", str(ratings), "--scale", "1", "5", "--scores", str(scores)]
    assert benchmark.main([*command, "--resamples", "20", "--score", "score", "--output", str(tmp_path / "out")]) == 0
    agreement = json.loads((tmp_path / "out" / "agreement.json").read_text())
    (found,) = agreement["evaluators"]
    assert agreement["images"] == 6 and agreement["rejected"] == found["missing"] == 0
    assert found["srcc"]["value"] > 0.5
    rated = {item.prompt: item for item in load(generic.benchmark(), ratings).items}
    assert rated[last].ratings == (1, sum(true_rating(last)) / 2) and rated[last].model == "secret-model"
    assert benchmark.main([*command, "--resamples", "20", "--score", "score", "--column", "rating=alignment"]) == 0


def test_what_is_pressed_before_the_picture_is_there_rates_nothing(run_server, metadata, visit, tmp_path):
    ratings = tmp_path / "mine.csv"
    with run_server(tmp_path / "log.txt", "--rate", str(metadata), "--ratings", str(ratings)) as (address, _):
        page = visit(address)
        held = []
        page.route("**/v1/ratings/pictures/*", lambda route: held.append(route))
        page.fill("#name", "Ann")
        page.keyboard.press("Enter")
        expect(page.locator("#alignment button").first).to_be_visible()
        page.keyboard.press("5")
        while not held:
            page.wait_for_timeout(10)
        page.unroute("**/v1/ratings/pictures/*")  # what was held goes on
        expect(page.locator("#rate")).to_have_attribute("aria-busy", "false")
        page.keyboard.press("3")
        expect(page.locator("#saved")).to_have_text("Saved.")
        assert [row["alignment"] for row in rows(ratings)] == ["3"]

        # Whoever clicks is led on as well; what cannot be sent is told, and sent when that is possible again.
        page.route("**/v1/ratings", lambda route: route.abort())
        page.locator("#quality").get_by_role("button", name="4 good").click()
        expect(page.locator("#error")).to_contain_text("1 rating not saved yet")
        page.unroute("**/v1/ratings")
        expect(page.locator("#saved")).to_have_text("Saved.")
        expect(page.locator("#error")).to_be_hidden()
        assert [row["rating"] for row in rows(ratings)] == [None, "3.5"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_state_fits_can_be_read_and_has_names(rating_server, visit, width, scheme):
    page = visit(rating_server, viewport={"width": width, "height": 800}, color_scheme=scheme)

    def is_fine():
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(FAULTS) == []

    is_fine()
    begin(page, f"Ann {width} {scheme}")
    page.keyboard.press("2")
    expect(page.locator("#alignment [aria-pressed=true]")).to_be_visible()
    is_fine()
    for _ in range(len(COLOURS)):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#left")).to_have_text("6 pictures of 6 still lack a rating from you.")
    is_fine()
    page.get_by_role("button", name="Go to the first of them").click()
    expect(page.locator("#done")).to_have_text("Picture 1. 0 of 6 rated.")
    page.get_by_role("button", name="Somebody else").click()
    expect(page.locator("#name")).to_be_focused()


@pytest.fixture(scope="module")
def rating_server(run_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rating")
    flags = ("--rate", str(write_gendb(folder / "gendb")), "--ratings", str(folder / "mine.csv"))
    with run_server(folder / "log.txt", *flags) as (address, _):
        yield address


def test_it_runs_without_a_student_and_keeps_the_servers_rules(run_server, metadata, tmp_path):
    outside = tmp_path / "outside.png"
    Image.new("RGB", (9, 9)).save(outside)
    (metadata.parent / "link.png").symlink_to(outside)
    with metadata.open("a") as file:
        for name in ("../outside.png", "link.png", str(outside), "images"):
            file.write(json.dumps({"pair_id": f"bad {name}", "file_name": name, "prompt": "x"}) + "\n")
    flags = ("--rate", str(metadata), "--ratings", str(tmp_path / "mine.csv"))
    with run_server(tmp_path / "log.txt", *flags, DYNEVAL_TOKEN=TOKEN) as (address, _):
        with httpx2.Client(base_url=address) as stranger:
            assert stranger.get("/").status_code == stranger.get("/rate").status_code == 200
            assert "unsafe" not in stranger.get("/").headers["content-security-policy"]
            for path in ("/v1/ratings?rater=Ann", "/v1/ratings/pairs/0?rater=Ann", "/v1/ratings/pictures/0"):
                assert stranger.get(path).status_code == 401
            assert stranger.post("/v1/ratings", json={}).status_code == 401
        with httpx2.Client(base_url=address, headers={"authorization": f"Bearer {TOKEN}"}) as http:
            assert http.get("/v1/ratings?rater=Ann").json() == {"rated": 0, "pairs": 10, "next": 0}
            assert http.get("/readyz").status_code == 200 and http.get("/v1/model").status_code == 404
            shown = [http.get(f"/v1/ratings/pairs/{place}", params={"rater": "../Ann"}).json() for place in range(10)]
            for pair in shown:
                answer = http.get(f"/v1/ratings/pictures/{pair['pair']}")
                assert answer.status_code == (422 if pair["prompt"] == "x" else 200)
                assert b"secret" not in answer.content and b"outside" not in answer.content
            good = {"rater": "../../etc/passwd", "pair": shown[0]["pair"], "alignment": 1}
            for change, status in (
                ({"alignment": 6}, 422),
                ({"alignment": 2.5}, 422),
                ({"alignment": True}, 422),
                ({"quality": "5"}, 422),
                ({"rater": ""}, 422),
                ({"rater": "a\x00b"}, 422),
                ({"rater": "x" * 61}, 422),
                ({"rater": "\ud800"}, 422),
                ({"pair": "secret-model-1"}, 404),
                ({"pair": ["x"]}, 422),
                ({"rater": "x" * 5000}, 413),
                ({}, 200),
            ):
                body = json.dumps(good | change)
                assert http.post("/v1/ratings", content=body).status_code == status, change
            assert http.post("/v1/ratings", content=b"[" * 4000).status_code == 422
            for place in ("10", "-1", "x", "9" * 4000):
                assert http.get(f"/v1/ratings/pairs/{place}?rater=Ann").status_code == 404
    (row,) = rows(tmp_path / "mine.csv")
    assert row["rater"] == "../../etc/passwd" and not (tmp_path / "etc").exists()


def test_a_student_beside_it_has_the_first_page(start, judge_class, metadata, visit, tmp_path):
    batcher = Batcher(judge_class(), batch_size=1, queue=1, wait=0, patience=1)
    with Ratings(metadata, tmp_path / "mine.csv") as ratings:
        address = start(create_app(batcher, ServerSettings(max_pairs=1), {"model": "judge"}, ratings))
        page = visit(address)
        page.get_by_role("link", name="Rate pictures yourself").click()
        begin(page, "Ann")
        assert httpx2.get(f"{address}/openapi.json").status_code == 200


def test_the_file_survives_kills_and_takes_nothing_that_is_not_its_own(metadata, tmp_path):
    path = tmp_path / "deep" / "mine.csv"
    with Ratings(metadata, path) as ratings:
        key, prompt, verdict = ratings.at("Ann", 0)
        assert verdict == PairRating() and prompt.startswith("all in")
        ratings.save("Ann", key, PairRating(4, None))
        ratings.save("Ann", key, PairRating(4, 2))
        with pytest.raises(DataFileError, match="another process"), Ratings(metadata, path):
            pass
    whole = path.read_bytes()
    for torn in (b'Ann,secret-model-1,images/x.png,"a', b"Ann,secret-model-2"):
        path.write_bytes(whole + torn)
        with Ratings(metadata, path) as ratings:
            assert ratings.at("Ann", 0)[2] == PairRating(4, 2)
        assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])  # an editor took the last line end
    with Ratings(metadata, path) as ratings:
        assert ratings.standing("Ann") == (1, 6, 1)
    assert path.read_bytes() == whole
    for foreign in (b"a,b\n1,2", b"not a table", whole.replace(b",4,2,", b",4,9,"), whole + b"x,y\n", b"\xff\xfe\x00"):
        path.write_bytes(foreign)
        with pytest.raises(DataFileError), Ratings(metadata, path):
            pass
        assert path.read_bytes() == foreign
    with pytest.raises(SettingError, match="is an input and would be overwritten; name another --ratings"):
        Ratings(metadata, metadata)
    path.write_text(",".join(COLUMNS)[:9])  # killed at its very first line
    with Ratings(metadata, path) as ratings:
        assert ratings.standing("Ann").rated == 0


def test_raters_and_the_file_have_an_end(metadata, tmp_path, monkeypatch):
    monkeypatch.setattr("dyneval.serve.ratings.MOST_RATERS", 2)
    with Ratings(metadata, tmp_path / "mine.csv") as ratings:
        key, _, _ = ratings.at("Ann", 0)
        for name in ("Ann", "Ben"):
            ratings.save(name, key, PairRating(1, 1))
        with pytest.raises(RatingsFull, match="raters"):
            ratings.save("Cem", key, PairRating(1, 1))
        monkeypatch.setattr("dyneval.serve.ratings.LARGEST_FILE", (tmp_path / "mine.csv").stat().st_size)
        with pytest.raises(RatingsFull, match="full"):
            ratings.save("Ann", key, PairRating(2, 2))
        assert ratings.at("Ann", 0)[2] == PairRating(1, 1)


def test_what_was_not_safely_written_is_not_in_the_file(metadata, tmp_path, monkeypatch):
    path = tmp_path / "mine.csv"

    def failing(descriptor):
        raise OSError(28, "No space left on device")

    with Ratings(metadata, path) as ratings:
        key, _, _ = ratings.at("Ann", 0)
        ratings.save("Ann", key, PairRating(1, 1))
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", failing)
            with pytest.raises(OSError, match="No space left"):
                ratings.save("Ann", key, PairRating(2, 2))
        assert path.read_bytes() == before and ratings.at("Ann", 0)[2] == PairRating(1, 1)
        ratings.save("Ann", key, PairRating(2, 2))
    assert [row["rating"] for row in rows(path)] == ["1.0", "2.0"]


def test_a_rater_stands_at_the_first_pair_that_lacks_something(metadata, tmp_path):
    path = tmp_path / "mine.csv"
    with Ratings(metadata, path) as ratings:
        keys = [ratings.at("Ann", place)[0] for place in range(6)]
        assert ratings.standing("Ann") == (0, 6, 0)
        for place, verdict, expected in (
            (0, (1, None), (0, 6, 0)),
            (1, (2, 2), (1, 6, 0)),
            (0, (1, 1), (2, 6, 2)),
            (3, (3, 3), (3, 6, 2)),
            (2, (3, 3), (4, 6, 4)),
            (1, (None, 2), (3, 6, 1)),  # taken back
            (1, (4, 2), (4, 6, 4)),
            (5, (1, 1), (5, 6, 4)),
            (4, (1, 1), (6, 6, None)),
        ):
            ratings.save("Ann", keys[place], PairRating(*verdict))
            assert ratings.standing("Ann") == expected
        assert ratings.standing("Ben") == (0, 6, 0)
    with Ratings(metadata, path) as ratings:
        assert ratings.standing("Ann") == (6, 6, None)


def test_a_rating_that_cannot_be_taken_is_told_and_not_sent_again(start, metadata, visit, tmp_path, monkeypatch):
    monkeypatch.setattr("dyneval.serve.ratings.MOST_RATERS", 0)
    with Ratings(metadata, tmp_path / "mine.csv") as ratings:
        page = visit(start(create_app(None, ServerSettings(), {}, ratings)))
        page.clock.install()
        sent = []
        page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
        begin(page, "Ann")
        page.keyboard.press("3")
        expect(page.locator("#error")).to_have_text(
            "A rating is lost: the rating was not saved: there are 0 raters already"
        )
        page.clock.run_for(60_000)
        assert len(sent) == 1


def noise(side, seed):
    return Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side))


@pytest.fixture
def noisy(tmp_path):
    """Two pairs whose pictures are more bytes than a connection holds."""
    for name in ("a", "b"):
        noise(1500, name).save(tmp_path / f"{name}.png")
    metadata = tmp_path / "metadata.jsonl"
    lines = [json.dumps({"pair_id": name, "file_name": f"{name}.png", "prompt": name}) for name in ("a", "b")]
    metadata.write_text("\n".join(lines) + "\n")
    return metadata


def test_a_picture_that_takes_too_long_ends_its_decoder_and_nothing_else(start, noisy, tmp_path, monkeypatch):
    jpeg = io.BytesIO()
    noise(3000, "slow").save(jpeg, "JPEG", progressive=True, quality=95)
    (tmp_path / "a.png").write_bytes(jpeg.getvalue())
    Image.new("RGB", (9, 9)).save(tmp_path / "b.png")
    monkeypatch.setattr(rating_routes, "_DECODING", 0.1)
    with Ratings(noisy, tmp_path / "mine.csv") as ratings:
        address = start(create_app(None, ServerSettings(), {}, ratings))
        for _ in range(3):
            answers = [httpx2.get(f"{address}/v1/ratings/pictures/{short_id(one)}") for one in ("a", "b")]
            assert [answer.status_code for answer in answers] == [422, 200]


def test_those_who_ask_for_pictures_and_do_not_read_them_make_room(crowd, noisy, tmp_path, monkeypatch):
    monkeypatch.setattr(rating_routes, "_PICTURES", 1)
    monkeypatch.setattr(connections, "SEND_SECONDS", 0.3)
    with Ratings(noisy, tmp_path / "mine.csv") as ratings:
        host, port = crowd(3, create_app(None, ServerSettings(), {}, ratings))
        path = f"/v1/ratings/pictures/{short_id('a')}"
        deaf = [socket.create_connection((host, port), timeout=20) for _ in range(4)]
        for one in deaf:
            with suppress(OSError):  # one that made room already
                one.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while (answer := httpx2.get(f"http://{host}:{port}{path}", timeout=20)).status_code == 503:
            assert answer.headers["retry-after"]
            time.sleep(0.1)
        assert answer.status_code == 200 and Image.open(io.BytesIO(answer.content)).size == (1500, 1500)
        for one in deaf:
            one.close()


def test_names_are_words():
    assert checked_name("  Ann \t Mary ") == "Ann Mary"
    for name in (None, 3, " ", "a\x1bb", "x" * 61, "a\u202eb"):
        with pytest.raises(ValueError, match="a name has"):
            checked_name(name)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--rate", "nowhere.jsonl", "--ratings", "{ratings}"), "nowhere.jsonl"),
        (("--rate", "{metadata}", "--ratings", "{metadata}"), "is an input and would be overwritten"),
    ],
)
def test_what_cannot_be_rated_is_one_line(metadata, tmp_path, capsys, flags, reason):
    from dyneval.cli import serve

    names = {"metadata": metadata, "ratings": tmp_path / "mine.csv"}
    assert serve.main([flag.format(**names) for flag in flags]) == 1
    said = capsys.readouterr().err.strip()
    assert reason in said and "\n" not in said
