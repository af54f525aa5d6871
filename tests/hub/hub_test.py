#!/usr/bin/env python3
"""`lockstep pull`, and models by name, from outside: processes that are killed, two at once, a terminal,
TLS; and the cache together with Python's huggingface_hub.

    hub_test.py BINARY SOURCE_DIRECTORY [unittest's arguments]

PythonTest needs the package that scripts/test-assets.sh fetches, and Debian's python3-requests,
python3-filelock, python3-tqdm and python3-yaml.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

from hub_server import HubServer

BINARY = ""
SOURCE = pathlib.Path()
# Far beyond what anything here takes: whatever is still running then hangs.
HANGS = 120
WEIGHTS = {"size": 3_000_000}


def tiny_model():
    """Files of a model that runs; 104 tokens, no tokenizer."""
    return {path.name: path.read_bytes() for path in (SOURCE / "tests/golden/model/llama").iterdir()
            if path.suffix in (".json", ".safetensors")}


class HubCase(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.home = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.cache = self.home / "hub"

    def serve(self, files=None, faults=(), **more):
        files = {"config.json": "{}", "model.safetensors": WEIGHTS} if files is None else files
        spec = {"repos": {"acme/small": {"files": files, **more}}, "token": "hf_right", "faults": faults}
        self.hub = self.stack.enter_context(HubServer(spec))
        self.model = self.cache / "models--acme--small"
        return self.hub

    def environment(self, **variables):
        kept = {k: v for k, v in os.environ.items()
                if not k.startswith(("LOCKSTEP_", "HF_", "HUGGING", "TRANSFORMERS"))}
        return kept | {"LOCKSTEP_DEVICE": "cpu", "HF_HOME": str(self.home), "no_proxy": "*",
                       "HF_ENDPOINT": self.hub.url} | variables

    def start(self, *arguments, stderr=subprocess.PIPE, **variables):
        return subprocess.Popen([BINARY, *arguments], env=self.environment(**variables),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)

    def lockstep(self, *arguments, status=0, **variables):
        """Runs the command; returns (stdout, stderr)."""
        with self.start(*arguments, **variables) as process:
            try:
                out, err = process.communicate(timeout=HANGS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        self.assertEqual(process.returncode, status, err.decode())
        return out.decode(), err.decode()

    def incomplete(self):
        return [path.stat().st_size for path in self.model.glob("blobs/*.incomplete")]

    def asked(self, part):
        return [entry for entry in self.hub.log if part in entry["path"]]

    def check_weights(self, path):
        content = (pathlib.Path(path) / "model.safetensors").read_bytes()
        self.assertTrue(content == self.hub.repos["acme/small"].files["model.safetensors"].content)


class CommandTest(HubCase):
    def test_pull_prints_the_path_and_is_silent_besides(self):
        self.serve()
        out, err = self.lockstep("pull", "acme/small")
        self.check_weights(out.strip())
        self.assertRegex(err, r"^acme/small at [0-9a-f]{12}: 2 files, 3\.00 MB, of which 3\.00 MB were fetched\n$")
        again = self.lockstep("pull", "acme/small", HF_HUB_OFFLINE="1")
        self.assertEqual(again[0], out)
        self.assertRegex(again[1], r"^acme/small at [0-9a-f]{12}: from the cache, without asking the hub\n$")

    def test_pull_as_json(self):
        hub = self.serve(tags=["v1"])
        out, err = self.lockstep("pull", "acme/small", "--revision", "v1", "--json")
        self.assertEqual(err, "")
        result = json.loads(out)
        self.check_weights(result["path"])
        self.assertEqual(result["commit"], hub.repos["acme/small"].commit)
        self.assertEqual((result["model"], result["revision"]), ("acme/small", "v1"))
        self.assertCountEqual(result["files"],
                              [{"name": "config.json", "bytes": 2, "fetched": True},
                               {"name": "model.safetensors", "bytes": 3_000_000, "fetched": True}])

    def test_errors(self):
        self.serve()
        self.assertIn("not found on", self.lockstep("pull", "acme/none", status=1)[1])
        _, err = self.lockstep("generate", "-m", "acme/none", "-p", "a", status=1)
        self.assertIn("not found on", err)
        self.assertIn("(nor is there a file or directory acme/none)", err)
        self.assertIn("HF_HUB_OFFLINE", self.lockstep("pull", "acme/small", HF_HUB_OFFLINE="1", status=1)[1])
        for arguments in ((), ("name",), ("acme/small@v1", "--revision", "v2"), ("",)):
            self.assertIn("--help", self.lockstep("pull", *arguments, status=2)[1])

    def test_every_command_takes_names(self):
        self.serve(tiny_model())
        ids = ("--prompt-ids", "5,6,7", "-n", "4", "--temperature", "0")
        first, _ = self.lockstep("generate", "-m", "acme/small", *ids)
        local, _ = self.lockstep("generate", "-m", str(SOURCE / "tests/golden/model/llama"), *ids)
        self.assertEqual(first, local)
        asked = len(self.hub.log)
        self.assertEqual(self.lockstep("generate", "-m", "acme/small@main", *ids)[0], first)
        self.lockstep("inspect", "-m", "acme/small", HF_HUB_OFFLINE="1")
        self.assertTrue(self.asked("/resolve/"))
        # The tiny model has no tokenizer, so that the hub is asked whether there is one; no file again.
        self.assertFalse([e for e in self.hub.log[asked:] if "/resolve/" in e["path"]])

    def test_dummy_weights_are_not_fetched(self):
        self.serve(tiny_model())
        self.lockstep("generate", "-m", "acme/small", "--load-format", "dummy", "--prompt-ids", "5", "-n", "1")
        self.assertEqual([entry["path"] for entry in self.asked("safetensors")], [])

    def test_progress_on_a_terminal(self):
        self.serve()
        master, slave = pty.openpty()
        process = self.start("pull", "acme/small", stderr=slave)
        os.close(slave)
        text = b""
        with contextlib.suppress(OSError):  # what the end of a terminal's other side looks like
            while piece := os.read(master, 65536):
                text += piece
        os.close(master)
        process.communicate(timeout=HANGS)
        self.assertEqual(process.returncode, 0)
        self.assertRegex(text.decode(), r"\[#*-*\] +\d+% of 3\.00 MB")
        self.assertIn("model.safetensors  3.00 MB\r\n", text.decode())


class ProcessTest(HubCase):
    def pull_that_is_kept_waiting(self):
        self.serve(faults=[{"match": "/cdn/", "hang_after": 1_000_000}])
        process = self.start("pull", "acme/small")
        self.assertTrue(self.hub.reached.wait(HANGS))
        end = time.monotonic() + HANGS
        while 1_000_000 not in self.incomplete():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        return process

    def check_resumed(self):
        self.check_weights(self.lockstep("pull", "acme/small")[0].strip())
        self.assertEqual(self.asked("/cdn/")[-1]["range"], "bytes=1000000-")
        self.assertEqual(self.incomplete(), [])

    def test_killed_half_way(self):
        process = self.pull_that_is_kept_waiting()
        process.kill()
        process.communicate(timeout=HANGS)
        self.assertFalse((self.model / "refs/main").exists())
        self.check_resumed()

    def test_interrupted(self):
        process = self.pull_that_is_kept_waiting()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANGS)
        self.assertEqual((process.returncode, out), (130, b""))
        self.assertEqual(err.decode(), "lockstep: acme/small: cancelled; what has arrived is kept, and the "
                                       "next pull goes on from it\n")
        self.check_resumed()

    def test_two_at_once(self):
        self.serve({"config.json": "{}", "tokenizer.json": {"size": 5000}, "model.safetensors": WEIGHTS})
        both = [self.start("pull", "acme/small") for _ in range(2)]
        results = [process.communicate(timeout=HANGS) for process in both]
        self.assertEqual([process.returncode for process in both], [0, 0], results)
        self.assertEqual(results[0][0], results[1][0])
        self.check_weights(results[0][0].decode().strip())
        self.assertEqual(len(self.asked("/resolve/")), 3)


class TlsTest(HubCase):
    def setUp(self):
        super().setUp()
        self.certificate, key = self.home / "certificate.pem", self.home / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-nodes", "-keyout", key, "-out", self.certificate, "-days", "2", "-subj", "/CN=hub",
                        "-addext", "subjectAltName=IP:127.0.0.1,IP:127.0.0.2"],
                       check=True, capture_output=True, timeout=HANGS)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)

    def serve_encrypted(self, listeners):
        for listener in self.serve(private=True).listeners[:listeners]:
            listener.socket = self.context.wrap_socket(listener.socket, server_side=True)
        self.hub.url = self.hub.url.replace("http:", "https:")
        if listeners == 2:
            self.hub.cdn_url = self.hub.cdn_url.replace("http:", "https:")

    def test_only_trusted_certificates(self):
        self.serve_encrypted(2)
        trusted = {name: "" for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")} | {
            "SSL_CERT_FILE": str(self.certificate), "HF_TOKEN": "hf_right"}
        self.check_weights(self.lockstep("pull", "acme/small", **trusted)[0].strip())
        self.assertEqual({entry["authorization"] for entry in self.asked("/api/")}, {"Bearer hf_right"})
        asked = len(self.hub.log)
        untrusted = trusted | {"SSL_CERT_FILE": "", "HF_HUB_DOWNLOAD_TIMEOUT": "5"}
        self.assertIn("certificate", self.lockstep("pull", "acme/small", status=1, **untrusted)[1])
        self.assertEqual(len(self.hub.log), asked)

    def test_no_way_from_encrypted_to_clear(self):
        self.serve_encrypted(1)
        variables = {name: str(self.certificate) for name in
                     ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")}
        _, err = self.lockstep("pull", "acme/small", status=1, HF_TOKEN="hf_right", **variables)
        self.assertIn("where nothing is encrypted", err)
        self.assertEqual(self.asked("/cdn/"), [])


class PythonTest(HubCase):
    """The cache together with huggingface_hub."""

    def python(self, code, **variables):
        wheel = SOURCE / ".cache/huggingface_hub-0.36.0-py3-none-any.whl"
        self.assertTrue(wheel.exists(), "run scripts/test-assets.sh")
        variables = {"PYTHONPATH": str(wheel), "HF_HUB_DISABLE_TELEMETRY": "1",
                     "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | variables
        script = "import huggingface_hub as hub\n" + code
        # Debian's interpreter, for Debian's packages.
        done = subprocess.run(["/usr/bin/python3", "-c", script], env=self.environment(**variables),
                              capture_output=True, text=True, timeout=HANGS)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def snapshot(self, path):
        """Everything in the cache, with what links point to."""
        return {str(entry.relative_to(path)): os.readlink(entry) if entry.is_symlink() else entry.read_bytes()
                for entry in path.rglob("*") if not entry.is_dir() or entry.is_symlink()}

    FILES = {"config.json": "{}", "tokenizer.json": {"size": 700}, "chat_template.jinja": "{{ a }}",
             "additional_chat_templates/tool.jinja": "{{ b }}", "model.safetensors": {"size": 40_000}}

    def test_both_lay_out_the_same_files(self):
        self.serve(self.FILES, tags=["refs/pr/1"])
        for revision in ("main", "refs/pr/1"):
            ours, _ = self.lockstep("pull", "acme/small", "--revision", revision)
            theirs = self.python(f"print(hub.snapshot_download('acme/small', revision='{revision}'))",
                                 HF_HOME=str(self.home / "python"))
            self.assertEqual(ours.strip(), theirs.replace("/python/", "/"))
        layouts = [self.snapshot(cache) for cache in (self.cache, self.home / "python/hub")]
        self.assertEqual(*layouts)

    def test_python_reads_ours(self):
        self.serve(self.FILES)
        ours, _ = self.lockstep("pull", "acme/small")
        asked = len(self.hub.log)
        self.assertEqual(self.python("print(hub.snapshot_download('acme/small', local_files_only=True))"),
                         ours.strip())
        self.assertEqual(self.python("print(hub.hf_hub_download('acme/small', 'tokenizer.json', "
                                     "local_files_only=True))"), ours.strip() + "/tokenizer.json")
        self.assertEqual(len(self.hub.log), asked)
        self.assertEqual(self.python("""
