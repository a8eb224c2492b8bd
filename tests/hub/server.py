"""A small Hub on loopback, in memory: as much of its HTTP interface as huggingface_hub calls without Xet.

Repositories of models with branches and commits, regular and large files, uploads in one part or several, downloads
with ranges, tokens, private repositories. It can break connections, to see what the client makes of that.
"""

import base64
import hashlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITER, READER, STRANGER = "hf_writer", "hf_reader", "hf_stranger"


@dataclass(frozen=True)
class Blob:
    """The content of a file."""

    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def git_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def oid(self) -> str:
        """What the client compares with its own file."""
        return self.sha256 if self.large else self.git_id


@dataclass
class Repository:
    """Commits are trees by id; branches are names of commits."""

    name: str
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, tree: dict[str, Blob], message: str) -> str:
        """Id of a new commit."""
        self.messages.append(message)
        oid = hashlib.sha1(f"{self.name} {len(self.messages)}".encode()).hexdigest()
        self.commits[oid] = tree
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str:
        """Id of the commit that a branch or a commit id means."""
        oid = self.branches.get(revision, revision)
        if oid not in self.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    @property
    def files(self) -> dict[str, bytes]:
        """Those of the main branch."""
        return {path: blob.data for path, blob in self.commits[self.branches["main"]].items()}


class HubError(Exception):
    """An answer with an error code of the Hub."""

    def __init__(self, status: int, code: str = "", message: str = ""):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class HubServer(ThreadingHTTPServer):
    """Serves on a free port; `with HubServer() as hub: …`.

    Attributes:
        repositories: by full name.
        requests: "METHOD path" of every request, in order, with the range that it asks for.
        leaked_tokens: how many requests for large files, which are elsewhere, came with a token.
        part_size: bytes of the parts that large files are uploaded in; `None` for one part.
        cut_uploads: how many of the next uploads break off half way.
        cut_downloads: how many of the next downloads of large files break off near their end.
        stall: where given, uploads beyond the first wait for it: an upload without end.
    """

    daemon_threads = True
    roles = {WRITER: "write", READER: "read", STRANGER: "write"}
    members = {WRITER, READER}

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.requests: list[str] = []
        self.leaked_tokens = 0
        self.part_size: int | None = None
        self.cut_uploads = self.cut_downloads = 0
        self.stall: threading.Event | None = None
        self.stalled = threading.Event()
        self.lock = threading.RLock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are part of the tests."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def storage_url(self) -> str:
        """Large files are elsewhere, under another name of the host: the client must not send its token there."""
        return f"http://localhost:{self.server_address[1]}/objects"

    def count(self, pattern: str) -> int:
        """How many requests match a regular expression."""
        return sum(bool(re.search(pattern, request)) for request in self.requests)

    @contextmanager
    def running(self) -> Iterator["HubServer"]:
        """Serve in a thread for the duration of a `with` block."""
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


def route(method: str, pattern: str) -> Callable:
    """Mark a method of the handler as the answer to requests."""

    def mark(function: Callable) -> Callable:
        ROUTES.append((method, re.compile(pattern + "$"), function))
        return function

    return mark


ROUTES: list[tuple[str, re.Pattern, Callable]] = []
NAME = r"(?P<name>[^/]+/[^/]+?)"
REVISION = r"(?P<revision>[^/]+)"


