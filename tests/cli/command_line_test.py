#!/usr/bin/env python3
"""What is made from the description of the command line: help, suggestions, completion, man page.

    command_line_test.py BINARY SOURCE_DIRECTORY [unittest's arguments]

The completions are tried in the shells themselves; a shell that is not installed is skipped.
"""

import csv
import fcntl
import json
import os
import pathlib
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import unittest
import xml.etree.ElementTree

import cli_test
from cli_test import HANGS, clean_environment, lockstep


def succeed(*arguments, **options):
    status, out, err = lockstep(*arguments, **options)
    assert (status, err) == (0, ""), (arguments, status, err)
    return out


def commands():
    """Names of the subcommands, as help lists them."""
    section = re.search(r"Commands:\n(.*?)\n\n", succeed("--help"), re.DOTALL).group(1)
    return re.findall(r"^  (\S+)", section, re.MULTILINE)


def on_terminal(columns, *arguments, **variables):
    """The command's output on a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([cli_test.BINARY, *map(str, arguments)], stdout=slave, stderr=slave,
                               stdin=subprocess.DEVNULL, env=clean_environment(**variables))
    os.close(slave)
    text = b""
    try:
        while piece := os.read(master, 65536):
            text += piece
    except OSError:  # what the end of a terminal's other side looks like
        pass
    os.close(master)
    assert process.wait(timeout=HANGS) == 0, text
    return text.decode().replace("\r\n", "\n")


class HelpTest(unittest.TestCase):
    def test_every_command_has_help_with_examples(self):
        self.assertLessEqual({"generate", "inspect", "bench", "completion"}, set(commands()))
        for command in commands():
            out = succeed(command, "--help")
            self.assertIn(f"Usage: lockstep {command}", out)
            self.assertIn("\nExamples:\n  ", out, command)

    def test_options_say_what_they_take(self):
        out = succeed("bench", "--help")
        self.assertRegex(out, r"  -m, --model MODEL +\S.*\(required\)")
        self.assertRegex(out, r"      --device auto\|cpu\|cuda .*\[auto\]\s+\(LOCKSTEP_DEVICE\)")
        self.assertRegex(out, r"      --tp INT .*\[1\] \(LOCKSTEP_TP\)")
        self.assertIn("-m MODEL [OPTIONS]", out)
        self.assertIn("[OPTIONS] bash|zsh|fish", succeed("completion", "--help"))
        self.assertNotIn("\n  man ", succeed("--help"))

    def test_help_fits_the_terminal(self):
        for columns in (70, 80, 140):
            out = on_terminal(columns, "generate", "--help").split("Examples:")[0]
            longest = max(map(len, out.splitlines()))
            self.assertLessEqual(longest, columns)
            self.assertGreater(longest, columns - 25)
        on_terminal(1, "generate", "--help")


class TableTest(unittest.TestCase):
    """Tables on terminals and elsewhere."""

    def inspect(self, columns, **variables):
        return on_terminal(columns, "inspect", "-m", cli_test.SOURCE / "tests/golden/model/llama",
                           "--tp", 3, TERM="xterm", **variables)

    def test_a_terminal_gets_what_fits_into_it(self):
        for columns in (80, 100):
            out = re.sub("\x1b\\[[01]m", "", self.inspect(columns))
            self.assertLessEqual(max(map(len, out.splitlines())), columns)
            self.assertIn("...", out)
        self.assertNotIn("...", self.inspect(300))
        self.inspect(1)

    def test_a_pipe_gets_all_of_it_in_plain(self):
        out = succeed("inspect", "-m", cli_test.SOURCE / "tests/golden/model/llama", "--tp", 8)
        self.assertNotIn("\x1b", out)
        self.assertNotIn("...", out)
        self.assertGreater(max(map(len, out.splitlines())), 100)

    def test_no_color(self):
        self.assertIn("\x1b[1mrank", self.inspect(100))
        self.assertIn("\x1b[1mrank", self.inspect(100, NO_COLOR=""))
        self.assertNotIn("\x1b", self.inspect(100, NO_COLOR="1"))


class DoctorTest(unittest.TestCase):
    def test_a_cpu_that_works(self):
        out = succeed("doctor", "--device", "cpu", "--tp", 3)
        self.assertIn("\ncpu x 3: memory is read at ", out)
        self.assertRegex(out, r"\n +8 KiB +\d+\.\d\n")
        self.assertTrue(out.endswith("All is well.\n"), out)
        self.assertNotIn("all-reduce", succeed("doctor", "--device", "cpu", "--tp", 1))

    def test_json(self):
        report = json.loads(succeed("doctor", "--device", "cpu", "--tp", 2, "--json"))
        self.assertTrue(report["ok"])
        self.assertEqual(len(report["measurements"]), 1)
        self.assertEqual(report["measurements"][0]["mesh"], "cpu x 2")
        self.assertEqual([each["bytes"] for each in report["measurements"][0]["all_reduce"]],
                         [8192, 65536, 524288, 2097152, 16777216])
        self.assertGreater(report["host"]["memory_bytes"], report["host"]["available_bytes"] // 2)
        self.assertIsNone(report["cuda"])

    @unittest.skipIf(os.path.exists("/dev/nvidiactl"), "this host has GPUs")
    def test_gpus_that_are_not_there(self):
        status, out, err = lockstep("doctor", "--device", "cuda")
        self.assertEqual((status, err), (1, ""))
        self.assertIn("\nBROKEN: there is no GPU to examine\n  cause: ", out)
        self.assertIn("\n  cure:  ", out)
        self.assertIn("CUDA", out)
        report = json.loads(lockstep("doctor", "--device", "cuda", "--json")[1])
        self.assertEqual((report["ok"], report["cuda"]["devices"]), (False, []))
        self.assertNotIn("All is well", out)


class BenchTest(unittest.TestCase):
    """What bench writes beside its table."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.work = pathlib.Path(directory.name)
        self.options = ("bench", "-m", cli_test.SOURCE / "tests/golden/model/llama", "--prompt", 8,
                        "-n", 4, "--runs", 3)

    def test_json_has_every_run(self):
        report = json.loads(succeed(*self.options, "--tp", 2, "--json"))
        for field in ("version", "git_revision", "backends", "cpu", "dtype"):
            self.assertIn(field, report)
        row, = report["results"]
        self.assertEqual(row["mesh"], "cpu x 2")
        for name in ("prefill_ms", "decode_ms"):
            self.assertEqual(len(row[name + "_runs"]), 3)
            self.assertLessEqual(row[name + "_min"], row[name])
            self.assertLessEqual(row[name], row[name + "_max"])
        self.assertEqual(row["prefill_ms"], sorted(row["prefill_ms_runs"])[1])

    def test_csv_and_markdown_have_the_rows_of_the_table(self):
        rows = list(csv.DictReader(succeed(*self.options, "--tp", "1,2", "--batch", "1,3",
                                           "--csv").splitlines()))
        self.assertEqual([(row["tp"], row["batch"]) for row in rows],
                         [("1", "1"), ("1", "3"), ("2", "1"), ("2", "3")])
        self.assertGreater(float(rows[0]["decode_ms"]), 0)
        lines = succeed(*self.options, "--tp", "1,2", "--markdown").splitlines()
        self.assertEqual(len(lines), 4)
        self.assertTrue(all(line.startswith("| ") for line in lines))
        self.assertEqual(lockstep(*self.options, "--csv", "--json")[0], 2)

    def test_plot(self):
        file = self.work / "a b.svg"
        succeed(*self.options, "--tp", "1,2,4", "--batch", "1,3", "--plot", file)
        root = xml.etree.ElementTree.parse(file).getroot()
        svg = "{http://www.w3.org/2000/svg}"
        self.assertEqual(len(root.findall(f"{svg}circle")), 6)
        self.assertEqual(len(root.findall(f"{svg}polyline[@stroke-dasharray]")), 1)
        texts = [text.text for text in root.iter(f"{svg}text")]
        for text in ("batch 1", "batch 3", "floor", "1", "2", "4", "ms per step"):
            self.assertIn(text, texts)
        # By batch where there is one number of ranks, and the measurements are still printed.
        out = succeed(*self.options, "--tp", 2, "--batch", "1,3", "--csv", "--plot", file)
        self.assertEqual(len(out.splitlines()), 3)
        self.assertIn("2 ranks", file.read_text())

    def test_a_plot_that_cannot_be_written_is_found_before_measuring(self):
        status, out, err = lockstep(*self.options, "--plot", self.work / "absent" / "plot.svg")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("plot.svg: cannot be written: No such file", err)
        status, _, err = lockstep(*self.options, "--plot", "/dev/full")
        self.assertEqual(status, 1)
        self.assertIn("/dev/full: cannot be written", err)


