"""One sheet of an XLSX file as a table; what is more, or broken, or a bomb is refused."""

import sys
import zipfile
from datetime import date, datetime, time

import openpyxl
import pytest

from dyneval.errors import DataFileError
from dyneval.files.tables import BadRow, each_row, rows, text_of, whole_of
from tests import processes

HEADER = ["image", "rating", "prompt"]


def book(path, rows, title="ratings", **sheets):
    """An XLSX file with a sheet, and further ones."""
    made = openpyxl.Workbook()
    made.active.title = title
    for row in rows:
        made.active.append(row)
    for name, more in sheets.items():
        sheet = made.create_sheet(name)
        for row in more:
            sheet.append(row)
    made.save(path)
    return path


def changed(path, part, change):
    """The same file with one part's text changed, as no spreadsheet would write it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = change(parts[part].decode()).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["t.xlsx", "T.XLSX", "t.xlsm"])
def test_a_sheet_says_what_a_table_of_another_kind_says(tmp_path, name):
    path = book(tmp_path / name, [HEADER, ["a.png", 1, "a cat"], ["b.png", 2.5, "zwei\nZeilen"], ["猫.png", "3", None]])
    assert list(rows(path)) == [
        {"image": "a.png", "rating": 1, "prompt": "a cat"},
        {"image": "b.png", "rating": 2.5, "prompt": "zwei\nZeilen"},
        {"image": "猫.png", "rating": "3", "prompt": None},
    ]
    assert next(rows(path, ["image"], needs=["image"])) == {"image": "a.png"}
    with pytest.raises(DataFileError, match="lacks the column model; it has image, rating, prompt"):
        next(rows(path, needs=["model"]))


def test_numbers_dates_blanks_and_empty_rows(tmp_path):
    moments = [date(2026, 11, 29), datetime(2026, 11, 29, 13, 5), time(7, 30)]  # noqa: DTZ001  sheets know no time zones
    path = book(
        tmp_path / "t.xlsx",
        [[], ["a", " b ", None], [], [7.0, " "], [None, None, None], moments[:2], [moments[2]], [True]],
    )
    found = list(rows(path))
    assert found == [
        {"a": 7, "b": None},
        {"a": "2026-11-29", "b": "2026-11-29T13:05:00"},
        {"a": "07:30:00", "b": None},
        {"a": True, "b": None},
    ]
    assert (text_of(found[0]["a"]), whole_of(found[0]["a"])) == ("7", 7)


def test_a_row_that_is_wider_than_the_header_or_holds_an_error_is_bad(tmp_path):
    path = book(
        tmp_path / "t.xlsx", [HEADER, ["a.png", 1, "x", "more"], ["b.png", "#DIV/0!", "x"], [], ["c.png", 3, "x"]]
    )
    wide, error, good = each_row(path)
    assert wide == BadRow(2, "has a cell beyond the header (image, rating, prompt)")
    assert error == BadRow(3, "rating: holds the error #DIV/0!")
    assert good["image"] == "c.png"
    assert [row["image"] for row in rows(book(tmp_path / "u.xlsx", [HEADER, ["b.png", "#N/A", "x"]]), ["image"])] == [
        "b.png"
    ]


def test_rows_in_several_sheets_are_refused_by_name_and_empty_sheets_do_no_harm(tmp_path):
    path = book(tmp_path / "t.xlsx", [HEADER, ["a.png", 1, "x"]], notes=[["checked by R."]], empty=[], blank=[[" "]])
    with pytest.raises(DataFileError, match=r"t\.xlsx: has 2 sheets with rows, ratings, notes; keep one"):
        next(rows(path))
    path = book(tmp_path / "u.xlsx", [], second=[HEADER, ["a.png", 1, "x"]])
    assert [row["image"] for row in rows(path)] == ["a.png"]
    assert list(rows(book(tmp_path / "none.xlsx", []))) == []
    with pytest.raises(DataFileError, match="lacks the column image; it has none"):
        next(rows(tmp_path / "none.xlsx", needs=["image"]))


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = book(tmp_path / "t.xlsx", [["image", "score", "score "], ["a.png", 1, 2]])
    with pytest.raises(DataFileError, match="more than one column is called 'score'"):
        next(rows(path))
    assert list(rows(path, ["image"])) == [{"image": "a.png"}]


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = book(tmp_path / "t.xlsx", [HEADER, ["a.png", 1, "x"]])
    changed(
        path, "xl/worksheets/sheet1.xml", lambda text: text.replace("</worksheet>", " " * (1 << 26) + "</worksheet>")
    )
    assert path.stat().st_size < 1 << 17
    with pytest.raises(DataFileError, match=r"t\.xlsx: unpacks to more than 200 times its size and over 64 MiB"):
        next(rows(path))


@pytest.mark.parametrize(
    ("old", "new"), [('r="2"', 'r="4000000000"'), ('r="A2"', 'r="A4000000000"'), ('ref="A1:C2"', 'ref="A1:XFD1048576"')]
)
def test_a_sheet_that_lies_about_its_size_ends(tmp_path, old, new):
    path = book(tmp_path / "t.xlsx", [HEADER, ["a.png", 1, "x"]])
    changed(path, "xl/worksheets/sheet1.xml", lambda text: text.replace(old, new))
    try:
        assert [row["image"] for row in rows(path)] == ["a.png"]
    except DataFileError as error:
        assert str(path) in str(error)


def test_a_cell_at_the_far_corner_takes_no_memory(tmp_path):
    made = openpyxl.Workbook()
    made.active["A1"], made.active["XFD1048576"] = "image", "far"
    made.save(tmp_path / "t.xlsx")
    (bad,) = each_row(tmp_path / "t.xlsx")
    assert bad == BadRow(1_048_576, "has a cell beyond the header (image)")


@pytest.mark.parametrize("content", [b"", b"PK", b"image,rating\na.png,1\n", bytes.fromhex("d0cf11e0a1b11ae1") * 99])
def test_what_is_no_sheet_is_refused(tmp_path, content):
    (tmp_path / "t.xlsx").write_bytes(content)
    with pytest.raises(DataFileError, match=r"t\.xlsx: cannot be read as XLSX"):
        next(rows(tmp_path / "t.xlsx"))


def test_every_byte_may_be_wrong(tmp_path):
    path = book(tmp_path / "t.xlsx", [HEADER, ["a.png", 1, "x"]])
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            list(rows(path))
        except DataFileError as error:
            assert str(path) in str(error)


def test_without_the_library_the_extra_is_named_in_one_line(tmp_path):
    path = book(tmp_path / "t.xlsx", [HEADER, ["a.png", 1, "x"]])
    code = (
        "import sys; sys.modules['openpyxl'] = None\n"
        "from dyneval.cli.benchmark import main\n"
        f"sys.exit(main(['--benchmark', 'generic', '--annotations', {str(path)!r}, '--scores', {str(path)!r}]))"
    )
    run = processes.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "pip install 'dyneval[excel]', or save the sheet as CSV in UTF-8" in run.stderr


def test_ratings_and_scores_may_stand_in_sheets(tmp_path):
    from dyneval.evaluation.benchmarks import generic, load
    from dyneval.evaluation.scores import read_scores

    path = book(
        tmp_path / "t.xlsx",
        [["image", "rating", "score"], ["a.png", 1, "0.5"], ["b.png", "2", 0.25], ["c.png", 9, None]],
    )
    found = load(generic.benchmark(scale=(1, 5)), path)
    assert [(item.item_id, item.rating) for item in found.items] == [("a.png", 1), ("b.png", 2)]
    assert [reject.key for reject in found.rejects] == ["c.png"]
    assert read_scores(path).by_image["a.png"] == 0.5