info = hub.scan_cache_dir()
repo, = info.repos
print(info.warnings, repo.repo_id, repo.nb_files, sorted(repo.refs), repo.size_on_disk)"""),
                         f"[] acme/small 5 ['main'] {2 + 700 + 7 + 7 + 40_000}")
        # And fetches none of it again.
        self.python("hub.snapshot_download('acme/small')")
        self.assertEqual([e for e in self.hub.log[asked:] if e["method"] == "GET" and "/resolve/" in e["path"]],
                         [])

    def test_we_read_pythons(self):
        self.serve(tiny_model() | {"README.md": "read me"})
        theirs = self.python("print(hub.snapshot_download('acme/small'))")
        asked = len(self.hub.log)
        offline = {"HF_HUB_OFFLINE": "1"}
        self.assertEqual(self.lockstep("pull", "acme/small", **offline)[0].strip(), theirs)
        self.lockstep("generate", "-m", "acme/small", "--prompt-ids", "5,6", "-n", "2", **offline)
        self.assertEqual(len(self.hub.log), asked)
        self.lockstep("pull", "acme/small")
        self.assertEqual([e for e in self.hub.log[asked:] if "/resolve/" in e["path"]], [])

    def test_a_part_that_python_fetched_is_completed(self):
        self.serve(self.FILES)
        self.python("hub.hf_hub_download('acme/small', 'config.json')")
        self.assertIn("not complete", self.lockstep("inspect", "-m", "acme/small", status=1, HF_HUB_OFFLINE="1")[1])
        self.check_weights(self.lockstep("pull", "acme/small")[0].strip())
        self.assertEqual(len(self.asked("config.json")), 2)  # Python's HEAD and GET

    def test_each_goes_on_where_the_other_stopped(self):
        self.serve({"config.json": "{}", "model.safetensors": WEIGHTS})
        weights = self.hub.repos["acme/small"].files["model.safetensors"]
        part = self.model / "blobs" / (weights.sha256 + ".incomplete")
        for pull in (lambda: self.lockstep("pull", "acme/small"),
                     lambda: self.python("hub.snapshot_download('acme/small')")):
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(weights.content[:1_234_567])
            pull()
            self.assertEqual(self.asked("/cdn/")[-1]["range"], "bytes=1234567-")
            blob = part.with_suffix("")
            self.assertTrue(blob.read_bytes() == weights.content)
            blob.unlink()
            (self.model / "snapshots" / self.hub.repos["acme/small"].commit / "model.safetensors").unlink()

    def test_both_take_the_same_locks(self):
        self.serve()
        weights = self.hub.repos["acme/small"].files["model.safetensors"]
        lock = self.cache / ".locks/models--acme--small" / (weights.sha256 + ".lock")
        lock.parent.mkdir(parents=True)
        code = f"""
import filelock, sys
with filelock.FileLock({str(lock)!r}):
    print("locked", flush=True)
    sys.stdin.read()"""
        with subprocess.Popen(["/usr/bin/python3", "-c", code], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as holder:
            self.assertEqual(holder.stdout.readline(), b"locked\n")
            process = self.start("pull", "acme/small")
            end = time.monotonic() + HANGS
            while not list(self.model.glob("snapshots/*/config.json")):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.01)
            self.assertIsNone(process.poll())
            self.assertEqual(self.asked("/cdn/"), [])
            holder.stdin.close()
            process.communicate(timeout=HANGS)
        self.assertEqual(process.returncode, 0)
        with lock.open("r+") as file:  # given back
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


if __name__ == "__main__":
    BINARY, SOURCE = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
