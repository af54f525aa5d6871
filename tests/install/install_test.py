#!/usr/bin/env python3
"""Programs of somebody else's against the installed library: what is installed, what it shows, and that every program
of the documentation builds and runs with it, by CMake and by pkg-config, shared and static.

    install_test.py BUILD_DIRECTORY SOURCE_DIRECTORY [unittest's arguments]

The build directory has to be built. Installs into a temporary directory.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path()
SOURCE = pathlib.Path()
LIMIT = 600  # seconds, far beyond what any command here takes
DOCUMENTS = ("docs/getting-started.md", "docs/library.md")


def run(*command, cwd=None, env=None):
    """Runs a command that has to succeed; returns its stdout."""
    result = subprocess.run([str(part) for part in command], cwd=cwd, env={**os.environ, **(env or {})},
                            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
    if result.returncode != 0:
        raise AssertionError(f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return result.stdout


def documented_files():
    """The files that the documents contain, by name."""
    files = {}
    for document in DOCUMENTS:
        text = (SOURCE / document).read_text()
        found = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        programs = re.findall(r"^```(?:cpp|c|cmake)$", text, re.MULTILINE)
        assert len(found) == len(programs), f"{document}: a block of code without <!-- file: name --> before it"
        files |= dict(found)
    return files


def documented_commands(document):
    """The lines of a document that call a compiler."""
    return re.findall(r"^(?:cc|c\+\+) .*$", (SOURCE / document).read_text(), re.MULTILINE)


def write_tiny_model(directory):
    """A golden checkpoint of 104 tokens, with a tokenizer of ASCII's printable characters and a chat template."""
    golden = SOURCE / "tests/golden/model/llama"
    shutil.copy(golden / "model.safetensors", directory)
    config = json.loads((golden / "config.json").read_text()) | {"max_position_embeddings": 512}
    (directory / "config.json").write_text(json.dumps(config))
    special = ["<unk>", "<s>", "</s>"]
    characters = ["Ġ", "Ċ"] + [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokenizer = {
        "added_tokens": [{"id": i, "content": content, "special": True} for i, content in enumerate(special)],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "merges": [],
                  "vocab": {character: i for i, character in enumerate(characters, len(special))}},
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    (directory / "tokenizer_config.json").write_text(json.dumps(
        {"chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"}))
    (directory / "generation_config.json").write_text('{"temperature": 0.0}')


class InstallTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.work = pathlib.Path(cls.directory.name)
        first = cls.work / "first"
        run("cmake", "--install", BUILD, "--prefix", first)
        cls.prefix = cls.work / "moved" / "tree"
        cls.prefix.parent.mkdir()
        first.rename(cls.prefix)  # it works wherever it is
        cls.library = next(cls.prefix.rglob("liblockstep.so")).parent
        cls.environment = {"PKG_CONFIG_PATH": str(cls.library / "pkgconfig"), "CMAKE_PREFIX_PATH": str(cls.prefix)}
        cls.loader = {"LD_LIBRARY_PATH": f"{cls.library}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
        cls.programs = cls.work / "programs"
        cls.programs.mkdir()
        cls.files = documented_files()
        for name, text in cls.files.items():
            (cls.programs / name).write_text(text)
        cls.model = cls.work / "model"
        cls.model.mkdir()
        write_tiny_model(cls.model)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def run_program(self, program, env=None):
        out = run(program, self.model, env=env)
        self.assertNotEqual(out, "", program)
        return out

    def needed(self, file):
        """The shared libraries that a program or library names."""
        return set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", file)))

    def test_cmake(self):
        """The documents' programs by the CMake package, shared and static."""
        build = self.work / "consumer"
        run("cmake", "-S", SOURCE / "tests/install/consumer", "-B", build, f"-DPROGRAMS={self.programs}",
            "-DCMAKE_BUILD_TYPE=Debug", "-G", "Ninja", env=self.environment)
        run("cmake", "--build", build)
        names = [name.replace(".", "_") for name in self.files if name.endswith((".c", ".cpp"))]
        self.assertGreaterEqual(len(names), 9)
        for name in names:
            with self.subTest(name):
                shared = self.run_program(build / name)  # finds the library by CMake's RPATH
                static = self.run_program(build / f"{name}_static")
                if name not in ("text_cpp", "streams_cpp"):  # they print times, or cancel at some token
                    self.assertEqual(shared, static)
                self.assertEqual(self.needed(build / name) - {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1",
                                                              "libc.so.6"}, {self.soname()})
                self.assertNotIn(self.soname(), self.needed(build / f"{name}_static"))
        self.assertEqual(self.run_program(build / "hello_c"), self.run_program(build / "hello_cpp"))

    def soname(self):
        return re.search(r"\(SONAME\).*\[(.*)\]", run("readelf", "-d", self.library / "liblockstep.so")).group(1)

    def test_documented_project(self):
        """getting-started's CMakeLists.txt as it is there."""
        project = self.work / "hello"
        project.mkdir()
        for name in ("CMakeLists.txt", "hello.cpp"):
            shutil.copy(self.programs / name, project)
        run("cmake", "-B", "build", "-G", "Ninja", cwd=project, env=self.environment)
        run("cmake", "--build", "build", cwd=project)
        self.run_program(project / "build/hello")

    def test_documented_commands(self):
        """getting-started's lines for pkg-config as they are there; then the static library."""
        commands = documented_commands("docs/getting-started.md")
        self.assertEqual(len(commands), 2)
        for command in commands:
            run("bash", "-euo", "pipefail", "-c", command, cwd=self.programs, env=self.environment)
            program = self.programs / re.search(r"-o (\w+)", command).group(1)
            self.run_program(program, env=self.loader)
            self.assertIn(self.soname(), self.needed(program))
        static = re.search(r"pkg-config --static.*liblockstep.a/'", (SOURCE / "docs/library.md").read_text())
        flags = static.group().replace(r"\|", "|")
        run("bash", "-euo", "pipefail", "-c", f"cc hello.c $({flags}) -o hello_static", cwd=self.programs,
            env=self.environment)
        self.run_program(self.programs / "hello_static")
        self.assertNotIn(self.soname(), self.needed(self.programs / "hello_static"))

    def test_version_is_checked(self):
        for version, status in (("0.1", 0), ("0.2", 1), ("1.0", 1)):
            project = self.work / f"version-{version}"
            project.mkdir()
            (project / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.25)\nproject(version NONE)\n"
                                                    f"find_package(Lockstep {version} CONFIG REQUIRED)\n")
            result = subprocess.run(["cmake", "-S", project, "-B", project / "build"], capture_output=True,
                                    timeout=LIMIT, env={**os.environ, **self.environment}, text=True)
            self.assertEqual(result.returncode, status, result.stderr)

    def test_headers(self):
        """Every header stands alone, without warnings; the C one in C99 and in C++."""
        include = self.prefix / "include"
        strict = ("-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", include)
        main = self.work / "header.c"
        main.write_text("#include <lockstep/c/lockstep.h>\n")
        run("cc", "-std=c99", *strict, main)
        headers = sorted(str(path.relative_to(include)) for path in include.rglob("*.h"))
        self.assertIn("lockstep/version.h", headers)
        main = self.work / "header.cpp"
        unmarked = re.compile(r"^(?!LOCKSTEP_API |typedef |#|template)[A-Za-z_][\w:<> ]*[ *&](\w+)\(", re.MULTILINE)
        for header in headers:
            with self.subTest(header):
                self.assertEqual(unmarked.findall((include / header).read_text()), [], "not marked LOCKSTEP_API")
                main.write_text(f"#include <{header}>\n")
                run("c++", "-std=c++20", *strict, main)

    def test_symbols(self):
        """The shared library shows the public interface and nothing else."""
        lines = run("nm", "-DC", "--defined-only", self.library / "liblockstep.so").splitlines()
        symbols = [line.split(maxsplit=2)[2] for line in lines]
        public = re.compile(r"(lockstep::|(typeinfo|typeinfo name|vtable) for lockstep::|lockstep_|LOCKSTEP_)")
        self.assertEqual([symbol for symbol in symbols if not public.match(symbol)], [])
        internal = re.compile(r"Impl|Request::|lockstep::(c|cuda|cpu|cli|test)::|nlohmann|fmt::|spdlog")
        self.assertEqual([symbol for symbol in symbols if internal.search(symbol)], [])
        declared = set(re.findall(r"\blockstep_\w+(?=\()",
                                  (self.prefix / "include/lockstep/c/lockstep.h").read_text()))
        exported = {symbol.split("@")[0] for symbol in symbols if symbol.startswith("lockstep_")}
        self.assertEqual(exported, {name for name in declared if not name.endswith("_callback")})

    def test_command(self):
        self.assertRegex(run(self.prefix / "bin/lockstep", "--version"), r"0\.1\.")

    def test_destdir(self):
        """A staged installation has the same files."""
        run("cmake", "--install", BUILD, "--prefix", "/opt/x", env={"DESTDIR": str(self.work / "stage")})

        def files(root):
            return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())

        self.assertEqual(files(self.work / "stage/opt/x"), files(self.prefix))


