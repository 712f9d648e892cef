"""Ending the real server, with its token on."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

TOKEN = "a-token-that-no-log-may-show"


def test_a_server_that_is_told_to_end_answers_what_it_took(serve_in_process, student, encoded, tmp_path):
    log = tmp_path / "log.txt"
    with serve_in_process(student, log, "--batch-size", "1", DYNEVAL_TOKEN=TOKEN) as (address, process):
        http = httpx2.Client(base_url=address, timeout=60, headers={"authorization": f"Bearer {TOKEN}"})
        with http, ThreadPoolExecutor(8) as pool:
            assert http.get("/v1/model", headers={"authorization": "Bearer wrong"}).status_code == 401
            answers = [
                pool.submit(http.post, "/v1/score", json={"image": encoded, "prompt": f"cat {n}"}) for n in range(8)
            ]
            while "dyneval_running_pairs 1.0" not in http.get("/metrics").text:
                time.sleep(0.01)
            while 'outcome="scored"' not in http.get("/metrics").text:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert [answer.result().status_code for answer in answers] == [200] * 8
        assert process.wait(30) in (0, -signal.SIGTERM)
    assert TOKEN not in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_server_without_a_student_says_so_and_ends(serve_in_process, tmp_path):
    log = tmp_path / "log.txt"
    with (
        pytest.raises(AssertionError, match="nowhere: no such checkpoint folder"),
        serve_in_process(tmp_path / "nowhere", log),
    ):
        pass
    assert "Traceback" not in log.read_text()
