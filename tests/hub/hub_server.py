#!/usr/bin/env python3
"""A Hugging Face hub of its own, on loopback: the endpoints that pulling a model needs, and faults.

    hub_server.py SPECIFICATION.json

prints its address and serves until its standard input ends. In Python: `with HubServer(spec) as hub`.
The specification:

    {"repos": {"org/name": {"files": {"config.json": "text", "model.safetensors": {"size": 1000}},
                            "tags": ["v1"], "private": false, "gated": false}},
     "token": "hf_...",          opens private and gated repositories
     "page": 1000,               entries of one page of a listing
     "faults": [{"match": "regular expression on the path", "times": 1, ...}]}

A fault does one of: status (with headers), body (instead of the real one), redirect, drop_after
(bytes, then the connection closes), hang_after, corrupt (one byte), shorter / longer (a wrong size),
ignore_range, encoding. Files of more than 100 bytes are "in LFS": they are redirected to a second
host, 127.0.0.2, which keeps contents under their sha256. GET /_log returns what was asked.
"""

import hashlib
import http.server
import json
import random
import re
import sys
import threading
import urllib.parse


def content_of(value):
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    return random.Random(value.get("seed", 1)).randbytes(value["size"])


class File:
    def __init__(self, path, content):
        self.path, self.content = path, content
        self.git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.lfs = len(content) > 100

    def etag(self):
        return self.sha256 if self.lfs else self.git

    def entry(self):
        entry = {"type": "file", "oid": self.git, "size": len(self.content), "path": self.path}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        return entry


class Repo:
    def __init__(self, spec):
        self.files = {path: File(path, content_of(value)) for path, value in spec["files"].items()}
        listing = "".join(f"{path} {file.git}\n" for path, file in sorted(self.files.items()))
        self.commit = hashlib.sha1(listing.encode()).hexdigest()
        self.revisions = {"main", self.commit, *spec.get("tags", [])}
        self.private = spec.get("private", False)
        self.gated = spec.get("gated", False)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.handle_request()

    def do_GET(self):
        self.handle_request()

    def handle_request(self):
        hub = self.server.hub
        self.path, _, query = self.path.partition("?")
        self.path = urllib.parse.unquote(self.path)
        self.query = urllib.parse.parse_qs(query)
        if self.path == "/_log":
            return self.answer(200, json.dumps(hub.log).encode())
        with hub.lock:
            hub.log.append({"method": self.command, "path": self.path,
                            "host": self.server.server_address[0],
                            "authorization": self.headers.get("Authorization"),
                            "range": self.headers.get("Range")})
            self.fault = hub.take_fault(self.path)
        if "status" in self.fault:
            return self.answer(self.fault["status"], b"", self.fault.get("headers", {}))
        if "redirect" in self.fault:
            return self.answer(302, b"", {"Location": self.fault["redirect"]})
        if "body" in self.fault:
            return self.answer(200, self.fault["body"].encode(), self.fault.get("headers", {}))
        if self.path.startswith("/cdn/"):
            content = hub.contents.get(self.path.removeprefix("/cdn/"))
            return self.answer(404) if content is None else self.serve(content, {})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", self.path):
            return self.api(*match.groups())
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            return self.resolve(*match.groups())
        self.answer(404)

    def answer(self, status, body=b"", headers={}):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code, message, headers={}):
        self.answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message} | headers)

    def find(self, name, revision):
        """The repository, or None after the error was sent."""
        hub = self.server.hub
        repo, given = hub.repos.get(name), self.headers.get("Authorization")
        if given and given != f"Bearer {hub.token}":
            self.answer(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif repo is None or (repo.private and not given):
            self.error(404 if given else 401, "RepoNotFound", "Repository not found")
        elif revision not in repo.revisions:
            self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo

    def api(self, name, what, revision):
        hub = self.server.hub
        repo = self.find(name, revision or "main")
        if repo is None:
            return
        if what != "tree":
            info = {"id": name, "modelId": name, "sha": repo.commit, "private": repo.private,
                    "gated": False, "tags": [], "downloads": 0, "likes": 0,
                    "siblings": [{"rfilename": path} for path in repo.files]}
            return self.answer(200, json.dumps(info).encode())
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "original"}]
        entries += [file.entry() for file in repo.files.values()]
        start = int(self.query.get("cursor", ["0"])[0])
        end = start + hub.page
        headers = {}
        if end < len(entries):
            headers["Link"] = f'<{hub.url}{self.path}?recursive=true&cursor={end}>; rel="next"'
        self.answer(200, json.dumps(entries[start:end]).encode(), headers)

    def resolve(self, name, revision, path):
        hub = self.server.hub
        repo = self.find(name, revision)
        if repo is None:
            return
        if repo.gated and not self.headers.get("Authorization"):
            return self.error(401, "GatedRepo", f"Access to model {name} is restricted.")
        file = repo.files.get(path)
        headers = {"X-Repo-Commit": repo.commit}
        if file is None:
            return self.error(404, "EntryNotFound", "Entry not found", headers)
        headers["ETag"] = f'"{file.etag()}"'
        if not file.lfs:
            return self.serve(file.content, headers)
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content)),
                    "Location": f"{hub.cdn_url}/cdn/{file.sha256}?signature=secret"}
        self.answer(302, b"", headers)

    def serve(self, content, headers):
        fault, status, start = self.fault, 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and not fault.get("ignore_range"):
            start = int(asked.group(1))
            if start >= len(content):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            status = 206
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        body = bytearray(content[start:])
        if fault.get("corrupt"):
            body[len(body) // 2] ^= 1
        if "shorter" in fault:
            body = body[:-fault["shorter"]]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "encoding" in fault:
            self.send_header("Content-Encoding", fault["encoding"])
        if "longer" in fault:  # without a length, or the client would know at once
            body += b"x" * fault["longer"]
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = fault.get("drop_after", fault.get("hang_after"))
        self.wfile.write(body if stop is None else body[:stop])
        self.wfile.flush()
        if stop is None:
            return
        self.close_connection = True
        if "hang_after" in fault:
            self.server.hub.reached.set()
            self.server.hub.closed.wait(60)


class Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub, host):
        self.hub = hub
        super().__init__((host, 0), Handler)

    def handle_error(self, *_):  # a client that went away
        pass

    def url(self):
        return "http://%s:%d" % self.server_address


class HubServer:
    def __init__(self, spec):
        self.repos = {name: Repo(repo) for name, repo in spec.get("repos", {}).items()}
        self.contents = {file.sha256: file.content for repo in self.repos.values()
                         for file in repo.files.values()}
        self.token = spec.get("token")
        self.page = spec.get("page", 1000)
        self.faults = [dict(fault) for fault in spec.get("faults", [])]
        self.log = []
        self.lock = threading.Lock()
        self.reached = threading.Event()  # somebody is kept waiting by hang_after
        self.closed = threading.Event()
        self.listeners = [Listener(self, "127.0.0.1"), Listener(self, "127.0.0.2")]
        self.url, self.cdn_url = (listener.url() for listener in self.listeners)

    def take_fault(self, path):
        for fault in self.faults:
            if fault.get("times", 1) > 0 and re.search(fault["match"], path):
                fault["times"] = fault.get("times", 1) - 1
                return fault
        return {}

    def __enter__(self):
        for listener in self.listeners:
            threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closed.set()
        for listener in self.listeners:
            listener.shutdown()
            listener.server_close()


def main():
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    with HubServer(spec) as hub:
        print(hub.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