class PackageTest(unittest.TestCase):
    """The Debian packages: what is in them, what they depend on, and that what is in them runs."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.work = pathlib.Path(cls.directory.name)
        run("cpack", "--config", BUILD / "CPackConfig.cmake", "-G", "DEB", "-B", cls.work)
        cls.packages = {path.name.split("_")[0]: path for path in cls.work.glob("*.deb")}
        cls.root = cls.work / "root"
        for package in cls.packages.values():
            run("dpkg-deb", "--extract", package, cls.root)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def field(self, package, name):
        return run("dpkg-deb", "--field", self.packages[package], name).strip()

    def files(self, package):
        lines = run("dpkg-deb", "--contents", self.packages[package]).splitlines()
        self.assertTrue(all(line.split()[1] == "root/root" for line in lines), lines)
        return {line.split()[5].removeprefix("./usr/") for line in lines if not line.startswith("d")}

    def test_names_and_dependencies(self):
        self.assertEqual(set(self.packages), {"lockstep", "liblockstep0.1", "liblockstep-dev"})
        for package in ("lockstep", "liblockstep0.1"):
            depends = self.field(package, "Depends")
            for library in ("libc6", "libstdc++6", "libsentencepiece0"):
                self.assertIn(library, depends)
            self.assertNotIn("-dev", depends)
        self.assertEqual(self.field("liblockstep-dev", "Depends"),
                         f"liblockstep0.1 (= {self.field('liblockstep0.1', 'Version')})")
        for package in self.packages:
            self.assertRegex(self.field(package, "Maintainer"), r".+ <.+@.+>")
        run("dpkg-deb", "--control", self.packages["liblockstep0.1"], self.work / "control")
        self.assertRegex((self.work / "control/shlibs").read_text(), r"^liblockstep 0\.1 liblockstep0\.1 ")

    def test_contents(self):
        command, library, development = (self.files(name) for name in ("lockstep", "liblockstep0.1",
                                                                       "liblockstep-dev"))
        for file in ("bin/lockstep", "share/man/man1/lockstep.1.gz", "share/bash-completion/completions/lockstep",
                     "share/doc/lockstep/copyright", "share/doc/lockstep/changelog.gz"):
            self.assertIn(file, command)
        self.assertEqual({pathlib.Path(file).name for file in library},
                         {"liblockstep.so.0.1", "liblockstep.so.0.1.0", "copyright", "changelog.gz"})
        for file in ("liblockstep.so", "liblockstep.a", "lockstep.pc", "LockstepConfig.cmake", "lockstep.h"):
            self.assertIn(file, {pathlib.Path(path).name for path in development})

    def test_runs(self):
        self.assertRegex(run(self.root / "usr/bin/lockstep", "--version"), r"0\.1\.")
        library = next(self.root.rglob("liblockstep.so.0.1.0"))
        missing = [line for line in run("ldd", library).splitlines() if "not found" in line]
        self.assertEqual(missing, [])


def main():
    global BUILD, SOURCE
    BUILD, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])


if __name__ == "__main__":
    main()
