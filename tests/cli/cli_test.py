#!/usr/bin/env python3
"""The lockstep command from outside: exit statuses, what goes to stdout and what to stderr, options,
environment variables, signals.

    cli_test.py BINARY SOURCE_DIRECTORY [unittest's arguments]

SmolLM2Test needs the demo model (scripts/demo-model.sh); the rest runs on tiny golden checkpoints.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BINARY = ""
SOURCE = pathlib.Path()
FIGURES = re.compile(r"^cpu x \d+: \d+ prompt tokens in .* new tokens.*; finished by (\w+); loading took .* s$")
# Far beyond what any command here takes: whatever is still running then hangs.
HANGS = 120


def clean_environment(**variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOCKSTEP_")}
    return environment | {"LOCKSTEP_DEVICE": "cpu"} | variables


def start(*arguments, env=None, **options):
    return subprocess.Popen([BINARY, *map(str, arguments)], env=clean_environment(**(env or {})),
                            stdout=options.pop("stdout", subprocess.PIPE),
                            stderr=subprocess.PIPE, **options)


def lockstep(*arguments, input=None, **options):
    """Runs the command; returns (status, stdout, stderr)."""
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    with start(*arguments, stdin=stdin, **options) as process:
        try:
            out, err = process.communicate(input and input.encode(), timeout=HANGS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, (out or b"").decode(), err.decode()


class CommandTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.tiny = SOURCE / "tests/golden/model/llama"  # 104 tokens, 8 heads, no tokenizer
        cls.directory = tempfile.TemporaryDirectory()
        cls.work = pathlib.Path(cls.directory.name)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def succeed(self, *arguments, **options):
        status, out, err = lockstep(*arguments, **options)
        self.assertEqual(status, 0, err)
        return out, err

    def fail_with(self, status, message, *arguments, **options):
        """Expects this exit status, nothing on stdout, and one short message on stderr."""
        found, out, err = lockstep(*arguments, **options)
        self.assertEqual((found, out), (status, ""), err)
        self.assertIn(message, err)
        self.assertLessEqual(len(err.splitlines()), 3, err)
        if status == 1:
            self.assertTrue(err.startswith("lockstep: error: "), err)
        else:
            self.assertIn("--help", err)

    def tokens(self, *arguments, **options):
        """Token ids of the tiny model, greedily unless told otherwise."""
        out, _ = self.succeed("generate", "-m", self.tiny, "--prompt-ids", "5,6,7", "-n", 12,
                              "--ignore-eos", *arguments, **options)
        return [int(word) for word in out.split()]


class UsageTest(CommandTest):
    def test_help_and_version(self):
        out, err = self.succeed("--help")
        for command in ("generate", "inspect", "bench"):
            self.assertIn(command, out)
            self.assertIn("--model", self.succeed(command, "--help")[0])
        self.assertEqual(err, "")
        self.assertRegex(self.succeed("--version")[0], 
                         r"^lockstep \d+\.\d+\.\d+( \([0-9a-f]+(-dirty)?\))?\n"
                         r"backends: cpu(, cuda)?\n$")

    def test_wrong_usage_is_status_2(self):
        ids = ("--prompt-ids", "1,2")
        self.fail_with(2, "subcommand is required")
        self.fail_with(2, "there is no subcommand nonsense", "nonsense")
        self.fail_with(2, "--model is required", "generate", "-p", "a")
        self.fail_with(2, "--nonsense", "generate", "-m", self.tiny, *ids, "--nonsense")
        self.fail_with(2, "extra", "generate", "-m", self.tiny, *ids, "-n", 1, "extra")
        for tp in ("0", "-1", "65", "two", "1.5", ""):
            for command in ("generate", "inspect", "bench"):
                self.fail_with(2, "--tp", command, "-m", self.tiny, "--tp", tp)
        self.fail_with(2, "--device", "generate", "-m", self.tiny, "--device", "abacus")
        self.fail_with(2, "--dtype", "generate", "-m", self.tiny, "--dtype", "int8")
        for text in ("", "x", "1,x", "1.5", "99999999999"):
            self.fail_with(2, "--prompt-ids", "generate", "-m", self.tiny, "--prompt-ids", text)
        for text in ("", "-1", "1x", "18446744073709551616"):
            self.fail_with(2, "--seed", "generate", "-m", self.tiny, *ids, "--seed", text)
        self.fail_with(2, "--model", "generate", "-m", "", *ids)
        self.fail_with(2, "--batch", "bench", "-m", self.tiny, "--batch", "0")

    def test_bad_sampling_parameters_are_found_before_the_model_is_loaded(self):
        for option, value, message in (("-t", "-1", "temperature is -1"),
                                       ("--top-p", "1.5", "top_p is 1.5"),
                                       ("--top-k", "-2", "top_k is -2"),
                                       ("--min-p", "nan", "min_p is nan"),
                                       ("-n", "0", "max_tokens is 0"),
                                       ("--logprobs", "21", "logprobs is 21"),
                                       ("--stop", "", "stop string is empty"),
                                       ("--logit-bias", "x", "--logit-bias x: expected ID=VALUE"),
                                       ("--logit-bias", "5=", "--logit-bias 5=: expected"),
                                       ("--logit-bias", "5=1z", "--logit-bias 5=1z: expected")):
            self.fail_with(2, message, "generate", "-m", "/no/such/model", "-p", "a", option, value)

    def test_what_cannot_be_done_is_status_1(self):
        ids = ("--prompt-ids", "1,2")
        (self.work / "empty").mkdir()
        (self.work / "empty.gguf").write_bytes(b"")
        self.fail_with(1, "/no/such/model", "generate", "-m", "/no/such/model", *ids)
        self.fail_with(1, "config.json", "generate", "-m", self.work / "empty", *ids)
        self.fail_with(1, "empty.gguf", "generate", "-m", self.work / "empty.gguf", *ids)
        self.fail_with(1, "cli_test.py", "generate", "-m", __file__, *ids)
        self.fail_with(1, "cli_test.py", "inspect", "-m", __file__)
        self.fail_with(1, "/no/such/model", "bench", "-m", "/no/such/model")
        self.fail_with(1, "no tokenizer", "generate", "-m", self.tiny, "-p", "a")
        self.fail_with(1, "token id 104", "generate", "-m", self.tiny, "--prompt-ids", "1,104")
        self.fail_with(1, "9 ranks for a model with 8 query heads", "generate", "-m", self.tiny,
                       *ids, "--tp", 9)
        self.fail_with(1, "128 positions", "generate", "-m", self.tiny, *ids, "--max-length", 129)
        self.fail_with(1, "/no/such/file", "generate", "-m", self.tiny, "-f", "/no/such/file")
        self.fail_with(1, "tests", "generate", "-m", self.tiny, "-f", SOURCE / "tests")
        self.fail_with(1, "128 positions", "bench", "-m", self.tiny, "--prompt", 100, "-n", 100)


class FailingRankTest(CommandTest):
    def generate(self, fault):
        return lockstep("generate", "-m", self.tiny, "--tp", 4, "--prompt-ids", "5,6,7", "-n", 8, "--ignore-eos",
                        env={"LOCKSTEP_FAULT": fault})

    def test_one_error_names_the_rank_and_no_other_goes_on(self):
        for place, tokens in ("load", False), ("prefill", False), ("decode", True):
            for rank in 0, 3:
                with self.subTest(place=place, rank=rank):
                    status, out, err = self.generate(f"{place}:{rank}")
                    self.assertEqual(status, 1)
                    self.assertEqual(bool(out.strip()), tokens)
                    self.assertRegex(err, rf"error: rank {rank} \(cpu:{rank}\) failed in \w+: LOCKSTEP_FAULT asks")
                    self.assertEqual(err.count("error:"), 1)

    def test_a_rank_that_is_not_there_does_not_fail(self):
        self.assertEqual(self.generate("decode:4")[0], 0)

    def test_a_fault_that_is_none(self):
        for fault in "decode", "decode:", "decode:x", "encode:1", ":1":
            with self.subTest(fault=fault):
                status, _, err = self.generate(fault)
                self.assertEqual(status, 1)
                self.assertIn(f'LOCKSTEP_FAULT is "{fault}"; it has to be load, prefill or decode', err)


class RanksPerGpuTest(CommandTest):
    def test_it_is_read_before_cuda_is_used(self):
        """CUDA looks at what it sets in the environment once, so that it comes before every other error."""
        if "cuda" not in self.succeed("--version")[0]:
            self.skipTest("this build has no CUDA")
        for device in "cuda", "auto":
            with self.subTest(device=device):
                self.fail_with(1, "LOCKSTEP_RANKS_PER_GPU must be a number from 1 to 8", "generate", "-m", self.tiny,
                               "--prompt-ids", "5", "--device", device, env={"LOCKSTEP_RANKS_PER_GPU": "9"})


class GenerateTest(CommandTest):
    def test_tokens_to_stdout_and_figures_to_stderr(self):
        out, err = self.succeed("generate", "-m", self.tiny, "--prompt-ids", "5,6,7", "-t", 0,
                                "-n", 12, "--ignore-eos", "--tp", 2)
        self.assertRegex(out, r"^(\d+ ){12}\n$")
        self.assertEqual(len(err.splitlines()), 1, err)
        self.assertRegex(err, FIGURES)
        self.assertTrue(err.startswith("cpu x 2: 3 prompt tokens"), err)

    def test_the_same_tokens_at_every_degree(self):
        for arguments in (("-t", 0), ("--seed", 7), ("--seed", 7, "--top-p", 0.8)):
            one = self.tokens(*arguments)
            for tp in (2, 3, 4, 8):
                self.assertEqual(self.tokens(*arguments, "--tp", tp), one)

    def test_dummy_weights_from_a_config_alone(self):
        (self.work / "dummy").mkdir()
        (self.work / "dummy/config.json").write_bytes((self.tiny / "config.json").read_bytes())
        ids = ("--prompt-ids", "5,6,7", "-n", "20", "-t", "0", "--ignore-eos")
        self.fail_with(1, "safetensors", "generate", "-m", self.work / "dummy", *ids)
        texts = {self.succeed("generate", "-m", self.work / "dummy" / name, "--load-format",
                              "dummy", *ids, "--tp", tp)[0]
                 for name in ("", "config.json") for tp in (1, 2, 4)}
        self.assertEqual(len(texts), 1)
        self.assertNotIn(self.succeed("generate", "-m", self.work / "dummy", "--load-format",
                                      "dummy", "--dummy-seed", 1, *ids)[0], texts)

    def test_json(self):
        out, err = self.succeed("generate", "-m", self.tiny, "--prompt-ids", "5,6,7", "-t", 0,
                                "-n", 4, "--ignore-eos", "--json", "--logprobs", 2)
        self.assertEqual(err, "")
        self.assertEqual(len(out.splitlines()), 1)
        result = json.loads(out)
        self.assertEqual(list(result), ["text", "tokens", "finish_reason", "usage", "timings"])
        self.assertEqual(result["finish_reason"], "length")
        self.assertEqual(result["usage"], {"prompt_tokens": 3, "completion_tokens": 4})
        self.assertEqual(list(result["timings"]),
                         ["queue_seconds", "prefill_seconds", "decode_seconds"])
        self.assertEqual([token["id"] for token in result["tokens"]], self.tokens("-t", 0)[:4])
        for token in result["tokens"]:
            self.assertEqual(list(token), ["id", "text", "logprob", "top_logprobs"])
            self.assertEqual(len(token["top_logprobs"]), 2)
            self.assertEqual(token["top_logprobs"][0]["id"], token["id"])
            self.assertEqual(token["top_logprobs"][0]["logprob"], token["logprob"])

    def test_sampling_options_reach_the_sampler(self):
        self.assertEqual(self.tokens("--logit-bias", "9=1000"), [9] * 12)
        self.assertEqual(self.tokens("--logit-bias", "9=1000", "--logit-bias", "9=-1000",
                                     "--logit-bias", "8=1000"), [8] * 12)
        greedy = self.tokens("-t", 0)
        self.assertEqual(self.tokens("--top-k", 1), greedy)
        self.assertEqual(self.tokens("--top-p", 1e-6), greedy)
        self.assertEqual(self.tokens("--min-p", 1), greedy)
        self.assertEqual(self.tokens("-t", 0, "--prefill-chunk", 1), greedy)
        self.assertNotEqual(self.tokens("--seed", 1), self.tokens("--seed", 2))
        self.assertLess(len(set(greedy)), 12)
        self.assertEqual(len(set(self.tokens("-t", 0, "--repetition-penalty", 100))), 12)
        for penalty in ("--frequency-penalty", "--presence-penalty"):
            self.assertNotEqual(self.tokens("-t", 0, penalty, 2), greedy)
        self.assertEqual(self.tokens("-t", 0, "--max-length", 9), greedy[:6])

    def test_environment_variables_and_flags_that_win(self):
        env = {"LOCKSTEP_TP": "4", "LOCKSTEP_TEMPERATURE": "0", "LOCKSTEP_MAX_TOKENS": "3",
               "LOCKSTEP_MODEL": str(self.tiny), "LOCKSTEP_PROMPT_IDS": "5,6,7"}
        out, err = self.succeed("generate", env=env)
        self.assertTrue(err.startswith("cpu x 4: 3 prompt tokens"), err)
        self.assertIn(" 3 new tokens", err)
        out, err = self.succeed("generate", "--tp", 2, "-n", 5, env=env)
        self.assertTrue(err.startswith("cpu x 2: "), err)
        self.assertIn(" 5 new tokens", err)
        json.loads(self.succeed("generate", env=env | {"LOCKSTEP_JSON": "1"})[0])
        self.fail_with(2, "--tp", "generate", env=env | {"LOCKSTEP_TP": "many"})
        # A list for bench is nothing that the other commands look at.
        env = {"LOCKSTEP_TP": "1,2", "LOCKSTEP_MODEL": str(self.tiny)}
        self.succeed("bench", "--prompt", 4, "-n", 2, "--runs", 1, env=env)
        self.fail_with(2, "--tp", "generate", "--prompt-ids", "1", env=env)

    def test_an_empty_prompt(self):
        self.fail_with(1, "no tokenizer", "generate", "-m", self.tiny, input="\n")


class InspectAndBenchTest(CommandTest):
    def test_inspect(self):
        out, err = self.succeed("inspect", "-m", self.tiny, "--tp", 3)
        self.assertEqual(err, "")
        for text in ("llama", "lm_head.weight", "row-parallel", "cpu x 3", "the largest rank", "KV(128)",
                     "stored as float32", "a sequence of all 128 positions fits"):
            self.assertIn(text, out)
        result = json.loads(self.succeed("inspect", "-m", self.tiny, "--tp", 3, "--json")[0])
        self.assertEqual(result["world_size"], 3)
        self.assertEqual(result["dtype"], "float32")
        self.assertEqual(result["parameters"], 96_896 // 4)
        self.assertEqual(result["stored"], {"float32": {"tensors": 21, "bytes": 96_896}})
        self.assertEqual([rank["cache_bytes_per_token"] for rank in result["ranks"]],
                         [192, 192, 128])
        self.assertEqual(result["cache_length"], 128)
        self.assertEqual(result["memory"]["device"], "cpu x 3")
        self.assertEqual(result["memory"]["longest_context"], 128)
        self.assertTrue(result["memory"]["fits"])
        self.assertFalse(result["bitwise_equal_to_one_rank"])
        self.assertEqual([rank["heads"] for rank in result["ranks"]], [[0, 3], [3, 6], [6, 8]])
        self.assertEqual(result["ranks"][2]["weights"]["model.layers.1.mlp.down_proj.weight"],
                         {"shape": [32, 16], "split": "row-parallel", "rows": [0, 32],
                          "columns": [32, 48]})
        self.assertTrue(json.loads(self.succeed("inspect", "-m", self.tiny, "--tp", 4, "--json",
                                                "--dtype", "bfloat16")[0])
                        ["bitwise_equal_to_one_rank"])

    def test_bench(self):
        options = ("bench", "-m", self.tiny, "--tp", "1,2", "--batch", "1,3", "--prompt", 8, "-n",
                   4, "--runs", 1)
        out, err = self.succeed(*options)
        self.assertEqual(err, "")
        rows = [line.split() for line in out.splitlines()]
        self.assertEqual(rows[0][:2], ["tp", "batch"])
        self.assertEqual([row[:2] for row in rows[1:]],
                         [["1", "1"], ["1", "3"], ["2", "1"], ["2", "3"]])
        result = json.loads(self.succeed(*options, "--json")[0])
        self.assertEqual([(row["tp"], row["batch"]) for row in result["results"]],
                         [(1, 1), (1, 3), (2, 1), (2, 3)])
        for row in result["results"]:
            for field in ("load_s", "prefill_ms", "decode_ms", "floor_ms"):
                self.assertGreater(row[field], 0)


class EndTest(CommandTest):
    """How a command ends that is not let to its end."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        config = json.loads((cls.tiny / "config.json").read_text())
        config["max_position_embeddings"] = 300000
        (cls.work / "config.json").write_text(json.dumps(config))
        # Many minutes of work, from little memory.
        cls.endless = ("generate", "-m", cls.work, "--load-format", "dummy", "--prompt-ids", "1,2",
                       "--ignore-eos", "-n", 250000, "--max-length", 260000)

    def wait(self, process):
        try:
            out, err = process.communicate(timeout=HANGS)
        except subprocess.TimeoutExpired:
            process.kill()
            self.fail("did not end")
        return out.decode() if out is not None else "", err.decode()

    def test_control_c_ends_the_text(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            for tp in (1, 4):
                with start(*self.endless, "--tp", tp) as process:
                    first = os.read(process.stdout.fileno(), 1).decode()
                    process.send_signal(number)
                    out, err = self.wait(process)
                self.assertEqual(process.returncode, 130, err)
                self.assertRegex(first + out, r"^(\d+ )+\n$")
                self.assertEqual(re.match(FIGURES, err.strip()).group(1), "cancelled", err)

    def test_control_c_ends_json_too(self):
        with start(*self.endless, "--json", "--tp", 2) as process:
            # Nothing shows from outside when generation begins. Before, the process ends at once.
            self.wait_for_signals_to_be_taken(process)
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            out, err = self.wait(process)
        self.assertEqual(process.returncode, 130, err)
        if out:
            self.assertEqual(json.loads(out)["finish_reason"], "cancelled")

    def test_control_c_while_the_prompt_is_awaited(self):
        with start("generate", "-m", self.tiny, stdin=subprocess.PIPE) as process:
            self.wait_for_signals_to_be_taken(process)
            process.send_signal(signal.SIGINT)
            # Not communicate(): that would end the prompt.
            self.assertEqual(process.wait(timeout=HANGS), 130)
            self.assertEqual(process.stdout.read(), b"")

    def wait_for_signals_to_be_taken(self, process):
        status = pathlib.Path(f"/proc/{process.pid}/status")
        end = time.monotonic() + HANGS
        while time.monotonic() < end:
            blocked = int(re.search(r"SigBlk:\s*(\w+)", status.read_text()).group(1), 16)
            if blocked & 1 << (signal.SIGINT - 1):
                return
            time.sleep(0.01)
        self.fail("SIGINT is never taken")

    def test_a_closed_pipe_ends_it(self):
        with start(*self.endless) as process:
            os.read(process.stdout.fileno(), 1)
            process.stdout.close()
            process.stdout = None
            _, err = self.wait(process)
        self.assertEqual((process.returncode, err), (-signal.SIGPIPE, ""))
        # Where SIGPIPE is ignored, the failing write is an error like any other.
        with start(*self.endless, restore_signals=False) as process:
            os.read(process.stdout.fileno(), 1)
            process.stdout.close()
            process.stdout = None
            _, err = self.wait(process)
        self.assertEqual(process.returncode, 1)
        self.assertEqual(err, "lockstep: error: cannot write to standard output: Broken pipe\n")

    def test_a_full_disk_is_an_error(self):
        ids = ("-m", self.tiny, "--prompt-ids", "1,2", "-n", 4)
        for arguments in (("generate", *ids), ("generate", *ids, "--json"),
                          ("inspect", "-m", self.tiny), ("inspect", "-m", self.tiny, "--json"),
                          ("bench", "-m", self.tiny, "--prompt", 4, "-n", 2, "--runs", 1)):
            with open("/dev/full", "wb") as full:
                status, _, err = lockstep(*arguments, stdout=full)
            self.assertEqual(status, 1, arguments)
            self.assertIn("No space left on device", err)
        with open("/dev/full", "wb") as full:
            self.assertEqual(lockstep("--help", stdout=full)[0], 1)

    def test_figures_that_nobody_can_read_are_no_error(self):
        with open("/dev/full", "wb") as full:
            process = subprocess.run([BINARY, "generate", "-m", self.tiny, "--prompt-ids", "1,2",
                                      "-n", "4", "-t", "0", "--ignore-eos"], stderr=full,
                                     stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                     env=clean_environment(), timeout=HANGS)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(len(process.stdout.split()), 4)


class SmolLM2Test(CommandTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = SOURCE / ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
        if not cls.model.exists():
            raise FileNotFoundError(f"{cls.model} is absent: run scripts/demo-model.sh")
        cls.options = ("generate", "-m", cls.model, "-t", 0, "--tp", 3, "--max-length", 128)

    def test_a_prompt_is_a_prompt_wherever_it_comes_from(self):
        prompt = "The capital of France is"
        (self.work / "prompt").write_text(prompt + "\n")
        text, _ = self.succeed(*self.options, "-n", 4, "-p", prompt)
        self.assertTrue(text.startswith(" Paris."), text)
        self.assertTrue(text.endswith("\n"))
        self.assertEqual(self.succeed(*self.options, "-n", 4, input=prompt + "\n")[0], text)
        self.assertEqual(self.succeed(*self.options, "-n", 4, "-f", self.work / "prompt")[0], text)
        self.assertEqual(self.succeed(*self.options, "-n", 4, "-p", prompt, "--echo")[0],
                         prompt + text)
        self.assertEqual(self.succeed(*self.options, "-n", 4, "--prompt-ids",
                                      "504,3575,282,4649,314")[0], text)
        self.fail_with(1, "the prompt is empty", *self.options, input="\n")

    def test_several_prompts_are_a_batch_in_their_order(self):
        prompts = ("-p", "The capital of France is", "-p", "One, two, three,")
        out, err = self.succeed(*self.options, "-n", 3, *prompts, "--echo")
        self.assertTrue(out.startswith("The capital of France is Paris."), out)
        self.assertIn("\nOne, two, three, four", out)
        self.assertEqual(len(err.splitlines()), 2)
        out, err = self.succeed(*self.options, "-n", 3, *prompts, "--json")
        first, second = map(json.loads, out.splitlines())
        self.assertTrue(first["text"].startswith(" Paris."))
        self.assertEqual("".join(token["text"] for token in second["tokens"]), second["text"])

    def test_stop_string(self):
        out, err = self.succeed(*self.options, "-n", 20, "-p", "One, two, three,", "--stop", "six")
        self.assertEqual(out, " four, five, \n")
        self.assertEqual(re.match(FIGURES, err.strip()).group(1), "stop")
        result = json.loads(self.succeed(*self.options, "-n", 20, "-p", "One, two, three,",
                                         "--stop", "six", "--json")[0])
        self.assertEqual((result["finish_reason"], result["stop_string"]), ("stop", "six"))

    def test_no_half_character_is_ever_written(self):
        text, pieces = b"", 0
        with start(*self.options, "-n", 20, "-p", "Smileys: 😀😁😂😀😁😂😀😁😂😀😁") as process:
            while piece := os.read(process.stdout.fileno(), 4096):
                piece.decode()  # throws for half a character
                text += piece
                pieces += 1
            process.communicate(timeout=HANGS)
        self.assertEqual(process.returncode, 0)
        self.assertGreater(pieces, 1)
        self.assertTrue(any(ord(c) > 0xffff for c in text.decode()), text)


if __name__ == "__main__":
    BINARY, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