class MemoryTest(unittest.TestCase):
    def test_what_does_not_fit_is_refused_before_it_is_loaded(self):
        with tempfile.TemporaryDirectory() as directory:
            file = pathlib.Path(directory, "config.json")
            config = json.loads(
                (cli_test.SOURCE / "tests/golden/model/llama/config.json").read_text())
            config |= {"hidden_size": 65536, "intermediate_size": 2**18, "head_dim": 4096,
                       "num_hidden_layers": 1000}
            file.write_text(json.dumps(config))
            for command in ("generate", "--prompt-ids", "1"), ("bench", "--prompt", 8, "-n", 8):
                status, out, err = lockstep(*command, "-m", directory, "--load-format", "dummy",
                                            "--tp", 2)
                self.assertEqual((status, out), (1, ""))
                self.assertRegex(err, r"^lockstep: error: the model does not fit into memory: 2 "
                                      r"ranks take \d+\.\d+ TB \(.* free\. Nothing less would fit")
            out = succeed("inspect", "-m", directory, "--load-format", "dummy")
            self.assertIn(" free: the model does not fit\n", out)


class SuggestionTest(unittest.TestCase):
    def check(self, message, *arguments):
        status, out, err = lockstep(*arguments)
        self.assertEqual((status, out), (2, ""))
        self.assertEqual(err.splitlines()[0], "lockstep: " + message)
        self.assertIn("--help`", err.splitlines()[1])

    def test_what_was_meant(self):
        self.check("there is no subcommand generat; did you mean generate?", "generat")
        self.check("there is no subcommand gen; did you mean generate?", "gen")
        self.check("there is no subcommand ispnect; did you mean inspect?", "ispnect")
        self.check("there is no subcommand nonsense", "nonsense")
        self.check("there is no subcommand " + "x" * 10000, "x" * 10000)
        self.check("there is no option --vesion; did you mean --version?", "--vesion")
        self.check("there is no option --promt; did you mean --prompt?", "generate", "--promt", "a")
        self.check("there is no option --tpp; did you mean --tp?", "generate", "-m", "x", "--tpp=4")
        self.check("there is no option --nonsense", "generate", "-m", "x", "--nonsense")
        self.check("there is no option -v", "-v")
        self.check("there is no argument extra", "generate", "-m", "x", "extra")

    def test_where_to_look_it_up(self):
        self.assertIn("See `lockstep --help`", lockstep("nonsense")[2])
        self.assertIn("See `lockstep bench --help`", lockstep("bench", "--nonsense")[2])


