"""Python source as a task: the tokens are tokenize's, the parts are apart, contexts are what they should be."""

from __future__ import annotations

import io
import json
import keyword
import sys
import sysconfig
import tokenize
from pathlib import Path

import numpy as np
import pytest

from hashfold.data import python_source, read, typed, vectorizer_from_state
from hashfold.data.code_tokens import NEWLINE, NUMBER, STRING, Interner
from hashfold.errors import InputError
from hashfold.sparse import CsrBatch


def by_tokenize(text: str) -> list[str]:
    """The same tokens from the standard library; an f-string, in pieces from 3.12 on, is one string."""
    out: list[str] = []
    depth = 0
    starts = {getattr(tokenize, n, None) for n in ("FSTRING_START", "TSTRING_START")} - {None}
    ends = {getattr(tokenize, n, None) for n in ("FSTRING_END", "TSTRING_END")} - {None}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        depth += token.type in starts
        if token.type in ends:
            depth -= 1
            out += [STRING] * (depth == 0)
        elif depth or token.type in starts:
            continue
        elif token.type == tokenize.NEWLINE:
            out.append(NEWLINE)
        elif token.type == tokenize.STRING:
            out.append(STRING)
        elif token.type == tokenize.NUMBER:
            out.append(NUMBER)
        elif token.type in (tokenize.NAME, tokenize.OP):
            out.append(token.string)
    return out


def ours(text: str) -> list[str]:
    interner = Interner()
    return interner.names(interner.encode(text).tolist())


def without_last_newline(tokens: list[str]) -> list[str]:
    return tokens[:-1] if tokens and tokens[-1] == NEWLINE else tokens


TRICKY = (
    r'''
#!/usr/bin/env python
"""doc "quoted" \""" end"""
x = 'it\'s' "a # no comment" + r'\\' + rb"\"" # real "comment"
if"x"in y or"z": pass
z = 1_000.5e-3j + .5 + 1. + 0x_fF + 0b1 + 0o7 + 1if x else 2..real

def f(a, *, b=(1,
               # inside

               2)) -> None: return a \
    if a else b[...]
y = f"{a['b']}" ; w: int = (y := 3) ; a **= 2 ; b //= 3; c <<= 1 ; d @= e != f
ünï_cödé = 'multi\
line' ; match = '''
    + "'''three ' '' \\''' more'''"
    + "\n"
)


def test_tricky_source_by_tokenize():
    assert without_last_newline(ours(TRICKY)) == without_last_newline(by_tokenize(TRICKY))


def test_the_standard_library_by_tokenize():
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted([*root.glob("*.py"), *root.glob("asyncio/*.py"), *root.glob("encodings/utf*.py")])[::4]
    assert len(files) > 30
    for path in files:
        with tokenize.open(path) as file:
            text = file.read()
        assert without_last_newline(ours(text)) == without_last_newline(by_tokenize(text)), path


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ('x = """open', ["x", "=", STRING]),
        ("x = 'open\ny", ["x", "=", STRING, NEWLINE, "y"]),
        ("f(a,\n", ["f", "(", "a", ","]),
        ("\n\n# only\n", []),
        ("a = ? $ `b`\n", ["a", "=", "b", NEWLINE]),
        (")\nx\n", [")", NEWLINE, "x", NEWLINE]),
        ("", []),
    ],
)
def test_broken_source_gives_tokens_all_the_same(text, tokens):
    assert ours(text) == tokens


def test_typed_word():
    assert typed("import os.pa") == "pa"
    assert typed("import ") == ""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for i in range(30):
        body = f"import os\n\ndef load_{i}(path):\n    return os.path.join(path, 'a', name_{i})\n"
        (tmp_path / f"m{i}.py").write_text(body * 2 + f"# {i}\n")
    (tmp_path / "copy.py").write_text((tmp_path / "m0.py").read_text())
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    (tmp_path / "notes.txt").write_text("no source")
    return tmp_path


def test_files_and_examples_are_counted(tree):
    task = python_source([tree], test_fraction=0.3)
    assert task.files == 30
    assert task.skipped_files == 2
    assert len(task.train) + len(task.test) + task.rare_examples == 30 * 2 * 8
    assert {"os", "path", "join"} <= set(task.train.label_names)
    assert not set(task.train.label_names) & set(keyword.kwlist)
    task.train.x.validate()
    task.test.x.validate()
    task.train.y.validate()
    task.test.y.validate()


def test_parts_are_apart_and_unseen_names_are_misses(tree):
    task = python_source([tree], test_fraction=0.3)
    train, test = task.train, task.test
    in_train = {int(n[5:]) for n in train.label_names if n.startswith("load_")}
    in_test = {int(test.label_names[i][5:]) for i in test.y.ids if test.label_names[i].startswith("load_")}
    assert in_train
    assert in_test
    assert not in_train & in_test
    assert in_train | in_test == set(range(30))
    assert test.label_names[: train.num_labels] == train.label_names
    unseen = [test.label_names[i] for i in test.y.ids if i >= train.num_labels]
    assert {name.split("_")[0] for name in unseen} == {"load", "name"}


