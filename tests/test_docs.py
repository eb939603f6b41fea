"""The documents: their pages, links, code, pictures and public names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import snndelay

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
SITE = (ROOT / "mkdocs.yml").read_text()
PICTURES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.png"))


def samples() -> list:
    """Every block of code that is marked to be run."""
    found = []
    for page, text in PAGES.items():
        blocks = re.findall(r"<!-- run -->\n```python\n(.*?)```", text, flags=re.DOTALL)
        found += [pytest.param(code, id=f"{page}-{i}") for i, code in enumerate(blocks)]
    return found


def anchors(text: str) -> set[str]:
    """Addresses of the headings of a page, as the site makes them."""
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", head).strip().lower() for head in heads)
    return {re.sub(r"[\s-]+", "-", head) for head in plain}


def test_the_site_names_every_page_once():
    named = re.findall(r": ([\w/]+\.md)$", SITE, flags=re.MULTILINE)
    assert sorted(named) == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", PAGES[page]):
        path = (DOCS / page).parent / target if target else DOCS / page
        assert path.is_file(), f"{page} links to {target}"
        if anchor:
            there = anchors(PAGES[str(path.resolve().relative_to(DOCS))])
            assert anchor in there, f"{page} links to {target}#{anchor}; there are {sorted(there)}"


@pytest.mark.parametrize("code", samples())
def test_code_runs(code):
    if "spikingjelly" in code or "DCLS" in code:
        pytest.importorskip("spikingjelly")
        pytest.importorskip("DCLS")
    exec(compile(code, "docs", "exec"), {"__name__": "sample"})


def test_pages_about_layers_and_migration_have_code_that_runs():
    for page in ("layers.md", "migrate.md"):
        assert "<!-- run -->" in PAGES[page]


def test_every_public_name_stands_on_a_page_of_the_reference():
    listed = "\n".join(text for page, text in PAGES.items() if page.startswith("api/"))
    names = set(re.findall(r"^::: snndelay\.(?:\w+\.)*(\w+)$", listed, flags=re.MULTILINE))
    names |= set(re.findall(r"`snndelay\.(\w+)`", listed))
    assert not set(snndelay.__all__) - names


def test_pictures_are_small_and_shown():
    shown = {
        str(((DOCS / page).parent / target).resolve().relative_to(DOCS))
        for page, text in PAGES.items()
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    }
    assert shown == set(PICTURES)
    for name in PICTURES:
        path = DOCS / name
        assert path.stat().st_size < 150_000, f"{name} has {path.stat().st_size} bytes"
        with Image.open(path) as image:
            assert min(image.size) > 300


def test_the_gallery_has_a_command_under_each_picture():
    command = r"    python benchmarks/(gallery|studies)\.py ([\w-]+)\n"
    pattern = r"!\[[^\]]+\]\(gallery/([\w-]+)\.png\)\n\n" + command
    found = re.findall(pattern, PAGES["gallery.md"])
    assert len(found) == PAGES["gallery.md"].count("![") == 10
    prefix = {"gallery": "", "studies": "study-"}
    assert all(picture == prefix[script] + made for picture, script, made in found)


def test_the_gallery_can_make_its_pictures():
    help_text = (ROOT / "benchmarks" / "gallery.py").read_text()
    for name in re.findall(r"gallery\.py (\w+)", PAGES["gallery.md"]):
        assert f'    "{name}": ' in help_text, f"benchmarks/gallery.py makes no {name}"


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", tmp_path]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
