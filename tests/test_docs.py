"""The documents tell the truth: flags, exit codes, command lines, links, the tree of folders."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seshu_swarm import errors
from seshu_swarm.errors import SeshuError
from seshu_swarm.program import cli, config
from seshu_swarm.program.cli import Command

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "seshu_swarm"
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/chat.md",
    "docs/dashboard.md",
    "docs/data.md",
    "docs/doctor.md",
    "docs/donor.md",
    "docs/evaluation.md",
    "docs/export.md",
    "docs/faq.md",
    "docs/index.md",
    "docs/instructions.md",
    "docs/licences.md",
    "docs/limits.md",
    "docs/nat.md",
    "docs/maintainer.md",
    "docs/pipeline.md",
    "docs/plan.md",
    "docs/policies.md",
    "docs/reference.md",
    "docs/researcher.md",
    "docs/scoring.md",
    "docs/threats.md",
    "docs/tokenisers.md",
    "docs/user.md",
    "docs/wire.md",
    "tests/vectors/README.md",
    "peer/README.md",
    "coordinator/README.md",
    "deploy/README.md",
    "tests/attacks/README.md",
    "tests/external/README.md",
)
# Where people look for a command; what any document shows is checked too.
WITH_COMMANDS = (
    "README.md",
    "docs/donor.md",
    "docs/maintainer.md",
    "docs/researcher.md",
    "docs/user.md",
    "peer/README.md",
    "coordinator/README.md",
    "deploy/README.md",
    "docs/policies.md",
    "docs/plan.md",
    "docs/export.md",
    "docs/data.md",
)
# Module → the command that flags alone mean.
ROLES: dict[str, str | None] = {
    "seshu_swarm": None,
    "seshu_swarm.client": None,
    "seshu_swarm.coordinator": None,
    "seshu_swarm.peer": "auto",
}
SENTENCE_ENDS = (".", "…")  # the join link is shown cut off: seshu://…
INLINE = re.compile(r"`(python -m seshu_swarm[^`]*)`")
NAME = re.compile(r"python -m [\w.]+( [a-z]+){0,2}")
SHELLS = ("sh", "bash", "shell", "console")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:home|root|work|tmp|mnt|Users)/")
TREE_LINE = re.compile(r"^([│├└─|` \t]*)(\S.*)$")


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def commands_of(module: str) -> tuple[Command, ...]:
    commands: tuple[Command, ...] = importlib.import_module(f"{module}.__main__").COMMANDS
    return commands


ALL_COMMANDS = [(module, command) for module in ROLES for command in commands_of(module)]
COMMAND_IDS = [f"{module} {command.name}" for module, command in ALL_COMMANDS]


def squeezed(text: str) -> str:
    """Without white space: argparse breaks lines where it likes."""
    return "".join(text.split())


@pytest.mark.parametrize(("module", "command"), ALL_COMMANDS, ids=COMMAND_IDS)
def test_help_documents_every_flag_with_a_sentence(
    module: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parser_of(module, commands_of(module)).parse_args([*command.name.split(), "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert command.sentence.endswith(".")
    assert squeezed(command.sentence) in squeezed(shown)
    for field in dataclasses.fields(command.settings):
        sentence = field.metadata["sentence"]
        assert sentence.endswith(SENTENCE_ENDS), f"{field.name}: {sentence!r}"
        assert sentence[0].isupper() or sentence[0].isdecimal(), f"{field.name}: {sentence!r}"
        name = field.name.upper() if config.is_positional(field) else config.flag_of(field.name)
        assert re.search(rf"^  {name}\b", shown, flags=re.MULTILINE), f"{name} is not in --help"
        assert squeezed(sentence) in squeezed(shown)


@pytest.mark.parametrize(("module", "command"), ALL_COMMANDS, ids=COMMAND_IDS)
def test_help_shows_no_flag_without_a_setting(
    module: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.parser_of(module, commands_of(module)).parse_args([*command.name.split(), "--help"])
    shown = set(re.findall(r"^  (?:-h, )?(--[\w-]+)", capsys.readouterr().out, flags=re.MULTILINE))
    fields = dataclasses.fields(command.settings)
    settings = {config.flag_of(field.name) for field in fields if not config.is_positional(field)}
    assert shown == settings | {"--help", "--config", "--print-config"}


@pytest.mark.parametrize(("module", "command"), ALL_COMMANDS, ids=COMMAND_IDS)
def test_what_a_command_runs_is_there(module: str, command: Command) -> None:
    file, colon, function = command.run.partition(":")
    path = ROOT / (file.replace(".", "/") + ".py")
    assert colon
    assert re.search(rf"^def {function}\(", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def exit_codes() -> dict[str, int]:
    """Name of each error → its exit code."""
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, SeshuError)]
    return {kind.__name__: kind.exit_code for kind in kinds}


def test_every_error_has_an_exit_code_of_its_own() -> None:
    codes = list(exit_codes().values())
    assert len(codes) == len(set(codes))
    assert not {0, errors.EXIT_INTERRUPTED} & set(codes)


def test_the_errors_docstring_draws_every_error_with_its_code() -> None:
    drawn = re.findall(r"(\w+Error) +(\d+) ", errors.__doc__ or "")
    assert {name: int(code) for name, code in drawn} == exit_codes()
    assert f"{errors.EXIT_INTERRUPTED} is an interruption" in (errors.__doc__ or "")


def test_the_peer_s_runbook_says_what_to_do_for_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (\S+) \| (.+) \|$", read("peer/README.md"), flags=re.MULTILINE)
    expected = {code: f"`{name}`" for name, code in exit_codes().items()}
    assert {int(code): name for code, name, _ in rows} == {
        0: "–",
        **expected,
        errors.EXIT_INTERRUPTED: "–",
    }
    assert all(advice.strip() for _, _, advice in rows)


def test_the_help_by_exit_code_has_every_code_and_no_other() -> None:
    parts = re.split(r"^## ", read("docs/faq.md"), flags=re.MULTILINE)[1:]
    titles = [part.partition("\n")[0] for part in parts]
    expected = {code: f"{code} {name}" for name, code in exit_codes().items()}
    expected |= {0: "0", errors.EXIT_INTERRUPTED: str(errors.EXIT_INTERRUPTED)}
    assert titles == [expected[code] for code in sorted(expected)]
    for part in parts:
        what, _, to_do = part.partition("\n")[2].partition("**What to do:** ")
        assert what.strip().endswith(".") and to_do.strip()


def shell_lines(document: str) -> list[str]:
    """Lines of the document's shell blocks, continued ones joined, and commands between backticks."""
    text = read(document)
    blocks = [body for kind, body in FENCE.findall(text) if kind in SHELLS]
    outside = FENCE.sub("", text)
    blocks += re.findall(r"^    (python -m seshu_swarm.*)$", outside, flags=re.MULTILINE)
    spans = [span.replace("\n", " ") for span in INLINE.findall(outside)]
    # In a sentence a command may be named alone, without what it must be given.
    blocks += [f"{span} --help" if NAME.fullmatch(span) else span for span in spans]
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]


