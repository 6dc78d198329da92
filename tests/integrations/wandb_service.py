"""A stand-in for the service of W&B on loopback, which records what it is sent; it was written from wandb's own client.

What it cannot show is what a dashboard makes of it.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HEALTHY, SLOW, REJECTING, HANGING = "healthy", "slow", "rejecting", "hanging"
SLOW_SECONDS = 2.0


@dataclass
class Run:
    """What the service knows of a run."""

    upserts: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))  # lines by their number
    arrivals: list[tuple[float, int]] = field(default_factory=list)  # (time, lines of history so far)
    exit_code: int | None = None
    uploaded: set[str] = field(default_factory=set)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of the curves, in order; raises `KeyError` for a gap."""
        lines = self.files["wandb-history.jsonl"]
        return [json.loads(lines[number]) for number in range(len(lines))]

    @property
    def summary(self) -> dict[str, Any]:
        """The last numbers."""
        lines = self.files["wandb-summary.json"]
        return json.loads(lines[max(lines)]) if lines else {}

    def told(self, name: str) -> Any:
        """A variable of the last upsert that has it."""
        found = [upsert[name] for upsert in self.upserts if upsert.get(name) is not None]
        return found[-1] if found else None


class Service:
    """The state of the service; `mode` may change while it runs."""

    def __init__(self, mode: str = HEALTHY) -> None:
        self.mode, self.lock = mode, threading.Lock()
        self.runs: dict[str, Run] = defaultdict(Run)
        self.keys: set[str] = set()
        self.requests: list[str] = []
        self.artifacts: dict[str, bytes] = {}
        self.url = ""
        self.closing = threading.Event()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL request."""
        match = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = match[1] if match else "unnamed"
        with self.lock:
            self.requests.append(operation)
            method = getattr(self, f"_{operation}", None)
            return method({**variables, **(variables.get("input") or {})}) if method else {}

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "viewer": {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
        }

    def _ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["name"] not in self.runs:
            return {"model": None}
        run = self.runs[asked["name"]]
        bucket = {
            "id": asked["name"], "name": asked["name"], "displayName": run.told("displayName"),
            "summaryMetrics": json.dumps(run.summary), "config": run.told("config") or "{}",
            "logLineCount": 0, "historyLineCount": len(run.history), "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in run.history[-1:]]), "eventsTail": "[]",
            "tags": run.told("tags"), "notes": None, "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip
        return {"model": {"id": "p", "name": "ablate", "entity": {"id": "e", "name": "me"}, "bucket": bucket}}

    def _UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("name") or asked["id"]
        is_new = name not in self.runs
        run = self.runs[name]
        run.upserts.append(asked)
        project = {"id": "p", "name": asked.get("project") or "ablate", "entity": {"id": "e", "name": "me"}}
        bucket = {
            "id": name, "name": name, "displayName": run.told("displayName"), "description": None,
            "config": asked.get("config") or "{}", "sweepName": None, "project": project,
            "historyLineCount": None,
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{asked['run']}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def _CreateArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        sequence = {"latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": "a", "state": "PENDING", "artifactSequence": sequence}}}

    def _CreateArtifactFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {
                "node": {
                    "storagePath": file["name"], "uploadUrl": f"{self.url}/upload/artifact/{file['name']}",
                    "uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": "a"},
                }
            }
            for file in asked["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _CreateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        file = {"id": "f", "uploadUrl": f"{self.url}/upload/artifact/manifest.json", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _UpdateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"updateArtifactManifest": self._CreateArtifactManifest(asked)["createArtifactManifest"]}

    def _CommitArtifact(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}

    def stream(self, name: str, told: dict[str, Any]) -> None:
        """Lines of a run's files, at their places."""
        with self.lock:
            self.requests.append("stream")
            run = self.runs[name]
            for file, part in (told.get("files") or {}).items():
                if part["offset"] == 0:  # a run that is sent anew replaces what was sent under its id
                    run.files[file].clear()
                for place, line in enumerate(part["content"], part["offset"]):
                    run.files[file][place] = line
            run.arrivals.append((time.time(), len(run.files["wandb-history.jsonl"])))
            if told.get("complete"):
                run.exit_code = told.get("exitcode")

    def upload(self, path: str, content: bytes) -> None:
        """A file of a run."""
        with self.lock:
            self.artifacts[path] = content
            owner, _, name = path.partition("/")
            if owner in self.runs:
                self.runs[owner].uploaded.add(name)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def do_POST(self) -> None:
        body = self._body()
        if self.service.mode == HANGING:
            self.service.closing.wait()
            return
        if self.service.mode == SLOW:
            self.service.closing.wait(SLOW_SECONDS)
        if self.service.mode == REJECTING:
            self._send(401, {"errors": [{"message": "user is not logged in"}], "error": "not logged in"})
            return
        if authorization := self.headers.get("Authorization"):
            self.service.keys.add(authorization)
        told = json.loads(body or b"{}")
        if self.path == "/graphql":
            self._send(200, {"data": self.service.answer(told["query"], told.get("variables") or {})})
        elif match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.service.stream(match[1], told)
            self._send(200, {"exitcode": None, "limits": {}})
        else:
            self._send(404, {})

    def do_PUT(self) -> None:
        self.service.upload(self.path.removeprefix("/upload/"), self._body())
        self._send(200, {})

    def do_GET(self) -> None:
        self._send(200, {})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # whoever asked was killed
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(mode: str = HEALTHY) -> Iterator[Service]:
    """The service, at `url`."""
    service = Service(mode)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        service.closing.set()
        server.shutdown()
        server.server_close()
