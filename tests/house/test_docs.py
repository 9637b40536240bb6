"""Pages link to what exists, and name what exists."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.house.tree import ROOT, complaint, files, shown

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)[^)]*\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
OUTSIDE = ("http:", "https:", "mailto:")
PAGES = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"]


def anchors_of(page):
    """The anchors that a page's headings get."""
    headings = re.findall(r"^#+ +(.+?) *$", CODE.sub("", page), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken_links(path):
    text = CODE.sub("", path.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        link = match[1] or match[2]
        if link.startswith(OUTSIDE):
            continue
        target, _, anchor = link.partition("#")
        aim = (path.parent / target).resolve() if target else path
        if not aim.exists():
            yield f"{shown(path)}: {link} leads nowhere"
        elif anchor and aim.suffix == ".md" and anchor not in anchors_of(aim.read_text("utf-8")):
            yield f"{shown(path)}: {link} names no heading of that page"


def test_links_between_pages_lead_somewhere():
    found = [line for path in files(".md") for line in broken_links(path)]
    assert not found, complaint(
        found,
        "A link leads to a file of this repository that is there, and to a heading that it has.",
        "Correct the link, or write the page.",
    )


@pytest.mark.parametrize("name", PAGES)
def test_page_is_there(name):
    assert (ROOT / name).is_file(), (
        f"{name} is missing: README.md and CONTRIBUTING.md lead readers to it."
    )


def test_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [command for command in ("make demo", "make test") if command not in readme]
    assert not missing, f"README.md does not say {missing}: these are all that a newcomer types."


def test_the_list_of_our_shortcomings_names_files_that_exist():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## Where we fall short")
    section, _, _ = section.partition("\n## ")
    assert section.strip(), (
        "CONTRIBUTING.md keeps a list `Where we fall short`: empty is suspicious."
    )
    named = re.findall(r"`([\w./-]+\.(?:py|lua|toml|md)|Makefile)`", section)
    found = [name for name in named if not (ROOT / name).exists()]
    assert not found, complaint(
        found,
        "The list names files, from the root.",
        "Strike what is mended; name the file that has the fault now.",
    )


def test_every_make_target_is_listed_by_make_help():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE))
    missing = [t for t in phony.split() if not re.search(rf"^{t}:.*## ", makefile, re.MULTILINE)]
    assert not missing, complaint(
        missing,
        "`make help` is the list of what one can do.",
        "Write `## what it does` behind the target.",
    )


def test_changelog_says_what_is_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in text, (
        "CHANGELOG.md has no section [Unreleased]: users read there what comes."
    )


def test_every_switched_off_rule_of_style_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ruff = tomllib.loads(text)["tool"]["ruff"]["lint"]
    lines = text.splitlines()
    found = []
    for rule in ruff["ignore"]:
        number = next(i for i, line in enumerate(lines) if line.strip().startswith(f'"{rule}"'))
        group = lines[:number]
        while group and group[-1].strip().startswith('"'):
            group.pop()
        if "#" not in lines[number] and not group[-1].strip().startswith("#"):
            found.append(rule)
    assert not found, complaint(
        found,
        "A rule is switched off for a reason.",
        "Write the reason beside it, or switch it on.",
    )
