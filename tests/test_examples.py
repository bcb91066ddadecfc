"""Every script in examples/ runs with --quick: it ends well, writes its pictures, and its objective went down.

A script prints the objective as "objective: from A to B", and every picture that docs/examples.md shows of it is one
that it writes.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OBJECTIVE = re.compile(r"from (-?\d+\.\d+) to (-?\d+\.\d+)")
PICTURE_OR_SECTION = re.compile(r"^## .*?\(\.\./examples/(\w+)\.py\)|\]\(images/([\w.]+)\)", re.MULTILINE)


def shown():
    """The pictures in the section of each example in docs/examples.md."""
    sections = {}
    for example, picture in PICTURE_OR_SECTION.findall((ROOT / "docs" / "examples.md").read_text(encoding="utf-8")):
        if example:
            pictures = sections.setdefault(example, set())
        else:
            pictures.add(picture)
    return sections


#: The example that runs every day; the others run in `make test-all`.
DAILY = "two_gaussians"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, id=script.stem, marks=[] if script.stem == DAILY else [pytest.mark.exhaustive])
        for script in EXAMPLES
    ],
)
def test_an_example_runs(script, tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, script, "--quick", "--out", tmp_path / "pictures"],
        cwd=tmp_path,
        timeout=300,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    objectives = [tuple(map(float, found)) for found in OBJECTIVE.findall(done.stdout)]
    assert objectives, f'no "objective: from A to B" in what it prints:\n{done.stdout}'
    assert all(end < start for start, end in objectives), done.stdout
    assert not re.search(r"\b(nan|inf)\b", done.stdout), done.stdout

    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert pictures and all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert shown().get(script.stem, set()) <= {picture.name for picture in pictures}
    assert [path for path in tmp_path.iterdir() if path.name != "pictures"] == []  # nothing beside its folder


def test_the_page_has_a_section_with_pictures_for_every_example():
    sections = shown()
    assert sections.keys() == {script.stem for script in EXAMPLES}
    assert all(sections.values())


def test_the_pictures_of_the_page_are_small():
    for picture in set().union(*shown().values()):
        assert (ROOT / "docs" / "images" / picture).stat().st_size < 250_000, picture