def test_the_context_of_a_files_first_name_ends_at_its_start(tree):
    task = python_source([tree], test_fraction=0.0)
    first = task.encode_context("import ").indices.tolist()
    rows = [task.train.take([i]).x.indices.tolist() for i in range(len(task.train))]
    assert rows.count(first) == 30


def test_the_context_knows_no_token_of_test_files_only(tree):
    task = python_source([tree], test_fraction=0.3, min_token_count=1)
    of_train = {n for n in task.train.label_names if n.startswith("load_")}
    assert {t for t in task.vectorizer.tokens if t.startswith("load_")} == of_train


def test_a_context_is_what_the_training_row_was(tree):
    task = python_source([tree], test_fraction=0.0)
    source = (tree / "m0.py").read_text()
    prefix = source[: source.index("join")]
    row = task.encode_context(prefix)
    assert np.array_equal(row.indices, task.encode_context(prefix + "jo").indices)
    joins = [i for i in range(len(task.train)) if task.train.label_names[task.train.y[i][0]] == "join"]
    first = task.train.take(joins[:1]).x
    assert np.array_equal(row.indices, first.indices)
    assert np.array_equal(row.values, first.values)


def test_features_by_hand():
    task_vectorizer = vectorizer_from_state(
        {"kind": "code", "window": 3, "positions": 2, "bigram_buckets": 0},
        {"vocabulary": np.frombuffer(b"<unk>\n<start>\na\n.", np.uint8)},
    )
    x = task_vectorizer.transform(["a.", "", "b a.x."])
    rows = [
        dict(zip(x.indices[a:b], x.values[a:b], strict=True)) for a, b in zip(x.indptr, x.indptr[1:], strict=False)
    ]
    assert rows == [
        {3: 1, 2: 1, 1: 1, 4 + 3: 1, 8 + 2: 1},  # "." then "a" then the start
        {1: 3, 4 + 1: 1, 8 + 1: 1},
        {3: 2, 0: 1, 4 + 3: 1, 8 + 0: 1},
    ]


def test_options(tree):
    small = python_source(
        [tree], max_examples=50, min_label_count=1, max_tokens=5, bigram_buckets=16, test_fraction=0.3
    )
    assert len(small.train) == 50
    assert len(small.vectorizer.tokens) == 7
    again = python_source(
        [tree], max_examples=50, min_label_count=1, max_tokens=5, bigram_buckets=16, test_fraction=0.3
    )
    assert np.array_equal(small.train.x.indices, again.train.x.indices)
    other = python_source(
        [tree], max_examples=50, min_label_count=1, max_tokens=5, bigram_buckets=16, test_fraction=0.3, seed=1
    )
    assert not np.array_equal(small.train.y.ids, other.train.y.ids)


def test_state_is_json_and_arrays(tree):
    vectorizer = python_source([tree]).vectorizer
    config, arrays = vectorizer.to_state()
    again = vectorizer_from_state(json.loads(json.dumps(config)), arrays)
    texts = ["import os\nos.", "def f(path):\n    return "]
    assert np.array_equal(again.transform(texts).indices, vectorizer.transform(texts).indices)
    assert isinstance(again.transform([]), CsrBatch)
    with pytest.raises(InputError, match="window must be an integer"):
        vectorizer_from_state({**config, "window": 10**9}, arrays)
    with pytest.raises(InputError, match="vocabulary must be distinct tokens"):
        vectorizer_from_state(config, {})


def test_read_gives_a_tree_to_a_model(tree):
    train = read(tree)
    assert len(train) == 30 * 2 * 8
    (tree / "new").mkdir()
    (tree / "new" / "one.py").write_text("import os\nfresh = os.path\n")
    from hashfold.data import LabelVocabulary

    data = read(tree / "new", vectorizer=train.vectorizer, label_vocabulary=LabelVocabulary(train.label_names))
    assert [data.label_names[i] for i in data.y.ids] == ["os", "fresh", "os", "path"]
    assert data.num_labels == train.num_labels + 1
    assert data.num_features == train.num_features


def test_refusals(tmp_path):
    with pytest.raises(InputError, match=r"a root must exist; got .*nowhere"):
        python_source([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"the roots must hold \.py files; got none below"):
        python_source([tmp_path])
    with pytest.raises(InputError, match="roots must be a list"):
        python_source(str(tmp_path))
    (tmp_path / "bad.py").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="some file must be readable"):
        python_source([tmp_path])
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(InputError, match="some name must occur 2 times"):
        python_source([tmp_path])


def test_deep_or_odd_text_does_not_hang():
    for text in [
        '"' * 50_000,
        "'''" + "\\" * 50_001,
        "(" * 100_000,
        "\\\n" * 50_000,
        "r" * 100_000,
        "1_" * 50_000,
    ]:
        assert len(ours(text)) <= len(text)
    assert sys.getrecursionlimit() < 50_000
