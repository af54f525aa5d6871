#!/usr/bin/env python3
"""Collects real chat templates as NAME.jinja files in a folder, out of what scripts/test-assets.sh
fetched.

    chat-templates.py FOLDER LLM_FAMILY_JSON ALIGNMENT_DATA_PY

From xinference's list of models: all templates, under their models' names. From alignment-handbook:
the one of Zephyr, which TinyLlama-1.1B-Chat has too. Nothing is executed; the expressions are read.
"""

import ast
import json
import pathlib
import sys


def zephyr(source):
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "DEFAULT_CHAT_TEMPLATE":
            return ast.literal_eval(node.value)
    sys.exit("chat-templates: no DEFAULT_CHAT_TEMPLATE")


def main():
    folder, families, data = map(pathlib.Path, sys.argv[1:])
    templates = {family["model_name"]: family["chat_template"]
                 for family in json.loads(families.read_text("utf-8"))
                 if family.get("chat_template")}
    templates["tinyllama-zephyr"] = zephyr(data.read_text("utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, template in templates.items():
        part = folder / f"{name}.part"
        part.write_text(template, "utf-8", newline="")
        part.rename(folder / f"{name}.jinja")


if __name__ == "__main__":
    main()
