#!/usr/bin/env python3
"""Writes tests/golden/chat/conversations.json: what Jinja2 makes of many conversations with the chat
templates of many models.

    scripts/test-assets.sh
    make_chat_golden.py [--out DIR] [--show TEMPLATE CASE]

Reference: jinja2 3.1.6 (Python 3.11), set up as in jinja_reference.py. gguf 0.19.0 takes SmolLM2's
template out of the demo model; the others are fetched by scripts/test-assets.sh and are not in the
tree, nor is what they render: the file holds

    "versions"
    "cases"    lists of {"messages", "options"}: fields of ChatMessage and ChatOptions, but with
               "tools", "tool_calls" and "variables" as JSON and not as text with JSON in it
    "outputs"  for each template, for each case, the FNV-1a hash (64 bits, hexadecimal) of the UTF-8
               text, or null if Jinja2 raises an error

--show prints one rendering, to look at what differs.
"""

import argparse
import json
import pathlib
import sys

import gguf
import jinja2
from jinja_reference import render

ROOT = pathlib.Path(__file__).resolve().parents[2]
ASSETS = ROOT / ".cache"
DEMO_MODEL = ASSETS / "SmolLM2-135M-Instruct.Q4_1.gguf"

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather \"now\" & <here>",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Größe: é 日本"},
        "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
        "days": {"type": ["integer", "null"], "minimum": 0, "maximum": 18446744073709551615}},
        "required": ["city"]}}}
