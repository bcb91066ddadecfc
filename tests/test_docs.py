"""The pages of the repository: their Python runs as written, they render as they look, and what they name is there.

A block with `<!-- not run -->` on the line before it is left alone. The blocks of one file share their names, in order.
"""

import functools
import importlib
import io
import os
import re
import subprocess
import sys
import tokenize
import types
from pathlib import Path
from urllib.parse import unquote

import conftest
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^(<!-- not run -->\s*)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def each_page(pages=PAGES):
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


# ---- the examples


def blocks(page):
    """(number of newlines before the code, code) of every block that is to run."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start(2)), m[2]) for m in BLOCK.finditer(text) if not m[1]]


@each_page([page for page in PAGES if blocks(page)])
def test_examples_run_as_written(page, tmp_path, monkeypatch):
    if page.stem == "gpu":
        pytest.importorskip("cupy_here", reason="neither a GPU nor g++")
    module = types.ModuleType(f"example_{page.stem}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where a class of the example says that it comes from
    levels = conftest.logger_levels()
    for line, code in blocks(page):
        exec(
            compile("\n" * line + code, str(page), "exec"), vars(module)
        )  # the newlines give the page's line in an error
    conftest.restore_logger_levels(levels)  # which a page may show how to set


# ---- Markdown, as CommonMark with GitHub's tables


@functools.cache
def tokens(text):
    markdown_it = pytest.importorskip("markdown_it")
    return markdown_it.MarkdownIt("commonmark").enable("table").parse(text)


def inline(text, *types):
    """(line, token) of every inline token of these types."""
    return [
        (token.map[0] + 1, child)
        for token in tokens(text)
        if token.type == "inline"
        for child in token.children
        if child.type in types
    ]


def anchors(text):
    """The anchors that GitHub gives to the headings of a page."""
    found = {}
    for heading, content in zip(tokens(text), tokens(text)[1:]):
        if heading.type == "heading_open":
            title = "".join(child.content for child in content.children if child.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
    return {slug if n == 0 else f"{slug}-{n}" for slug, count in found.items() for n in range(count + 1)}


def faults_of_tables(text):
    """Rows that did not become a table, and rows with more or fewer cells than the header."""
    lines, faults = text.splitlines(), []
    for token in tokens(text):
        if token.type == "inline" and re.search(r"^\|", token.content, re.MULTILINE) and not token.level > 3:
            faults.append(f"line {token.map[0] + 1}: renders as raw pipes")
        elif token.type == "table_open":
            rows = [lines[i].strip() for i in range(*token.map)]
            cells = [len(re.findall(r"(?<!\\)\|", row.removeprefix("|").removesuffix("|"))) + 1 for row in rows]
            faults += [
                f"line {token.map[0] + 1 + i}: {n} cells under a header of {cells[0]}"
                for i, n in enumerate(cells)
                if n != cells[0]
            ]
    return faults


def faults_of_links(page, text):
    """Files, images and anchors that are not there, and brackets that did not become a link."""
    faults = [f"line {line}: no link: {token.content}" for line, token in inline(text, "text") if "](" in token.content]
    for line, token in inline(text, "link_open", "image"):
        target = unquote(token.attrs.get("href") or token.attrs["src"])
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if path and not file.exists():
            faults.append(f"line {line}: no file {target}")
        elif (
            anchor
            and file.suffix == ".md"
            and anchor not in anchors(text if file == page else file.read_text(encoding="utf-8"))
        ):
            faults.append(f"line {line}: no anchor {target}")
    return faults


def faults_of_code(text):
    """Fences that are not closed."""
    lines = text.splitlines()
    return [
        f"line {token.map[0] + 1}: an open fence"
        for token in tokens(text)
        if token.type == "fence"
        and (token.map[1] - token.map[0] < 2 or not lines[token.map[1] - 1].strip().startswith(token.markup))
    ]


@each_page()
def test_a_page_renders(page):
    text = page.read_text(encoding="utf-8")
    assert [*faults_of_tables(text), *faults_of_links(page, text), *faults_of_code(text)] == []


@pytest.mark.parametrize(
    "text, fault",
    [
        ("| |\n|---|---|\n| a | b |\n", "raw pipes"),
        ("| a | b |\n|---|---|\n| c |\n", "1 cells under a header of 2"),
        ("| a | b |\n|---|---|\n| c | d | e |\n", "3 cells under a header of 2"),
        ("[a](missing.md)", "no file"),
        ("![a](missing.png)", "no file"),
        ("# One\n\n[a](#two)", "no anchor"),
        ("[a](../CONTRIBUTING.md#no-such-heading)", "no anchor"),
        ("[a](with spaces.md)", "no link"),
        ("```python\nx = 1\n", "open fence"),
    ],
)
def test_a_fault_of_a_page_is_found(text, fault):
    page = ROOT / "docs" / "page.md"
    found = [*faults_of_tables(text), *faults_of_links(page, text), *faults_of_code(text)]
    assert len(found) == 1 and fault in found[0], found


def test_what_is_right_is_no_fault():
    text = "# One `two`, three\n\n## Again\n\n## Again\n\n| | b |\n|---|---|\n| c \\| d | `e` |\n\n[a](#one-two-three) [b](#again-1) [c](../README.md)\n\n```\n|\n```\n"
    assert [*faults_of_tables(text), *faults_of_links(ROOT / "docs" / "page.md", text), *faults_of_code(text)] == []


# ---- what is named is there


@functools.cache
def sources():
    """Every source of the repository by its path."""
    kept = ("invnet", "tests", "benchmarks", "examples", ".ci")
    files = [
        path
        for folder in kept
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".cu", ".h") or path.parent.name == ".ci"
    ]
    files += [ROOT / name for name in ("Makefile", "pyproject.toml", "setup.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


@functools.cache
def loggers():
    return frozenset(re.findall(r'getLogger\("([\w.]+)"\)', "\n".join(sources().values())))


@functools.cache
def words():
    return frozenset(
        re.findall(r"\w+", "\n".join(text for path, text in sources().items() if path != "tests/test_docs.py"))
    )


def is_a_file(name):
    """Whether a source has this path, or ends with it."""
    return any(
        path == name or path.endswith("/" + name.removeprefix("./"))
        for path in [*sources(), *(p.relative_to(ROOT).as_posix() for p in PAGES)]
    )


def is_a_name(dotted):
    """Whether invnet.a.b can be imported, or read."""
    parts = dotted.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:k]))
        except ImportError:
            continue
        for name in parts[k:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


def missing(text):
    """Paths to sources, and names of invnet, in a text, that are not there."""
    paths = re.findall(r"(?<![\w/.*<])((?:[\w.-]+/)*\w[\w-]*\.(?:py|cu|md))\b(?!\()", text)
    names = re.findall(r"(?<![\w./-])(invnet(?:\.[A-Za-z_]\w*)+)", text)
    return [path for path in paths if not is_a_file(path)] + [
        name for name in names if not is_a_file(name) and not is_a_name(name) and name not in loggers()
    ]


@each_page([page for page in PAGES if page.name != "CHANGELOG.md"])
def test_what_a_page_names_in_code_is_there(page):
    """Files, names of invnet, and in the design every word between backticks."""
    found = inline(page.read_text(encoding="utf-8"), "code_inline")
    gone = [
        (line, name)
        for line, token in found
        for name in missing(token.content)
        if name != "invnet/layers/sinh_arcsinh.py"
    ]  # the reader's
    if page.name == "design.md":
        gone += [
            (line, word)
            for line, token in found
            for word in re.findall(r"[A-Za-z_]\w{2,}", token.content)
            if word not in words()
        ]
    assert gone == []


@pytest.mark.parametrize("path", [path for path in sources() if path.startswith("invnet/") and path.endswith(".py")])
def test_what_comments_and_docstrings_name_is_there(path):
    gone = []
    for token in tokenize.generate_tokens(io.StringIO(sources()[path]).readline):
        if token.type == tokenize.COMMENT or token.type == tokenize.STRING and token.string.startswith(('"""', 'r"""')):
            gone += [(token.start[0], name) for name in missing(token.string)]
    assert gone == []


def test_nothing_is_to_be_installed_from_an_index_that_does_not_have_it():
    """invnet is installed from a clone, or from a wheel made there."""
    texts = {
        **{path: text for path, text in sources().items() if path != "tests/test_docs.py"},
        **{page.name: page.read_text(encoding="utf-8") for page in PAGES},
    }
    for path, text in texts.items():
        for line in text.splitlines():
            assert not re.search(r"pip install [\"']?invnet\b", line), f"{path}: {line}"


def test_the_reference_needs_neither_pytorch_nor_cupy():
    """What `make docs` has pdoc describe can be imported without them."""
    recipe = re.search(r"^docs:.*?\n\n", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[0]
    without = re.findall(r"!(invnet[\w.]+)", recipe)
    code = (
        f"import sys, pkgutil, importlib\nsys.modules.update(torch=None, cupy=None)\nimport invnet\nwithout = "
        f"{without}\n"
        "for module in pkgutil.walk_packages(invnet.__path__, 'invnet.', onerror=lambda name: None):\n"
        "    if not any(module.name == name or module.name.startswith(name + '.') for name in without):\n"
        "        importlib.import_module(module.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert without and done.returncode == 0, done.stderr


def test_make_targets_that_are_named_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = [token.content for _, token in inline(text, "code_inline")] + [
            token.content for token in tokens(text) if token.type == "fence"
        ]
        for target in re.findall(r"^make ([a-z-]+)", "\n".join(code), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


def test_options_that_are_named_exist():
    """An option of the command line, of the tests or of the benchmarks in backticks is spelled out in a source, or is
    another program's.
    """
    others = {
        "--no-index",
        "--no-deps",
        "--find-links",
        "--nproc-per-node",
        "--nnodes",
        "--node-rank",
        "--master-addr",
        "--standalone",
        "--rdzv-backend",
        "--rdzv-endpoint",
        "--max-restarts",
    }
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            for line, token in inline(page.read_text(encoding="utf-8"), "code_inline"):
                for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", token.content):
                    known = {option, option[2:].replace("-", "_")}
                    assert option in others or any(word in text for text in sources().values() for word in known), (
                        f"{page.name}:{line}: {option}"
                    )
