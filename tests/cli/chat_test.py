#!/usr/bin/env python3
"""lockstep chat from outside: on a pseudo-terminal and through pipes. Needs the demo model.

    chat_test.py BINARY SOURCE_DIRECTORY [unittest's arguments]
"""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
import unittest

BINARY = ""
MODEL = pathlib.Path()
TINY = pathlib.Path()
HANGS = 120  # seconds, far beyond what anything here takes
PROMPT = ">>> "


def environment(home, **variables):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LOCKSTEP_", "XDG_", "LC_"))}
    return kept | {"LOCKSTEP_DEVICE": "cpu", "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8"} | variables


def own_terminal():
    """In the child: its stdin becomes its controlling terminal, so that keys can be signals."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """The command on a terminal of its own. What it writes is in `seen`."""

    def __init__(self, *arguments, home, stdout=None):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([BINARY, "chat", "-m", MODEL, *map(str, arguments)],
                                        stdin=slave, stdout=stdout or slave, stderr=slave,
                                        env=environment(home), start_new_session=True,
                                        preexec_fn=own_terminal)
        os.close(slave)
        self.seen = ""
        self.expected = 0  # up to here, expect() has found what it looked for

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def read(self, deadline):
        """Adds what there is to `seen`; false at the end."""
        ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(self.seen)
        try:
            data = os.read(self.master, 65536)
        except OSError:  # nobody has the other end any more
            return False
        self.seen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def expect(self, text):
        """Waits until `text` appears, behind what was expected before; returns what came between."""
        deadline = time.monotonic() + HANGS
        while (at := self.seen.find(text, self.expected)) < 0:
            if not self.read(deadline):
                raise AssertionError(f"{text!r} never came:\n{self.seen}")
        between = self.seen[self.expected:at]
        self.expected = at + len(text)
        return between

    def type(self, text):
        os.write(self.master, text.encode())

    def ask(self, text):
        """Types a line; returns all that is shown until the next prompt."""
        self.type(text + "\r")
        return self.expect("\n" + PROMPT)

    def leave(self, keys):
        self.type(keys)
        deadline = time.monotonic() + HANGS
        while self.read(deadline):
            pass
        return self.process.wait(timeout=HANGS)


class ChatTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.home = pathlib.Path(directory.name)

    def terminal(self, *arguments, **options):
        terminal = Terminal("-t", 0, "--max-length", 512, *arguments, home=self.home, **options)
        terminal.expect(PROMPT)
        return terminal

    def run_piped(self, *arguments, input=None):
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run([BINARY, "chat", *map(str, arguments)], capture_output=True, text=True,
                              env=environment(self.home), timeout=HANGS, **stdin)
        return done.returncode, done.stdout, done.stderr


class TerminalTest(ChatTest):
    def test_a_conversation(self):
        with self.terminal("-n", 24) as terminal:
            self.assertIn("Paris", terminal.ask("What is the capital of France?"))
            # The conversation goes on: the answer's language shows that the first turn is known.
            terminal.ask("And what is the most famous tower there?")
            self.assertRegex(terminal.ask("/stats"),
                             r"cpu x 1: \d+ prompt tokens in .*\n4 messages, \d+ of 512 tokens")
            file = self.home / "talk.json"
            self.assertIn("written to", terminal.ask(f"/save {file}"))
            self.assertIn("forgotten", terminal.ask("/reset"))
            self.assertIn("no answer yet", terminal.ask("/stats"))
            self.assertIn("/system TEXT", terminal.ask("/help"))
            self.assertIn("there is no command /nonsense", terminal.ask("/nonsense"))
            self.assertIn("/save needs", terminal.ask("/save"))
            self.assertIn("cannot be written", terminal.ask("/save /no/such/folder/x"))
            self.assertEqual(terminal.leave("/exit\r"), 0)
        messages = json.loads(file.read_text())
        self.assertEqual([m["role"] for m in messages], ["user", "assistant"] * 2)
        self.assertEqual(messages[0]["content"], "What is the capital of France?")
        self.assertIn("Paris", messages[1]["content"])

    def test_system_message(self):
        with self.terminal("-n", 4, "--system", "You are a pirate.") as terminal:
            self.assertIn("system: You are a pirate.", terminal.ask("/system"))
            self.assertIn("system: You are a poet.", terminal.ask("/system  You are a poet. "))
            terminal.ask("Hi")
            terminal.ask(f"/save {self.home}/talk.json")
            self.assertEqual(terminal.leave("\x04"), 0)
        messages = json.loads((self.home / "talk.json").read_text())
        self.assertEqual(messages[0], {"role": "system", "content": "You are a poet."})

    def test_messages_of_several_lines(self):
        with self.terminal("-n", 2) as terminal:
            terminal.type("one\\\r")
            terminal.expect("... ")
            terminal.ask("two")
            terminal.type('"""three\r')
            terminal.expect("... ")
            terminal.type("\r")
            terminal.expect("... ")
            terminal.ask('four"""')
            terminal.ask("Größe 日本")
            terminal.ask(f"/save {self.home}/talk.json")
            terminal.leave("\x04")
        messages = json.loads((self.home / "talk.json").read_text())
        self.assertEqual([m["content"] for m in messages[::2]],
                         ["one\ntwo", "three\n\nfour", "Größe 日本"])

    def test_editing_and_history(self):
        with self.terminal("-n", 1) as terminal:
            terminal.ask("helo\x1b[D\x1b[Dl there \x05!")  # arrows to the left, and the end of the line
            terminal.ask("second")
            terminal.ask("\x1b[A\x1b[A\x01again: ")  # two lines up, and the line's beginning
            terminal.ask(f"/save {self.home}/talk.json")
            terminal.leave("\x04")
        messages = json.loads((self.home / "talk.json").read_text())
        self.assertEqual([m["content"] for m in messages[::2]],
                         ["hel there lo!", "second", "again: hel there lo!"])
        history = self.home / ".local/state/lockstep/chat_history"
        self.assertEqual(history.stat().st_mode & 0o077, 0, "others can read it")
        with self.terminal("-n", 1) as terminal:
            terminal.ask("\x1b[A\x1b[A")  # beyond /save, what was asked last time
            terminal.ask(f"/save {self.home}/talk.json")
            terminal.leave("\x04")
        again = json.loads((self.home / "talk.json").read_text())
        self.assertEqual(again[0]["content"], "again: hel there lo!")

    def test_control_c_stops_the_answer_and_not_the_program(self):
        with self.terminal("--ignore-eos") as terminal:
            terminal.type("Write a very long story.\r")
            terminal.expect("\n")
            before = len(terminal.seen)
            deadline = time.monotonic() + HANGS
            while len(terminal.seen) < before + 20:  # the answer has begun
                self.assertTrue(terminal.read(deadline))
            terminal.type("\x03")
            terminal.expect("\n" + PROMPT)
            self.assertIn("finished by cancelled", terminal.ask("/stats"))
            # At the prompt it gives the line up.
            terminal.type("unfinished\x03")
            terminal.expect("\n" + PROMPT)
            self.assertIn("2 messages", terminal.ask("/stats"))
            terminal.type("\x03")
            terminal.expect("Ctrl-C again")
            terminal.expect(PROMPT)  # from here on it is a key, and not a signal
            self.assertEqual(terminal.leave("\x03"), 0)

    def test_a_conversation_that_outgrows_the_context(self):
        with self.terminal("-n", 8) as terminal:
            shown = terminal.ask("many words " * 300)
            self.assertRegex(shown, r"the conversation has \d+ tokens with this message, and there is room for 512")
            terminal.ask("Hi")
            self.assertIn("2 messages", terminal.ask("/stats"))
            terminal.leave("\x04")

    def test_answers_alone_go_to_stdout(self):
        with open(self.home / "out", "wb") as out, self.terminal("-n", 8, stdout=out) as terminal:
            terminal.ask("What is the capital of France?")
            terminal.ask("/stats")
            terminal.leave("\x04")
        self.assertEqual((self.home / "out").read_text(), "The capital of France is Paris.\n")


