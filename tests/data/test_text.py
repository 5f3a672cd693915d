"""NFC on entry, digests of content, and the language of an answer."""

import hashlib
import json
import subprocess
import sys
import unicodedata

import pytest

from seshu_swarm.data.scripts import BLOCKS, SCRIPT_OF, language_of_answer, script_share
from seshu_swarm.data.text import Corpus, Document, Row
from seshu_swarm.errors import DataError


def test_composed_and_decomposed_text_are_one_row() -> None:
    composed, decomposed = "\u0958\u0932\u092e", "\u0915\u093c\u0932\u092e"
    one, other = (Row("q", "", text, "hi") for text in (composed, decomposed))
    assert one == other and one.digest == other.digest
    assert one.output == decomposed  # NFC takes U+0958 apart
    assert Document("a", "en", "e\u0301").text == "\u00e9"


def test_the_digest_is_of_the_content() -> None:
    row = Row("q", "in", "आ", "hi")
    text = json.dumps(["row", "q", "in", "आ", "hi"])
    assert row.digest == hashlib.sha256(text.encode()).hexdigest()
    assert row.digest != Row("qi", "n", "आ", "hi").digest
    assert Document("a", "hi", "आ").digest == Document("b", "hi", "आ").digest
    assert Document("a", "hi", "आ").digest != Document("a", "mr", "आ").digest


@pytest.mark.parametrize("text", ["\ud800", "ok \udfff"])
def test_a_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="surrogate"):
        Row("q", "", text, "hi")


@pytest.mark.parametrize("language", ["", "../hi", "Hindi", "h1", "hi\n"])
def test_what_is_no_language_code_is_refused(language: str) -> None:
    with pytest.raises(DataError, match="language code"):
        Document("a", language, "text")


def test_a_corpus_sorts_by_language() -> None:
    rows = [Row("q", "", t, language) for t, language in (("ஆ", "ta"), ("आ", "hi"), ("ஈ", "ta"))]
    corpus = Corpus.of([Document("d", "bn", "আ")], rows)
    assert corpus.rows["ta"] == (rows[0], rows[2])
    assert corpus.languages == ("bn", "hi", "ta")


@pytest.mark.parametrize(
    ("output", "declared", "language"),
    [
        ("नमस्ते दुनिया", "hi", "hi"),
        ("dumpsys service", "hi", "en"),
        ("git commit --message 'नमस्ते'", "hi", "hi"),
        ("kubectl get namespaces --output wide 'न'", "hi", "en"),
        ("308", "hi", "hi"),
        ("سلام", "ur", "ur"),
        ("سلام", "hi", "en"),
        ("dumpsys", "xx", "xx"),
        ("ಮಾನವರೂ", "kn", "kn"),
    ],
)
def test_the_language_of_an_answer(output: str, declared: str, language: str) -> None:
    assert language_of_answer(output, declared) == language


@pytest.mark.parametrize(("language", "script"), SCRIPT_OF.items())
def test_blocks_hold_the_letters_whose_names_they_bear(language: str, script: str) -> None:
    prefix = {"Han": "CJK", "Meitei": "MEETEI", "Sinhala": "SINHALA"}.get(script, script.upper())
    letters = [
        chr(i)
        for i in range(0x20, 0xAC00)
        if unicodedata.name(chr(i), "").startswith(f"{prefix} ") and chr(i).isalpha()
    ]
    inside = sum(script_share(letter, language) == 1.0 for letter in letters)
    assert script in BLOCKS
    assert len(letters) > 30 and inside / len(letters) > 0.6


def test_data_imports_nothing_heavy() -> None:
    code = (
        "import sys, pkgutil, importlib, seshu_swarm.data as d\n"
        "[importlib.import_module(f'seshu_swarm.data.{m.name}')"
        " for m in pkgutil.iter_modules(d.__path__)]\n"
        "print([m for m in ('torch', 'hivemind', 'transformers', 'datasets', 'babel', 'pyarrow')"
        " if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