def our_command(line: str) -> tuple[str, list[str]] | None:
    """Module and arguments of a line that runs us; None for any other line."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set("();<>|&"):
            break
        words.append(word)
    for index, word in enumerate(words):
        # After `python -m`, or after the image's name: its entry point is `python -m`.
        if word.partition(".")[0] == "seshu_swarm" and words[index - 1] in ("-m", "seshu-swarm"):
            return word, words[index + 1 :]
    return ("seshu_swarm", words[1:]) if words[:1] == ["seshu"] else None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_line_parses(document: str) -> None:
    found = [(line, ours) for line in shell_lines(document) if (ours := our_command(line))]
    assert found or document not in WITH_COMMANDS, "a document for people who run us shows how"
    for line, (module, words) in found:
        flags = parse(module, words, line)
        if flags.pop("print_config", False) or flags.get("command") is None:
            continue
        command = next(c for c in commands_of(module) if c.name == flags["command"])
        toml = ROOT / flags["config"] if flags["config"] else None
        # A copy that the reader made is not in the repository.
        config.load(command.settings, flags, toml if toml and toml.exists() else None)


def parse(module: str, words: list[str], line: str) -> dict[str, Any]:
    """The flags of a command line, as the role itself would read them."""
    given = cli.with_default(words, ROLES[module])
    try:
        return vars(cli.parser_of(module, commands_of(module)).parse_args(given))
    except SystemExit as ended:
        if ended.code == 0:  # --help, --version
            return {}
        raise AssertionError(f"does not parse: {line}") from None


def test_a_wrong_command_line_would_be_noticed() -> None:
    ours = our_command('python -m seshu_swarm.peer --jion "$LINK" > log  # a comment')
    assert ours == ("seshu_swarm.peer", ["--jion", "$LINK"])
    with pytest.raises(AssertionError, match="does not parse"):
        parse(*ours, "…")
    assert parse("seshu_swarm.peer", ["--join", "$LINK"], "…")["command"] == "auto"
    assert our_command("make demo && python -m http.server") is None
    contained = our_command("docker run --rm seshu-swarm seshu_swarm.peer auto --join x")
    assert contained == ("seshu_swarm.peer", ["auto", "--join", "x"])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    text = FENCE.sub("", read(document))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = ((ROOT / document).parent / path).resolve() if path else ROOT / document
        assert place.exists(), f"{document} links to {target}"
        if anchor:
            assert anchor in anchors(place.read_text(encoding="utf-8")), f"{document}: {target}"


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_a_document_exist(document: str) -> None:
    named = re.findall(r"`([\w-]+(?:/[\w.-]+)*/[\w-]+\.(?:py|toml|md|service))`", read(document))
    places = (ROOT, PACKAGE, (ROOT / document).parent)
    missing = [path for path in named if not any((place / path).exists() for place in places)]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_names_a_folder_of_one_machine(document: str) -> None:
    assert not MACHINE_PATH.findall(read(document))


def test_every_document_is_checked() -> None:
    ignored = ignored_names()
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.md")
        if not any(is_ignored(part, ignored) for part in path.relative_to(ROOT).parts)
    }
    assert found | {"README.md"} == set(DOCUMENTS)


def ignored_names() -> list[str]:
    lines = read(".gitignore").splitlines()
    return [line.strip().strip("/") for line in lines if line.strip() and line[0] != "#"]


def is_ignored(name: str, ignored: list[str]) -> bool:
    return name.startswith(".") or any(fnmatch.fnmatch(name, pattern) for pattern in ignored)


def folders() -> set[str]:
    """Top-level folders and every folder under seshu_swarm/, without generated ones."""
    ignored = ignored_names()
    candidates = [path for path in (*ROOT.iterdir(), *PACKAGE.rglob("*")) if path.is_dir()]
    parts = [path.relative_to(ROOT).parts for path in candidates]
    return {"/".join(p) for p in parts if not any(is_ignored(name, ignored) for name in p)}


def tree_of(text: str) -> Iterator[str]:
    """Paths drawn in the block that begins with `seshu-swarm/`, by indentation."""
    body = next(body for _, body in FENCE.findall(text) if body.startswith("seshu-swarm/"))
    above: list[tuple[int, str]] = []
    for line in body.splitlines()[1:]:
        drawn = TREE_LINE.match(line.partition("#")[0].rstrip())
        if drawn is None or not drawn[2].strip("│ "):
            continue
        indent, names = len(drawn[1]), drawn[2].split()
        while above and above[-1][0] >= indent:
            above.pop()
        # Folders may share a line: `peer/  coordinator/  role kits`.
        several = [name for name in names[1:] if name.endswith("/")] if names[0][-1] == "/" else []
        for name in (names[0], *several):
            yield "/".join([*(folder for _, folder in above), name.rstrip("/")])
        above.append((indent, names[0].rstrip("/")))


def test_the_readme_s_tree_is_the_repository() -> None:
    drawn = list(tree_of(read("README.md")))
    assert len(drawn) == len(set(drawn))
    assert not [path for path in drawn if not (ROOT / path).exists()]
    assert folders() <= set(drawn), "folders that the tree leaves out"


def test_a_tree_is_read_with_lines_or_without() -> None:
    lines = "```\nseshu-swarm/\n├── a/  # x\n│   ├── b.py   # y\n│   └── c/\n└── d/  e/  f g\n```\n"
    spaces = "```\nseshu-swarm/\n  a/      x\n    b.py  y\n    c/\n  d/  e/  f g\n```\n"
    assert list(tree_of(lines)) == list(tree_of(spaces)) == ["a", "a/b.py", "a/c", "d", "e"]