class Handler(BaseHTTPRequestHandler):
    """Answers one request after the other on a connection."""

    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        self.dispatch("GET")

    def do_HEAD(self) -> None:
        self.dispatch("HEAD")

    def do_POST(self) -> None:
        self.dispatch("POST")

    def do_PUT(self) -> None:
        self.dispatch("PUT")

    def dispatch(self, method: str) -> None:
        """Find the route and turn failures into answers."""
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        self.body = b"" if method == "PUT" else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{method} {address.path} {self.headers.get('Range', '')}".strip())
        if address.path.startswith("/objects/") and self.token:
            self.server.leaked_tokens += 1
        for known, pattern, function in ROUTES:
            match = pattern.match(address.path)
            if match and method in known.split("|"):
                try:
                    function(self, **{name: unquote(value) for name, value in match.groupdict().items()})
                except HubError as failure:
                    headers = {"X-Error-Code": failure.code, "X-Error-Message": failure.message}
                    self.reply(failure.status, json.dumps({"error": failure.message}).encode(), headers)
                return
        self.reply(501, f"the test server does not know {method} {self.path}".encode())

    def reply(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def reply_json(self, content: Any, status: int = 200) -> None:
        self.reply(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def check_writer(self) -> None:
        """Only members of the organisation with the right role may change anything."""
        if self.token not in self.server.roles:
            raise HubError(401, "", "Invalid credentials in Authorization header")
        if self.server.roles[self.token] != "write" or self.token not in self.server.members:
            raise HubError(403, "", "you don't have the rights to write in this namespace")

    def repository(self, name: str) -> Repository:
        """One that exists and that the token may see; the Hub does not tell the two apart."""
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and self.token not in self.server.members):
            raise HubError(404 if self.token in self.server.roles else 401, "RepoNotFound", "Repository not found")
        return repository

    # Users and repositories

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> None:
        if self.token not in self.server.roles:
            raise HubError(401, "", "Invalid username or password.")
        role = self.server.roles[self.token]
        orgs = [{"name": "org"}] if self.token in self.server.members else []
        self.reply_json({"type": "user", "name": "tester", "orgs": orgs, "auth": {"accessToken": {"role": role}}})

    @route("POST", "/api/repos/create")
    def create_repository(self) -> None:
        self.check_writer()
        wanted = json.loads(self.body)
        name = f"{wanted['organization'] or 'tester'}/{wanted['name']}"
        answer = {"url": f"{self.server.url}/{name}", "id": name}
        with self.server.lock:
            if name in self.server.repositories:
                self.reply_json({**answer, "error": "You already created this model repo"}, 409)
                return
            repository = Repository(name, private=wanted.get("visibility") == "private")
            repository.commit("main", {".gitattributes": Blob(b"*.safetensors filter=lfs\n", False)}, "initial commit")
            self.server.repositories[name] = repository
        self.reply_json(answer)

    @route("POST", f"/api/models/{NAME}/branch/{REVISION}")
    def create_branch(self, name: str, revision: str) -> None:
        self.check_writer()
        repository = self.repository(name)
        if revision in repository.branches:
            raise HubError(409, "", "Reference already exists")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repository.branches[revision] = repository.resolve(start)
        self.reply_json({}, 201)

    @route("GET", f"/api/models/{NAME}/refs")
    def refs(self, name: str) -> None:
        branches = [
            {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": oid}
            for branch, oid in self.repository(name).branches.items()
        ]
        self.reply_json({"branches": branches, "converts": [], "tags": [], "pullRequests": []})

    @route("GET", f"/api/models/{NAME}")
    def main_info(self, name: str) -> None:
        self.info(name, "main")

    @route("GET", f"/api/models/{NAME}/revision/{REVISION}")
    def info(self, name: str, revision: str) -> None:
        repository = self.repository(name)
        oid = repository.resolve(revision)
        siblings = [{"rfilename": path} for path in repository.commits[oid]]
        self.reply_json(
            {"id": name, "modelId": name, "sha": oid, "private": repository.private, "siblings": siblings, "tags": []}
        )

    @route("GET", f"/api/models/{NAME}/tree/{REVISION}")
    def tree(self, name: str, revision: str) -> None:
        repository = self.repository(name)
        entries = []
        for path, blob in repository.commits[repository.resolve(revision)].items():
            entry = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.git_id}
            large = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 134}
            entries.append({**entry, "lfs": large} if blob.large else entry)
        self.reply_json(entries)

    # Uploads

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> None:
        metadata = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        try:
            valid = metadata is not None and isinstance(yaml.safe_load(metadata.group(1)), dict)
        except yaml.YAMLError:
            valid = False
        errors = [] if valid else [{"message": "no metadata"}]
        self.reply_json({"errors": errors, "warnings": []}, 200 if valid else 400)

    @route("POST", f"/api/models/{NAME}/preupload/{REVISION}")
    def preupload(self, name: str, revision: str) -> None:
        self.check_writer()
        repository = self.repository(name)
        there = repository.commits[repository.resolve(revision)]
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": there[file["path"]].oid if file["path"] in there else None,
            }
            for file in json.loads(self.body)["files"]
        ]
        self.reply_json({"files": files})

    @route("POST", f"/{NAME}.git/info/lfs/objects/batch")
    def large_files(self, name: str) -> None:
        self.check_writer()
        self.repository(name)
        self.reply_json(
            {"transfer": "basic", "objects": [self.action(item) for item in json.loads(self.body)["objects"]]}
        )

    def action(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """What the client shall do with a large file."""
        oid, size, part_size = wanted["oid"], wanted["size"], self.server.part_size
        if oid in self.server.objects:
            return {"oid": oid, "size": size}
        url = f"{self.server.storage_url}/{oid}"
        upload: dict[str, Any] = {"href": url}
        if part_size is not None and size > part_size:
            count = -(-size // part_size)
            parts = {str(part): f"{url}/{part}" for part in range(1, count + 1)}
            upload = {"href": f"{url}/complete", "header": {"chunk_size": str(part_size), **parts}}
        return {
            "oid": oid,
            "size": size,
            "actions": {"upload": upload, "verify": {"href": f"{self.server.url}/verify/{oid}"}},
        }

    def read_upload(self) -> bytes:
        """The body of a PUT, unless it is to break off."""
        length = int(self.headers["Content-Length"])
        with self.server.lock:
            cut = self.server.cut_uploads > 0
            self.server.cut_uploads -= cut
        if self.server.stall is not None and self.server.objects:
            self.rfile.read(length // 2)
            self.server.stalled.set()
            self.server.stall.wait(60)
            cut = True
        if cut:
            self.rfile.read(length // 4)
            self.close_connection = True
            raise ConnectionAbortedError("the test wants this upload to break off")
        return self.rfile.read(length)

    @route("PUT", "/objects/(?P<oid>[0-9a-f]+)")
    def put_object(self, oid: str) -> None:
        self.store(oid, self.read_upload())
        self.reply(200)

    @route("PUT", "/objects/(?P<oid>[0-9a-f]+)/(?P<part>[0-9]+)")
    def put_part(self, oid: str, part: str) -> None:
        data = self.read_upload()
        self.server.parts[oid, int(part)] = data
        self.reply(200, headers={"ETag": hashlib.md5(data).hexdigest()})

    @route("POST", "/objects/(?P<oid>[0-9a-f]+)/complete")
    def complete(self, oid: str) -> None:
        parts = json.loads(self.body)["parts"]
        data = [self.server.parts[oid, part["partNumber"]] for part in parts]
        if [hashlib.md5(part).hexdigest() for part in data] != [part["etag"] for part in parts]:
            raise HubError(400, "", "parts do not match")
        self.store(oid, b"".join(data))
        self.reply_json({})

    @route("POST", "/verify/(?P<oid>[0-9a-f]+)")
    def verify(self, oid: str) -> None:
        if len(self.server.objects.get(oid, b"")) != json.loads(self.body)["size"]:
            raise HubError(400, "", "the object is not complete")
        self.reply_json({})

    def store(self, oid: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            raise HubError(400, "", "the data is not what its name says")
        self.server.objects[oid] = data

    @route("POST", f"/api/models/{NAME}/commit/{REVISION}")
    def commit(self, name: str, revision: str) -> None:
        self.check_writer()
        repository = self.repository(name)
        tree = dict(repository.commits[repository.resolve(revision)])
        message = ""
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                tree[value["path"]] = Blob(base64.b64decode(value["content"]), large=False)
            elif key == "lfsFile":
                if value["oid"] not in self.server.objects:
                    raise HubError(400, "", f"{value['path']} was not uploaded")
                tree[value["path"]] = Blob(self.server.objects[value["oid"]], large=True)
            elif key == "deletedFile":
                del tree[value["path"]]
        proposal = bool(self.query.get("create_pr"))
        oid = repository.commit(f"refs/pr/{len(repository.branches)}" if proposal else revision, tree, message)
        urls = {"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "pullRequestUrl": None}
        if proposal:
            urls["pullRequestUrl"] = f"{self.server.url}/{name}/discussions/{len(repository.branches) - 1}"
        self.reply_json({"success": True, "commitOid": oid, **urls})

    # Downloads

    @route("GET|HEAD", f"/{NAME}/resolve/{REVISION}/(?P<path>.+)")
    def resolve(self, name: str, revision: str, path: str) -> None:
        repository = self.repository(name)
        oid = repository.resolve(revision)
        blob = repository.commits[oid].get(path)
        if blob is None:
            # The client remembers for this commit that there is no such file.
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid}
            self.reply(404, b"", headers)
            return
        headers = {"X-Repo-Commit": oid, "ETag": f'"{blob.oid}"'}
        if blob.large:
            linked = {"X-Linked-ETag": f'"{blob.oid}"', "X-Linked-Size": str(len(blob.data))}
            self.reply(302, b"", {**headers, **linked, "Location": f"{self.server.storage_url}/{blob.oid}"})
        else:
            self.reply(200, blob.data, headers)

    @route("GET|HEAD", "/objects/(?P<oid>[0-9a-f]+)")
    def get_object(self, oid: str) -> None:
        data = self.server.objects[oid]
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked.group(1)) if asked else 0
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if asked else {}
        with self.server.lock:
            cut = self.server.cut_downloads > 0
            self.server.cut_downloads -= cut
        if cut:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) * 15 // 16])
            self.close_connection = True
        else:
            self.reply(206 if asked else 200, data[start:], headers)