class CompletionTest(unittest.TestCase):
    """`complete(line)` of each shell: what the last word of the line can become."""

    # Line: what is offered, all of it. None: files.
    CASES = {
        "lockstep insp": {"inspect"},
        "lockstep --ver": {"--version"},
        "lockstep generate --dev": {"--device"},
        "lockstep generate --device ": {"auto", "cpu", "cuda"},
        "lockstep generate --device c": {"cpu", "cuda"},
        "lockstep bench -m x --dtype b": {"bfloat16"},
        "lockstep completion ": {"bash", "zsh", "fish"},
        "lockstep inspect -m ": None,
        "lockstep inspect --model ": None,
        "lockstep generate --file ": None,
    }

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.work = pathlib.Path(directory.name)
        self.files = self.work / "files"
        self.files.mkdir()
        (self.files / "tiny.gguf").touch()
        (self.files / "a model").mkdir()

    def script(self, shell):
        file = self.work / f"lockstep.{shell}"
        file.write_text(succeed("completion", shell))
        return file

    def run_shell(self, *arguments, **options):
        result = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True,
                                cwd=self.files, timeout=HANGS,
                                env={"PATH": os.environ["PATH"], "HOME": str(self.work),
                                     "TERM": "xterm"}, **options)
        self.assertEqual((result.returncode, result.stderr.decode()), (0, ""), arguments)
        return result.stdout.decode()

    def check_cases(self, complete):
        self.assertEqual(complete("lockstep "), set(commands()))
        for line, expected in self.CASES.items():
            found = {word.rstrip("/") for word in complete(line)}
            self.assertEqual(found, expected or {"tiny.gguf", "a model"}, line)

    def test_bash(self):
        script = self.script("bash")
        self.run_shell("bash", "-n", str(script))

        def complete(line):
            words = line.split(" ")
            if "=" in words[-1]:  # as bash splits it
                name, value = words[-1].split("=")
                words[-1:] = [name, "="] + ([value] if value else [])
            out = self.run_shell(
                "bash", "-c", 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
                '_lockstep; printf "%s\\n" "${COMPREPLY[@]}"', str(script), *words)
            return set(out.splitlines()) - {""}

        self.assertEqual(
            self.run_shell("bash", "-c", 'source "$0"; complete -p lockstep', str(script)),
            "complete -F _lockstep lockstep\n")
        self.check_cases(complete)
        self.assertEqual(complete("lockstep generate --device=c"), {"cpu", "cuda"})
        self.assertEqual(complete("lockstep generate --device="), {"auto", "cpu", "cuda"})
        self.assertEqual(complete("lockstep generate --tp "), set())

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish(self):
        script = self.script("fish")
        self.run_shell("fish", "-n", str(script))

        def complete(line):
            out = self.run_shell("fish", "-c", "source $argv[1]; complete -C $argv[2]", str(script),
                                 line)
            return {word.split("\t")[0] for word in out.splitlines()}

        self.check_cases(complete)

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh(self):
        script = self.script("zsh")
        self.run_shell("zsh", "-n", str(script))
        # _arguments and its like are replaced by ones that say what they were asked to offer.
        out = self.run_shell("zsh", "-f", "-c", f"""
            autoload -Uz compinit && compinit -u -d {self.work}/dump
            source {script}
            print -r -- $_comps[lockstep]
            _describe() {{ print -rl -- $commands }}
            _arguments() {{ print -rl -- "$@"; state=$next; line=(bench) }}
            next=command; _lockstep
            print -r -- ---
            next=arguments; _lockstep""")
        registered, rest = out.split("\n", 1)
        self.assertEqual(registered, "_lockstep")
        offered, bench = rest.split("---\n")
        for command in commands():
            self.assertRegex(offered, rf"(?m)^{command}:\S")
        self.assertIn("(--device)--device=[", bench)
        self.assertIn(":value:(auto cpu cuda)\n", bench)
        self.assertRegex(bench, r"\(-m --model\)-m\+\[.*\]:MODEL:_files\n")


