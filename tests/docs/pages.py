"""README, docs/ and what they show: code blocks, commands and links."""

import re
import shlex
from pathlib import Path

import click

from twin_tf.cli.main import main

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("**/*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def text_of(page):
    """A page's text."""
    return page.read_text(encoding="utf-8")


def blocks(text, language):
    """Fenced code blocks whose first word is `language`."""
    return re.findall(rf"^```{language}\b[^\n]*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def section(text, title):
    """What stands under a heading, up to the next of any level."""
    (found,) = re.findall(rf"^##+ {re.escape(title)}\n(.*?)(?=^##? |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return found


def command_lines(text):
    """The lines of indented and fenced shell blocks, continued lines joined."""
    fenced = "\n".join(blocks(text, "sh"))
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = "\n".join(re.findall(r"^    (.*)$", prose, flags=re.MULTILINE))
    return re.sub(r"\\\n\s*", " ", f"{fenced}\n{indented}").splitlines()


def words(line):
    """A shell line's words, without its comment."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a line of something else than a shell
        return []


def twin_tf_calls(text):
    """Arguments of every `twin-tf` call in a page's blocks, those in comments too."""
    found = []
    for part in (part for line in command_lines(text) for part in line.split(" # ")):
        call = words(part)
        if "twin-tf" in call:
            arguments = call[call.index("twin-tf") + 1 :]
            found.append([word for word in arguments if word != "&"])
    return found


def inline_calls(text):
    """Commands and options of every `twin-tf` call in running text."""
    return [
        (name, re.findall(r"--[a-z][a-z-]*", rest))
        for name, rest in re.findall(r"`twin-tf ([a-z][a-z-]*)([^`\n]*)`", text)
    ]


def make_targets(text):
    """Targets of every `make` call, in blocks and in running text."""
    return re.findall(r"(?:^    |^|`)(?:[A-Z]+=\S+ )?make ([a-z][a-z-]+)", text, flags=re.MULTILINE)


def mistakes(arguments):
    """Why a `twin-tf` call could not be run as shown; empty if it could."""
    command = main.commands.get(arguments[0])
    if command is None:
        return f"no command {arguments[0]}"
    context = click.Context(command, info_name=arguments[0], resilient_parsing=True)
    try:
        given, left, _ = command.make_parser(context).parse_args(args=list(arguments[1:]))
    except click.UsageError as error:
        return str(error)
    missing = [option.name for option in command.params if option.required and given.get(option.name) is None]
    return f"left over: {left}" if left else f"missing: {missing}" if missing else ""
