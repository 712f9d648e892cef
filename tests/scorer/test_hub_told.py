"""What is told of a student on the Hub before it is fetched; a local server stands in for the Hub."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0" * 39 + "1"
INFO = {
    "id": "vcl-iisc/DynEval-Evaluator",
    "sha": COMMIT,
    "tags": ["license:apache-2.0"],
    "siblings": [
        {"rfilename": "DynEval-2B/model.safetensors", "size": 4_300_000_000},
        {"rfilename": "DynEval-2B/config.json", "size": 2_000},
        {"rfilename": "DynEval-4B/model.safetensors", "size": 8_900_000_000},
    ],
}


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        content = json.dumps(INFO).encode()
        self.send_response(200 if self.path.startswith("/api/models/vcl-iisc/DynEval-Evaluator") else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_size_and_licence_are_told_before_a_student_is_fetched(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "from dyneval.checkpoints.names import named\n"
        "from dyneval.scorer.loading import hub_commit\n"
        "print(hub_commit(*named('dyneval-2b')))"
    )
    address = f"http://127.0.0.1:{server.server_address[1]}"
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    server.shutdown()
    assert done.stdout.strip() == COMMIT
    said = "vcl-iisc/DynEval-Evaluator/DynEval-2B: to be fetched from the Hub once, 4.3 GB; licence: apache-2.0"
    assert said in done.stderr