NOW = {"type": "function", "function": {
    "name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}


def message(role, content="", **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, id="call12345"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def conversations():
    system, user, assistant = (lambda text, role=role: message(role, text)
                               for role in ("system", "user", "assistant"))
    turns = [user("Hi"), assistant("Hello!"), user("How are you?"), assistant("Fine."), user("Bye")]
    odd = ["", " ", "\n", "  two\n lines \n", "Größe ☃ 日本 🎉 e\u0301", "{{ x }} {% if %} {# c #}",
           "'single' \"double\" \\ \\n", "<|im_end|><|eot_id|></s>[/INST]<|user|>", "tab\tnul-free\x01\x7f\u2028\xa0",
           "x" * 3000, "<think>\nhm\n</think>\n\nanswer", "```python\nprint(1)\n```", "a\r\nb\rc"]
    yield [user("Hi")], {}
    yield [user("Hi")], {"add_generation_prompt": False}
    yield [system("Be brief."), user("Hi")], {}
    yield [system("Be brief."), user("Hi")], {"add_generation_prompt": False}
    yield [system(""), user("Hi")], {}
    for length in range(2, 6):
        yield turns[:length], {}
        yield [system("  You are\n\nhelpful. ")] + turns[:length], {"add_generation_prompt": length % 2 == 1}
    for text in odd:
        yield [user(text)], {}
        yield [system(text), user(text), assistant(text), user("and?")], {}
    yield [user("a"), assistant("b")], {"add_generation_prompt": False}
    yield turns * 10, {}
    # What some templates refuse.
    yield [assistant("I begin")], {}
    yield [user("a"), user("b")], {}
    yield [user("a"), system("late"), user("b")], {}
    yield [system("only")], {}
    yield [system("one"), system("two"), user("a")], {}
    yield [message("developer", "Be brief."), user("Hi")], {}
    yield [message("narrator", "once"), user("Hi")], {}
    yield [user("a"), assistant("b"), assistant("c"), user("d")], {}
    # Thinking.
    for thinking in (True, False):
        yield [user("Hi")], {"variables": {"enable_thinking": thinking}}
        yield turns, {"variables": {"enable_thinking": thinking}}
    yield [user("a"), assistant("<think>\nwhy\n</think>\n\nb"), user("c")], {}
    yield [user("a"), message("assistant", "b", reasoning_content="because"), user("c")], {}
    yield [user("a"), message("assistant", "b", reasoning_content="because")], {"add_generation_prompt": False}
    # Tools.
    tools = [WEATHER, NOW]
    asked = [user("Weather in Rom?")]
    one = [message("assistant", tool_calls=[call("get_weather", {"city": "Rom", "days": None, "unit": "c"})])]
    answer = [message("tool", "{\"temp\": 21.5}", name="get_weather", tool_call_id="call12345")]
    two = [message("assistant", "Let me see.", tool_calls=[
        call("get_weather", {"city": "Größe \"é\" <|im_end|>", "n": [1, 2.5, True, None, {"a": {}}]}, "aaaaaaaaa"),
        call("now", {}, "bbbbbbbbb")])]
    answers = [message("tool", "one", name="get_weather", tool_call_id="aaaaaaaaa"),
               message("tool", "two <|im_end|>", name="now", tool_call_id="bbbbbbbbb")]
    for given in ({"tools": tools}, {"tools": [NOW]}, {}):
        for head in ([], [system("Use the tools.")]):
            yield head + asked, given
            yield head + asked + one, {**given, "add_generation_prompt": False}
            yield head + asked + one + answer, given
            yield head + asked + one + answer + [assistant("21.5"), user("Thanks")], given
            yield head + asked + two + answers, given
            yield head + asked + two + answers + [assistant("ok"), user("again")] + one + answer, given
    yield turns, {"tools": tools}
    yield [message("user", "named", name="Ann"), assistant("b"), user("c")], {}
    yield [user("Hi")], {"variables": {"custom": "x", "date_string": "01 Jan 2025", "tools_in_user_message": False}}
    yield asked, {"tools": tools, "variables": {"date_string": "01 Jan 2025", "tools_in_user_message": False}}


def template_variables(messages, options):
    def cleaned(m):
        m = dict(m)
        if m.get("tool_calls") and not m["content"]:
            del m["content"]
        return m
    return {"bos_token": "<s>", "eos_token": "</s>", "documents": None, **options.get("variables", {}),
            "messages": [cleaned(m) for m in messages], "tools": options.get("tools"),
            "add_generation_prompt": options.get("add_generation_prompt", True)}


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode("utf-8"):
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{value:016x}"


def load_templates():
    templates = {path.stem: path.read_bytes().decode("utf-8")
                 for path in sorted((ASSETS / "chat-templates").glob("*.jinja"))}
    field = gguf.GGUFReader(DEMO_MODEL).fields["tokenizer.chat_template"]
    templates["smollm2"] = bytes(field.parts[field.data[0]]).decode("utf-8")
    return templates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/golden/chat")
    parser.add_argument("--show", nargs=2, metavar=("TEMPLATE", "CASE"))
    arguments = parser.parse_args()
    templates = load_templates()
    cases = list(conversations())
    if arguments.show:
        name, number = arguments.show
        return sys.stdout.write(repr(render(templates[name], template_variables(*cases[int(number)]))) + "\n")
    outputs = {}
    for name, source in templates.items():
        rendered = [render(source, template_variables(*case)) for case in cases]
        outputs[name] = [None if text is None else fnv1a(text) for text in rendered]
    versions = {"jinja2": jinja2.__version__, "gguf": "0.19.0", "python": sys.version.split()[0]}
    arguments.out.mkdir(parents=True, exist_ok=True)
    with open(arguments.out / "conversations.json", "w", encoding="utf-8") as file:
        file.write("{\n" + f'"versions": {json.dumps(versions)},\n"cases": [\n')
        file.write(",\n".join(json.dumps({"messages": m, "options": o}) for m, o in cases))
        file.write('\n],\n"outputs": {\n')
        file.write(",\n".join(f"{json.dumps(n)}: {json.dumps(o, separators=(',', ':'))}" for n, o in outputs.items()))
        file.write("\n}}\n")
    errors = sum(o is None for out in outputs.values() for o in out)
    print(f"{len(templates)} templates, {len(cases)} conversations, {errors} errors")


if __name__ == "__main__":
    main()
