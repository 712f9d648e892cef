"""The part of the Hub's API that uploads and downloads call; keeps what it was sent in a folder.

A file `is-public` in that folder makes its repositories public, and `is-full` takes no commit.

python hub_server.py FOLDER TOKEN      prints its port
"""

import base64
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER, TOKEN = Path(sys.argv[1]), sys.argv[2]
OID = "0" * 39 + "1"


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if found := re.search(r"/api/(?:models|datasets)/(.+)/tree/([^/?]+)", self.path):
            folder = FOLDER / found[1] / found[2].replace(OID, "main")
            files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
            rows = [(name, path.stat().st_size) for name, path in files.items()]
            return self.answer(200, [{"type": "file", "path": name, "size": size, "oid": OID} for name, size in rows])
        if found := re.search(r"/(?:datasets/)?(me/[^/]+)/resolve/[^/]+/(.+)", self.path):
            return self.give(FOLDER / found[1] / "main" / found[2])
        if found := re.search(r"/api/(?:models|datasets)/(me/[^/]+)/revision/(.+)", self.path):
            if found[2] not in ("main", OID):
                return self.answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            folder = FOLDER / found[1] / "main"
            files = [path for path in folder.rglob("*") if path.is_file()]
            siblings = [{"rfilename": str(path.relative_to(folder)), "size": path.stat().st_size} for path in files]
            return self.answer(200, {"id": found[1], "sha": OID, "siblings": siblings, "private": True})
        private = not (FOLDER / "is-public").exists()
        return self.answer(200, {"id": "me/student", "sha": OID, "siblings": [], "private": private})

    do_HEAD = do_GET

    def give(self, path):
        if not path.is_file():
            return self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        content = path.read_bytes()
        size = {"Content-Length": str(len(content)), "X-Repo-Commit": OID, "ETag": f'"{path.name}"'}
        self.send_response(200)
        for name, value in size.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":  # for everyone, as theirs
            return self.answer(200, {})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            (FOLDER / "created.json").write_bytes(sent)
            name = f"me/{json.loads(sent)['name']}"
            return self.answer(200, {"name": name, "url": f"http://{self.headers['Host']}/{name}"})
        if "/branch/" in self.path:
            return self.answer(200, {})
        if "/preupload/" in self.path:
            paths = [one["path"] for one in json.loads(sent)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            return self.answer(200, {"files": files})
        if found := re.search(r"/api/(?:models|datasets)/(.+)/commit/(.+)", self.path):
            return self.commit(sent, FOLDER / found[1] / found[2], f"{found[1]}/commit/{OID}")
        return self.answer(404, {"error": self.path})

    def commit(self, sent, folder, place):
        if (FOLDER / "is-full").exists():
            return self.answer(403, {"error": "Storage limit reached."})
        for line in map(json.loads, sent.splitlines()):
            if line["key"] == "file":
                path = folder / line["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(line["value"]["content"]))
            elif line["key"] == "deletedFile":
                (folder / line["value"]["path"]).unlink()
        url = f"http://{self.headers['Host']}/{place}"
        return self.answer(200, {"commitUrl": url, "commitOid": OID, "pullRequestUrl": None})

    def answer(self, status, value, headers=None):
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