class ManPageTest(unittest.TestCase):
    def test_every_command_option_and_variable_is_there(self):
        page = succeed("man").replace("\\-", "-")
        for command in commands():
            self.assertIn(f"\n.SS {command}\n", page)
            names = re.findall(r"^ +(?:-\w, )?(--[\w-]+)", succeed(command, "--help"), re.MULTILINE)
            self.assertIn("--help", names)
            section = page.split(f"\n.SS {command}\n")[1].split("\n.S")[0]
            for name in names:
                self.assertIn(f"\\fB{name}\\fR", section)
            for variable in re.findall(r"\((LOCKSTEP_\w+)\)", succeed(command, "--help")):
                self.assertIn(f"\\fB{variable}\\fR", section)

    @unittest.skipUnless(shutil.which("groff"), "groff is not installed")
    def test_groff_has_no_complaints(self):
        result = subprocess.run(["groff", "-ww", "-man", "-Tutf8"], input=succeed("man").encode(),
                                capture_output=True, timeout=HANGS)
        self.assertEqual((result.returncode, result.stderr.decode()), (0, ""))
        text = re.sub("\x1b\\[[0-9;]*m|.\b", "", result.stdout.decode())
        self.assertIn("lockstep completion bash", text)
        self.assertIn("--temperature", text)


if __name__ == "__main__":
    cli_test.BINARY, cli_test.SOURCE = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
