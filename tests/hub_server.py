"""A server on this machine that speaks the parts of the Hub's API that `huggingface_hub` uses to publish and to load.

Every file is uploaded in plain ("regular") mode: no LFS, no Xet. Commits are numbered, their files kept in memory.
"""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

OWNER = "tester"
TOKEN = "hf_dummy"


@dataclass
class Repo:
    """Files of a model or dataset by path, and the messages of its commits."""

    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(len(self.messages)).encode()).hexdigest()


class HubServer(ThreadingHTTPServer):
    """`with HubServer() as hub:` serves at `hub.url`; `hub.repos` holds what was pushed, by id."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.unknown_requests: list[str] = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = self._body()
        parts = self._parts()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, 401)
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo_id = f"{asked.get('organization') or OWNER}/{asked['name']}"
            known = repo_id in self.server.repos
            self.server.repos.setdefault(repo_id, Repo())
            return self._json({"url": f"{self.server.url}/{repo_id}", "id": repo_id}, 409 if known else 200)
        if parts == ["api", "validate-yaml"]:
            ok = json.loads(body)["content"].startswith("---\n")
            return self._json(
                {"errors": [] if ok else [{"message": "no metadata"}], "warnings": []}, 200 if ok else 400
            )
        if parts[:2] == ["api", "datasets"] and parts[4:5] == ["paths-info"]:
            repo = self._repo(parts[2:4])
            asked = [unquote(part.partition("=")[2].replace("+", " ")) for part in body.decode().split("&")]
            return self._json([entry for entry in _entries(repo, "") if entry["path"] in asked] if repo else [])
        if parts[:2] == ["api", "models"] and (repo := self._repo(parts[2:4])) is not None:
            if parts[4] == "preupload":
                paths = [asked["path"] for asked in json.loads(body)["files"]]
                answer = [
                    {"path": path, "uploadMode": "regular", "shouldIgnore": False, "oid": _oid(repo.files.get(path))}
                    for path in paths
                ]
                return self._json({"files": answer})
            if parts[4] == "commit":
                for line in map(json.loads, body.decode().splitlines()):
                    if line["key"] == "header":
                        repo.messages.append(line["value"]["summary"])
                    else:
                        assert line["key"] == "file", line
                        repo.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                url = f"{self.server.url}/{'/'.join(parts[2:4])}/commit/{repo.sha}"
                return self._json({"success": True, "commitUrl": url, "commitOid": repo.sha})
        return self._unknown()

    def do_GET(self):
        parts = self._parts()
        if parts == ["api", "whoami-v2"]:
            return self._json({"name": OWNER, "type": "user", "orgs": []})
        if parts[:1] == ["datasets"]:
            parts = parts[1:]
        if parts[:2] in (["api", "models"], ["api", "datasets"]) and len(parts) >= 4:
            repo = self._repo(parts[2:4])
            if repo is None:
                return self._missing("RepoNotFound")
            if parts[4:5] == ["tree"]:
                folder = "".join(f"{part}/" for part in parts[6:])
                if entries := _entries(repo, folder):
                    return self._json(entries, sha=repo.sha)
                return self._missing("EntryNotFound", repo.sha)
            if parts[4:5] in ([], ["revision"]):
                siblings = [{"rfilename": path} for path in repo.files]
                return self._json({"id": "/".join(parts[2:4]), "sha": repo.sha, "siblings": siblings, "tags": []})
        if parts[2:3] == ["resolve"]:
            repo = self._repo(parts[:2])
            if repo is None:
                return self._missing("RepoNotFound")
            if (content := repo.files.get("/".join(parts[4:]))) is None:
                return self._missing("EntryNotFound", repo.sha)
            return self._send(content, sha=repo.sha)
        return self._unknown()

    do_HEAD = do_GET

    def _parts(self) -> list[str]:
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def _repo(self, names: list[str]) -> Repo | None:
        return self.server.repos.get("/".join(names))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _unknown(self) -> None:
        self.server.unknown_requests.append(f"{self.command} {self.path}")
        self._json({"error": f"this server does not know {self.path}"}, 404)

    def _missing(self, code: str, sha: str | None = None) -> None:
        self._send(b"", 404, sha, code)

    def _json(self, content: Any, status: int = 200, sha: str | None = None) -> None:
        self._send(json.dumps(content).encode(), status, sha)

    def _send(self, content: bytes, status: int = 200, sha: str | None = None, error: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{_oid(content)}"')
        if sha is not None:
            self.send_header("X-Repo-Commit", sha)
        if error is not None:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(repo: Repo, folder: str) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
        for path, content in repo.files.items()
        if path.startswith(folder)
    ]


def _oid(content: bytes | None) -> str | None:
    """Git's hash of a file."""
    return None if content is None else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
