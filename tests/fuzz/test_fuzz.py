"""Every reader returns or refuses as documented, whatever it is given: in seconds here, for hours in nightly.sh."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import targets

PIECES = [
    *[b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\n", b"\0", b"null", b"NaN", b"-Infinity", b"1e999", b"-0"],
    *[b"\\ud800", b"\xff", b"\xef\xbb\xbf", b"```", b"<|IQA|>", b"..", b"/", b"true", b"'", b"9" * 5000, b"[" * 3000],
    *[b'{"a":' * 1500, b"\xff\xff\xff\x7f", b"\x80\0\0\0"],
]


@pytest.fixture(scope="module", autouse=True)
def files():
    yield
    targets.forget_files()


@st.composite
def _damaged(draw, seeds):
    """A seed with a few bytes or pieces cut out, put in, doubled or replaced."""
    data = draw(st.sampled_from(list(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 2, 8, 64, 10_000])))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=4) | st.just(data[start:end] * 2))
        data = data[:start] + piece + data[end:]
    return data


@pytest.mark.parametrize(
    ("name", "data"), [pytest.param(*case, id=f"{n}-{case[0]}") for n, case in enumerate(targets.all_cases())]
)
def test_what_is_sound_and_what_once_broke_a_reader(name, data):
    targets.TARGETS[name].run(data)


@pytest.mark.parametrize("name", list(targets.TARGETS))
def test_damaged_files_are_read_or_refused(name):
    target = targets.TARGETS[name]

    @settings(max_examples=150, database=None, suppress_health_check=list(HealthCheck))
    @given(_damaged(target.seeds) | st.binary(max_size=200))
    def run(data):
        target.run(data)

    run()
