# Copyright 2026 The trl_latro authors. Licensed under the Apache License, Version 2.0 (see LICENSE).
"""
A Hub on this machine: the routes that a push takes, with repositories as folders, and with the ways a push fails; and those
by which what was pushed is read.
"""

import base64
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal


USER, TOKEN = "ann", "hf_secretOfAnn"

# What happens to a commit: a status that the Hub answers with, or a connection that ends without an answer
Failure = Literal[500, 401, "connection lost"]


class Hub(ThreadingHTTPServer):
    """
    Repositories of [`USER`], who shows [`TOKEN`]. What is committed lies in `folder/{repo_id}/{revision}`, `commits` are
    the messages, in order, and `private` says who may read. A commit to a repository in `failures` fails.
    """

    def __init__(self, folder: Path):
        super().__init__(("localhost", 0), _Handler)
        self.folder = folder
        self.endpoint = f"http://localhost:{self.server_port}"
        self.private: dict[str, bool] = {}
        self.commits: dict[str, list[str]] = {}
        self.failures: dict[str, Failure] = {}
        self.unknown: list[str] = []  # requests that no route is written for

    def files(self, repo_id: str, revision: str = "main") -> Path:
        return self.folder / repo_id / revision

    def environment(self, home: Path) -> dict[str, str]:
        """Variables with which a program takes this server for the Hub. Retries of huggingface_hub stay as they are."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    """A Hub that is reachable within the `with` block."""
    with Hub(folder) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        match self.path.split("?")[0].split("/")[1:]:
            case ["api", "whoami-v2"]:
                self._answer({"type": "user", "name": USER, "orgs": []})
            case ["api", "models", user, name]:
                self._answer(
                    {"id": f"{user}/{name}", "private": self.server.private[f"{user}/{name}"], "siblings": []}
                )
            case [user, name, "resolve", revision, *path]:
                self._resolve(self.server.files(f"{user}/{name}", revision).joinpath(*path))
            case ["api", "models", _, _, "tree", *_]:
                self._answer({"error": "no such folder"}, 404, {"X-Error-Code": "EntryNotFound"})
            case _:
                self._unknown()

    def do_HEAD(self) -> None:
        self.do_GET() if "/resolve/" in self.path else self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "Invalid credentials in Authorization header")
        match self.path.split("?")[0].split("/")[1:]:
            case ["api", "repos", "create"]:
                self._create(json.loads(body))
            case ["api", "validate-yaml"]:
                self._answer({"errors": [], "warnings": []})
            case ["api", "models", _, _, "preupload", _]:
                files = json.loads(body)["files"]
                modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
                self._answer({"files": modes})
            case ["api", "models", user, name, "commit", revision]:
                self._commit(f"{user}/{name}", revision, [json.loads(line) for line in body.splitlines()])
            case _:
                self._unknown()

    def _create(self, wanted: dict[str, Any]) -> None:
        repo_id = f"{wanted['organization'] or USER}/{wanted['name']}"
        url = f"{self.server.endpoint}/{repo_id}"
        if repo_id in self.server.private:
            return self._answer({"url": url, "error": "You already created this model repo"}, status=409)
        self.server.private[repo_id] = wanted.get("visibility") == "private"
        self.server.commits[repo_id] = []
        self._answer({"url": url, "id": repo_id})

    def _commit(self, repo_id: str, revision: str, lines: list[dict[str, Any]]) -> None:
        match self.server.failures.get(repo_id):
            case "connection lost":
                self.close_connection = True
                return
            case int(status):
                return self._refuse(
                    status, "Invalid credentials in Authorization header" if status == 401 else "Internal"
                )
        for line in lines:
            match line:
                case {"key": "header", "value": {"summary": summary}}:
                    self.server.commits[repo_id].append(summary)
                case {"key": "file", "value": {"path": path, "content": content, "encoding": "base64"}}:
                    file = self.server.files(repo_id, revision) / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(base64.b64decode(content))
                case _:
                    raise ValueError(f"a line of a commit that this Hub does not know: {line}")
        url = f"{self.server.endpoint}/{repo_id}/commit/{len(self.server.commits[repo_id]):040x}"
        self._answer({"commitUrl": url, "commitOid": url.split("/")[-1], "success": True})

    def _resolve(self, path: Path) -> None:
        headers = {"X-Repo-Commit": f"{1:040x}"}
        if not path.is_file():
            return self._answer({"error": "no such file"}, 404, {**headers, "X-Error-Code": "EntryNotFound"})
        self._send(path.read_bytes(), 200, {**headers, "ETag": f'"{zlib.crc32(path.read_bytes())}"'})

    def _refuse(self, status: int, message: str) -> None:
        self._answer({"error": message}, status, {"X-Error-Message": message})

    def _unknown(self) -> None:
        self.server.unknown.append(f"{self.command} {self.path}")
        self._refuse(404, "no such route")

    def _answer(self, content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), status, headers)

    def _send(self, body: bytes, status: int, headers: dict[str, str] | None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: by default every request is printed."""
