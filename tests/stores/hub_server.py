"""A small Hugging Face Hub on 127.0.0.1: the part of its HTTP API that pushing and fetching use.

Repositories with one branch and tags, of models and of data sets, public, private or gated, regular files in commits, large files by
LFS behind a redirect to another origin (as to the Hub's CDN), tokens, paginated trees, ranges.
Written from the calls that huggingface_hub makes, without its code. `Faults` says what goes wrong
on purpose.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_writer"
LFS_FROM_BYTES = 10_000_000
PAGE_ENTRIES = 2
SLICE_BYTES = 1 << 16


@dataclass(frozen=True)
class Blob:
    """One file of a commit; its bytes lie under `digest` (SHA-256)."""

    digest: str
    size_bytes: int
    git_oid: str
    is_lfs: bool

    @property
    def etag(self) -> str:
        return self.digest if self.is_lfs else self.git_oid

    def entry(self, path: str) -> dict[str, Any]:
        lfs = {"oid": self.digest, "size": self.size_bytes, "pointerSize": 134}
        entry = {"type": "file", "path": path, "size": self.size_bytes, "oid": self.git_oid}
        return {**entry, "lfs": lfs} if self.is_lfs else entry


@dataclass
class Repository:
    """Commits by oid, each a whole tree; `head` is the last one. `names` are its tags.

    `access`: `public`; `private`, where it is as if it were not there without a token; `gated`,
    where its owner must have let the reader in, and has not.
    """

    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    head: str = ""
    names: dict[str, str] = field(default_factory=dict)
    access: str = "public"

    def commit_of(self, revision: str) -> str:
        return self.head if revision == "main" else self.names.get(revision, revision)

    def tree(self, revision: str) -> dict[str, Blob] | None:
        return self.commits.get(self.commit_of(revision))

    def commit(self, tree: dict[str, Blob]) -> str:
        told = json.dumps([self.head, {path: blob.digest for path, blob in tree.items()}])
        self.head = hashlib.sha1(told.encode()).hexdigest()
        self.commits[self.head] = tree
        return self.head


@dataclass
class Faults:
    """By file name: other bytes to serve, after how many bytes to cut, how often; ranges ignored.

    `status`, of paths that end with `fails_at`, `calls_left` times. `drip_seconds`: a pause after
    each byte of a file.
    """

    other_bytes: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, int] = field(default_factory=dict)
    cuts_left: int = 0
    ignores_ranges: bool = False
    silent_seconds: float = 0.0
    status: int = 0
    fails_at: str = ""
    calls_left: int = 1 << 30
    drip_seconds: float = 0.0


@dataclass(frozen=True)
class Heard:
    """One request. `range_from` is the first byte asked for."""

    method: str
    path: str
    range_from: int
    has_token: bool


class HubServer:
    """Serves in threads until `close`; `url` is its endpoint, `heard` what was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.repositories: dict[str, Repository] = {}
        self.faults = Faults()
        self.heard: list[Heard] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        # Another host name is another origin: a token must not follow a redirect there.
        self.cdn_url = f"http://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def forget(self) -> None:
        """No faults, and nothing heard."""
        self.faults = Faults()
        self.heard.clear()

    def downloads(self) -> list[tuple[str, int]]:
        """(file name, first byte asked for) of each GET of a file, redirects counted once."""
        found = [(re.search(r"/resolve/[0-9a-z]+/(.+)$", h.path), h) for h in self.heard]
        return [(match[1], h.range_from) for match, h in found if match and h.method == "GET"]

    def put(self, data: bytes, *, is_lfs: bool) -> Blob:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        git_oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return Blob(digest, len(data), git_oid, is_lfs)

    def add(self, name: str, files: dict[str, bytes]) -> str:
        """A commit made by hand, as a repository's owner could; its oid."""
        repository = self.repositories.setdefault(name, Repository())
        tree = {path: self.put(data, is_lfs=False) for path, data in files.items()}
        return repository.commit(tree)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """The test looks at `heard` instead."""

    def do_GET(self) -> None:
        self._dispatch()

    def do_HEAD(self) -> None:
        self._dispatch()

    def do_POST(self) -> None:
        self._dispatch()

    def do_PUT(self) -> None:
        self._dispatch()

    def _dispatch(self) -> None:
        address = urlsplit(self.path)
        path, token = unquote(address.path), self.headers.get("Authorization", "")
        self.query = parse_qs(address.query)
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        self.start = int(start[1]) if start else 0
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.heard.append(Heard(self.command, path, self.start, bool(token)))
        if self.hub.faults.silent_seconds:
            time.sleep(self.hub.faults.silent_seconds)
            self.close_connection = True
            return
        faults = self.hub.faults
        if faults.status and path.endswith(faults.fails_at) and faults.calls_left:
            faults.calls_left -= 1
            return self._json({"error": "on purpose"}, status=faults.status)
        writes = self.command == "POST" and path != "/api/validate-yaml"
        if token not in ("", f"Bearer {TOKEN}") or (writes and not token):
            return self._json({"error": "Invalid username or password."}, status=401)
        with self.hub.lock:
            found = self._find(path)
        if found is None:
            return self._json({"error": "Not found"}, status=404)
        found()

    def _find(self, path: str) -> Callable[[], None] | None:
        for verb, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in verb:
                return lambda: answer(self, *match.groups())
        return None

    def _json(self, table: Any, *, status: int = 200, link: str = "", code: str = "") -> None:
        data = json.dumps(table).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if link:
            self.send_header("Link", f'<{link}>; rel="next"')
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self._json({"url": f"{self.hub.url}/{name}"}, status=409)
        repository = self.hub.repositories.setdefault(name, Repository())
        repository.commit({".gitattributes": self.hub.put(b"*.bin filter=lfs\n", is_lfs=False)})
        self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def validate_yaml(self) -> None:
        self._json({"warnings": [], "errors": []})

    def preupload(self, name: str, revision: str) -> None:
        tree = self.hub.repositories[name].tree(revision) or {}
        modes = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            mode = "lfs" if file["size"] > LFS_FROM_BYTES else "regular"
            oid = tree[path].etag if path in tree else None
            modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": modes})

    def batch(self, name: str) -> None:
        objects = []
        for asked in json.loads(self.body)["objects"]:
            oid = asked["oid"]
            upload = {"href": f"{self.hub.url}/lfs/{oid}"}
            verify = {"href": f"{self.hub.url}/{name}.git/info/lfs/objects/verify"}
            is_new = not (self.hub.folder / oid).exists()
            actions = {"actions": {"upload": upload, "verify": verify}} if is_new else {}
            objects.append({"oid": oid, "size": asked["size"], **actions})
        self._json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        blob = self.hub.put(self.body, is_lfs=True)
        self._json({}, status=200 if blob.digest == oid else 400)

    def verify(self, name: str) -> None:
        asked = json.loads(self.body)
        path = self.hub.folder / asked["oid"]
        is_here = path.exists() and path.stat().st_size == asked["size"]
        self._json({}, status=200 if is_here else 404)

    def commit(self, name: str, revision: str) -> None:
        repository = self.hub.repositories[name]
        tree = dict(repository.tree(revision) or {})
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header" and value.get("parentCommit", repository.head) != (
                repository.head
            ):
                told = "A commit has happened since. Please refresh and try again."
                return self._json({"error": told}, status=412)
            if item["key"] == "file":
                tree[value["path"]] = self.hub.put(base64.b64decode(value["content"]), is_lfs=False)
            elif item["key"] == "deletedFile":
                del tree[value["path"]]
            elif item["key"] == "lfsFile":
                data = (self.hub.folder / value["oid"]).read_bytes()
                tree[value["path"]] = self.hub.put(data, is_lfs=True)
        oid = repository.commit(tree)
        self._json({"commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def tag(self, name: str, revision: str) -> None:
        repository, tag = self.hub.repositories[name], json.loads(self.body)["tag"]
        if tag in repository.names:
            return self._json({"error": "Tag reference exists already"}, status=409)
        repository.names[tag] = repository.commit_of(revision)
        self._json({})

    def info(self, name: str, revision: str = "main") -> None:
        tree = self._tree(name, revision)
        if tree is not None:
            sha = self.hub.repositories[name].commit_of(revision)
            self._json({"id": name, "sha": sha, "siblings": [{"rfilename": p} for p in tree]})

    def list_tree(self, name: str, revision: str, folder: str | None = None) -> None:
        """The files of a folder and of those below it; folders themselves are not listed."""
        tree = self._tree(name, revision)
        if tree is None:
            return
        prefix = f"{folder}/" if folder else ""
        paths = sorted(path for path in tree if path.startswith(prefix))
        first = int(self.query.get("cursor", ["0"])[0])
        last = first + PAGE_ENTRIES
        page = [tree[path].entry(path) for path in paths[first:last]]
        here = urlsplit(self.path).path
        more = f"{self.hub.url}{here}?recursive=true&cursor={last}"
        self._json(page, link=more if last < len(paths) else "")

    def _tree(self, name: str, revision: str) -> dict[str, Blob] | None:
        repository = self.hub.repositories.get(name)
        if repository and repository.access == "gated":
            told = "Access to this model is restricted. You must be authenticated to access it."
            self._json({"error": told}, status=403, code="GatedRepo")
            return None
        if repository and repository.access == "private" and not self.headers["Authorization"]:
            repository = None
        tree = repository.tree(revision) if repository else None
        if tree is None:
            code = "RevisionNotFound" if repository else "RepoNotFound"
            self._json({"error": code}, status=404 if repository else 401, code=code)
        return tree

    def resolve(self, name: str, revision: str, path: str) -> None:
        tree = self._tree(name, revision)
        if tree is None:
            return
        blob = tree.get(path)
        if blob is None:
            return self._json({"error": "Entry not found"}, status=404, code="EntryNotFound")
        commit = self.hub.repositories[name].commit_of(revision)
        headers = {"X-Repo-Commit": commit, "X-Linked-Etag": f'"{blob.etag}"'}
        headers |= {"X-Linked-Size": str(blob.size_bytes), "ETag": f'"{blob.etag}"'}
        if not blob.is_lfs:
            return self._file(path, (self.hub.folder / blob.digest).read_bytes(), headers)
        self.send_response(302)
        location = f"{self.hub.cdn_url}/cdn/{blob.digest}/{path}"
        for key, value in {**headers, "Location": location, "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()

    def content(self, digest: str, path: str) -> None:
        data = (self.hub.folder / digest).read_bytes()
        self._file(path, data, {"ETag": f'"{digest}"'})

    def _file(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        faults = self.hub.faults
        data = faults.other_bytes.get(path, data)
        start = 0 if faults.ignores_ranges else self.start
        if start and start >= len(data):
            return self._json({"error": "range"}, status=416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        headers = {**headers, "Content-Length": str(len(data) - start), "Accept-Ranges": "bytes"}
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send(path, data[start:])

    def _send(self, path: str, data: bytes) -> None:
        faults, cut = self.hub.faults, len(data)
        if path in faults.cut_after and faults.cuts_left:
            faults.cuts_left -= 1
            cut = faults.cut_after[path]
            self.close_connection = True
        step = 1 if faults.drip_seconds else SLICE_BYTES
        for first in range(0, cut, step):
            time.sleep(faults.drip_seconds)
            try:
                self.wfile.write(data[first : min(first + step, cut)])
            except OSError:
                # The store hung up: that is what a test of a limit wants.
                self.close_connection = True
                return


_KIND = "(?:models|datasets)"
_NAME = r"([\w.-]+/[\w.-]+)"
_REVISION = r"([\w.-]+)"
_ROUTES: list[tuple[tuple[str, ...], str, Callable[..., None]]] = [
    (("POST",), r"/api/repos/create", _Handler.create),
    (("POST",), r"/api/validate-yaml", _Handler.validate_yaml),
    (("POST",), rf"/api/models/{_NAME}/preupload/{_REVISION}", _Handler.preupload),
    (("POST",), rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (("POST",), rf"/{_NAME}\.git/info/lfs/objects/verify", _Handler.verify),
    (("PUT",), r"/lfs/([0-9a-f]{64})", _Handler.upload),
    (("POST",), rf"/api/models/{_NAME}/commit/{_REVISION}", _Handler.commit),
    (("POST",), rf"/api/models/{_NAME}/tag/{_REVISION}", _Handler.tag),
    (("GET",), rf"/api/{_KIND}/{_NAME}", _Handler.info),
    (("GET",), rf"/api/{_KIND}/{_NAME}/revision/{_REVISION}", _Handler.info),
    (("GET",), rf"/api/{_KIND}/{_NAME}/tree/{_REVISION}(?:/(.+))?", _Handler.list_tree),
    (("GET", "HEAD"), rf"/(?:datasets/)?{_NAME}/resolve/{_REVISION}/(.+)", _Handler.resolve),
    (("GET", "HEAD"), r"/cdn/([0-9a-f]{64})/(.+)", _Handler.content),
]
