"""A small hub on this machine: as much of the hub's HTTP API as `datasets` and `huggingface_hub` use to read and to push.

Repositories live in memory. A commit replaces the whole tree at once, as the real hub does; large files arrive before it,
unseen. `faults` lets a test play a hub that is busy, refuses, or breaks off.
"""

import base64
import hashlib
import http.server
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The commit of every data set's main branch."""
EXPORT = "refs/convert/parquet"
"""The branch where the hub keeps its own conversion of a data set: CONFIG/SPLIT/0000.parquet."""
EXPORTED = "89abcdef0123456789abcdef0123456789abcdef"
"""The commit of that branch, wherever there is one."""
GATED = 403
"""Of a data set whose terms must be accepted: everyone may list its files, and read none."""
LARGE = (".safetensors", ".gguf")
"""Files that go the way of large ones (LFS)."""
TOKEN = "hf_thisIsTheTokenOfATestAndOfNobody"


@dataclass
class Repository:
    """A model: its commits, newest last, each the whole tree."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=lambda: [("0" * 40, {})])
    titles: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    def tree(self, revision: str) -> dict[str, bytes] | None:
        wanted = self.head if revision == "main" else revision
        return next((files for commit, files in self.commits if commit == wanted), None)


@dataclass
class State:
    """What the hub holds, and what it was asked."""

    datasets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    exports: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The hub's own conversions of some data sets."""
    status: dict[str, int] = field(default_factory=dict)
    """Data sets that are refused with a status."""
    models: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    """Large files that arrived, by sha256."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    faults: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    """(pattern of `METHOD path`, status, headers): the next request that matches is answered so, once; 0 breaks off."""
    token: str = TOKEN

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, f"{method} {path}")) for method, path in self.asked)


class Hub(http.server.BaseHTTPRequestHandler):
    """One request."""

    state: State
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # headers and body are two writes: the second would wait 40 ms for the first's receipt
    )

    def do_GET(self):
        self.serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def serve(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            self.body = b"".join(iter(self.chunk, b""))
        self.plain = self.path.partition("?")[0]
        self.state.asked.append((self.command, self.plain))
        for place, (pattern, status, headers) in enumerate(self.state.faults):
            if re.search(pattern, f"{self.command} {self.plain}"):
                del self.state.faults[place]
                if status == 0:
                    self.close_connection = True
                    return self.connection.close()
                return self.answer({"error": "as the test wants"}, status, headers)
        if "/datasets/" in self.plain:
            return self.dataset()
        return self.model()

    def chunk(self) -> bytes:
        size = int(self.rfile.readline().strip() or b"0", 16)
        content = self.rfile.read(size)
        self.rfile.readline()
        return content

    # ------------------------------------------------------------ data sets, to read

    def dataset(self):
        found = re.fullmatch(
            r"/(?:api/)?datasets/([\w.-]+/[\w.-]+?)(?:/(resolve|tree|revision|paths-info)/([\w.-]+)/?(.*))?",
            self.plain.replace("refs%2Fconvert%2Fparquet", EXPORTED),
        )
        name, what, revision, path = (
            (found[1], found[2], found[3], unquote(found[4] or "")) if found else ("", "", "", "")
        )
        if name in self.state.status and (self.state.status[name] != GATED or what == "resolve"):
            status = self.state.status[name]
            return self.answer(b"{}", status, {"X-Error-Code": "GatedRepo"} if status == GATED else None)
        if name not in self.state.datasets:
            return self.answer(b"", 404, {"X-Error-Code": "RepoNotFound"})
        branches = {COMMIT: self.state.datasets[name]}
        if name in self.state.exports:
            branches[EXPORTED] = self.state.exports[name]
        commit = COMMIT if revision in (None, "main") else revision
        if commit not in branches:
            return self.answer(b"", 404, {"X-Error-Code": "RevisionNotFound"})
        files = branches[commit]
        if what == "resolve" and path in files:
            return self.file(files[path], commit)
        if what == "tree" and (not path or any(each.startswith(f"{path}/") for each in files)):
            found = listing(files, path)
            if "recursive=true" not in self.path.lower():
                found = [it for it in found if "/" not in str(it["path"])[len(path) :].lstrip("/")]
            return self.answer(found)
        if what == "paths-info":
            asked = parse_qs(self.body.decode()).get("paths") or json.loads(self.body or b"{}").get("paths", [])
            return self.answer([it for each in asked for it in listing(files) if it["path"] == each])
        if what in (None, "revision"):
            there = [{"rfilename": each} for each in files]
            return self.answer({"id": name, "sha": commit, "siblings": there, "tags": []})
        return self.answer(b"", 404)

    # ------------------------------------------------------------ models, to push

    def model(self):
        if self.plain.startswith("/large/"):  # an address that the hub signed: it asks for no token
            self.state.large[self.plain.rpartition("/")[2]] = self.body
            return self.answer(b"")
        if self.headers.get("Authorization") != f"Bearer {self.state.token}" and not self.public():
            return self.answer({"error": "Invalid username or password."}, 401)
        if self.plain == "/api/repos/create":
            return self.create(json.loads(self.body))
        if self.plain == "/api/validate-yaml":  # of the card
            return self.answer({"errors": [], "warnings": []})
        found = re.fullmatch(
            r"/(?:api/models/)?([\w.-]+/[\w.-]+?)(?:\.git/info/lfs/objects/batch|/(\w+)/([\w.-]+)(?:/(.*))?)?",
            self.plain,
        )
        repository = self.state.models.get(found[1]) if found else None
        if found is None or repository is None:
            return self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if self.plain.endswith("/objects/batch"):
            return self.batch(json.loads(self.body))
        verb = {"preupload": self.preupload, "commit": self.commit, "tree": self.tree, "resolve": self.resolve}
        if found[2] in verb:
            return verb[found[2]](repository, found[1], found[3], found[4] or "")
        return self.told(repository, found)

    def told(self, repository, found):
        commit = repository.head if found[3] in (None, "main") else found[3]
        if repository.tree(commit) is None:
            return self.answer({"error": "no such revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
        return self.answer({"id": found[1], "sha": commit, "private": repository.private, "siblings": [], "tags": []})

    def public(self) -> bool:
        """Whether this only reads a repository that everyone may read."""
        names = [name for name, it in self.state.models.items() if not it.private]
        read = self.command in ("GET", "HEAD")
        return read and any(re.match(rf"/(?:api/models/)?{re.escape(name)}(?:/|$)", self.plain) for name in names)

    def create(self, asked):
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        private = asked.get("private") or asked.get("visibility") == "private"
        if name.startswith("nobody/"):
            return self.answer({"error": "no such organization"}, 404, {"X-Error-Code": "RepoNotFound"})
        status = 409 if name in self.state.models else 200
        self.state.models.setdefault(name, Repository(bool(private)))
        return self.answer(
            {"url": f"http://127.0.0.1:{self.server.server_port}/{name}", "name": name, "id": name}, status
        )

    def preupload(self, _repository, _name, _revision, _path):
        files = json.loads(self.body)["files"]
        modes = [
            {
                "path": it["path"],
                "uploadMode": "lfs" if it["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for it in files
        ]
        self.answer({"files": modes})

    def batch(self, asked):
        objects = []
        for it in asked["objects"]:
            href = f"http://127.0.0.1:{self.server.server_port}/large/{it['oid']}"
            new = (
                {}
                if it["oid"] in self.state.large
                else {"actions": {"upload": {"href": href, "header": {"Authorization": "-"}}}}
            )
            objects.append({"oid": it["oid"], "size": it["size"], **new})
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, repository, name, _revision, _path):
        lines = [json.loads(line) for line in self.body.splitlines()]
        head = next(line["value"] for line in lines if line["key"] == "header")
        if head.get("parentCommit") not in (None, repository.head):
            return self.answer({"error": "A commit has happened since. Please refresh and try again."}, 412)
        files = dict(repository.tree("main"))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.state.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = hashlib.sha1(self.body, usedforsecurity=False).hexdigest()
        repository.commits.append((commit, files))
        repository.titles.append(head["summary"])
        return self.answer(
            {"success": True, "commitOid": commit, "commitUrl": f"http://127.0.0.1/{name}/commit/{commit}"}
        )

    def tree(self, repository, _name, revision, _path):
        files = repository.tree(revision)
        if files is None:
            return self.answer({"error": "no such revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
        entries = []
        for path, content in files.items():
            sha256 = hashlib.sha256(content).hexdigest()
            lfs = {"lfs": {"oid": sha256, "size": len(content), "pointerSize": 130}} if path.endswith(LARGE) else {}
            entries.append({"type": "file", "path": path, "size": len(content), "oid": blob(content), **lfs})
        return self.answer(entries)

    def resolve(self, repository, _name, revision, path):
        files = repository.tree(revision) or {}
        if path in files:
            return self.file(files[path], repository.head if revision == "main" else revision)
        return self.answer({"error": "no such file"}, 404, {"X-Error-Code": "EntryNotFound"})

    # ------------------------------------------------------------ answers

    def file(self, content, commit):
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first, last = (int(part[1]), int(part[2] or len(content) - 1)) if part else (0, len(content) - 1)
        more = {"Content-Range": f"bytes {first}-{last}/{len(content)}"} if part else {}
        headers = {"ETag": f'"{blob(content)}"', "X-Repo-Commit": commit, **more}
        self.answer(content[first : last + 1], 206 if part else 200, headers)

    def answer(self, content, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        more = {"X-Error-Code": "EntryNotFound"} if status == 404 and re.search("resolve|tree", self.path) else {}
        for name, value in {"Content-Length": str(len(body)), **more, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def listing(files: dict[str, bytes], below: str = "") -> list[dict[str, object]]:
    """All folders and files of a tree, or of one of its folders, as the hub lists them recursively."""
    inside = [path for path in files if not below or path.startswith(f"{below}/")]
    folders = {path[:place] for path in inside for place, sign in enumerate(path) if sign == "/" and place > len(below)}
    found = [{"type": "directory", "path": path, "oid": COMMIT} for path in sorted(folders)]
    return found + [
        {"type": "file", "path": path, "size": len(files[path]), "oid": blob(files[path])} for path in inside
    ]


def blob(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def hub(state: State):
    """A hub that runs while the context is open; gives its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Hub,), {"state": state}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