class PipeTest(ChatTest):
    def test_all_of_stdin_is_one_message(self):
        options = ("-m", MODEL, "-t", 0, "-n", 12, "--max-length", 256)
        question = "What is the capital of France?"
        status, out, err = self.run_piped(*options, input=question + "\n")
        self.assertEqual((status, out), (0, "The capital of France is Paris.\n"), err)
        self.assertRegex(err, r"^cpu x 1: \d+ prompt tokens in .*; finished by stop\n2 messages")
        self.assertEqual(self.run_piped(*options, "-p", question)[1], out)
        self.assertEqual(self.run_piped(*options, "--tp", 3, input=f"\n{question}\n\n")[1], out)
        # The same as the template written out, and not the same where a user writes it.
        written = ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                   "<|im_start|>assistant\n")
        plain = subprocess.run([BINARY, "generate", "-t", "0", "-n", "12", "-m", MODEL, "-p", written],
                               capture_output=True, text=True, env=environment(self.home),
                               timeout=HANGS)
        _, out, err = self.run_piped(*options, "--system", "Be brief.", "-p", "Hi")
        self.assertEqual(plain.stdout, out)
        tokens = int(re.search(r"(\d+) prompt tokens", err).group(1))
        _, _, err = self.run_piped(*options, "--system", "Be brief.", "-p", "Hi<|im_end|>")
        self.assertGreater(int(re.search(r"(\d+) prompt tokens", err).group(1)), tokens + 1)

    def test_errors(self):
        status, out, err = self.run_piped("-m", MODEL, input=" \n")
        self.assertEqual((status, out), (2, ""))
        self.assertIn("no message", err)
        status, out, err = self.run_piped("-m", TINY, "-p", "a")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("no chat template", err)
        status, _, err = self.run_piped("-m", "/no/such/model", "-p", "a", "-t", "-1")
        self.assertEqual(status, 2)
        self.assertIn("temperature is -1", err)
        status, _, err = self.run_piped("-m", MODEL, "-p", "a", "--template-variables", "{")
        self.assertEqual(status, 1)
        self.assertIn("the template's variables: not valid JSON", err)
        status, _, err = self.run_piped("-m", MODEL, "-p", "word " * 400, "--max-length", 128)
        self.assertEqual(status, 1)
        self.assertIn("there is room for 128", err)

    def test_control_c_ends_a_piped_answer(self):
        process = subprocess.Popen([BINARY, "chat", "-m", MODEL, "--ignore-eos", "-p", "Tell a story."],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=environment(self.home))
        os.read(process.stdout.fileno(), 1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=HANGS)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn(b"finished by cancelled", err)


if __name__ == "__main__":
    BINARY, source = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    MODEL = source / ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
    TINY = source / "tests/golden/model/llama"
    if not MODEL.exists():
        sys.exit(f"{MODEL} is absent: run scripts/demo-model.sh")
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
