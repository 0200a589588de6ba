"""What the documents say is so: settings, routes, prices, commands, links, and both languages alike."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import click
import pytest

from deepseek_proxy import models
from deepseek_proxy.app import create_app
from deepseek_proxy.cli import main
from deepseek_proxy.cli.reference import reference_page
from deepseek_proxy.settings import Settings, isolated
from deepseek_proxy.translate import history
from deepseek_proxy.translate.responses import items, parameters
from deepseek_proxy.version import __version__

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text("utf-8"))


def code(page: Path, *languages: str) -> list[str]:
    return [block for language, block in FENCED.findall(page.read_text("utf-8")) if language in languages]


def anchors(page: Path) -> set[str]:
    """What a link may name in a page, behind a `#`: its headings, as GitHub spells them."""
    headings = re.findall("^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def cells(page: Path) -> list[list[str]]:
    """Every table row of a page, as its cells."""
    rows = [line for line in prose(page).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


# -- the reference pages --------------------------------------------------------------------------


def test_the_configuration_page_is_what_the_settings_say() -> None:
    """`make docs` writes it anew."""
    assert (ROOT / "docs" / "configuration.md").read_text("utf-8") == reference_page()


def test_every_setting_is_documented_once_with_all_four_cells() -> None:
    rows = [row for row in cells(ROOT / "docs" / "configuration.md") if row[0].startswith("`")]
    assert [row[0].strip("`") for row in rows] == list(Settings.model_fields)
    assert all(len(row) == 4 and all(row) for row in rows)


def test_every_route_is_documented_and_every_documented_route_is_there(tmp_path: Path) -> None:
    app = create_app(isolated(state_dir=tmp_path))
    there = {
        f"{method} {re.sub('<[a-z:]+>', '<name>', rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", page)) == there


def test_the_mapping_names_every_field_item_and_repair() -> None:
    """Nothing is lost silently: what the translation knows is on the page, and nothing else is."""
    page = ROOT / "docs" / "mapping" / "responses.md"
    sections = dict(zip(*[iter(re.split(r"^## (.+)\n", prose(page), flags=re.MULTILINE)[1:])] * 2))
    named = {
        title: [
            name
            for row in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
            for name in re.findall("`(.+?)`", row)
        ]
        for title, text in sections.items()
    }
    assert sorted(named["Fields of the request"]) == sorted(parameters.KNOWN_FIELDS)
    assert sorted(named["Input items"]) == sorted(items._READERS)
    left_out = ["item_left_out", "part_left_out", "tool_left_out", "turn_left_out"]
    assert named["Repair of the history"] == [*history.Repair, *left_out]


# -- both READMEs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("readme", READMES, ids=lambda page: page.name)
def test_the_prices_are_those_of_the_catalogue(readme: Path) -> None:
    rows = [row for row in cells(readme) if row[0].startswith("`deepseek-") and len(row) == 4]
    expected = [
        [model.id, f"{price.input_cache_hit:g}", f"{price.input_cache_miss:.2f}", f"{price.output:.2f}"]
        for model in models.MODELS.values()
        for price in (model.off_peak, model.peak)
    ]
    assert [[re.findall("`(.+?)`", row[0])[0], *row[1:]] for row in rows] == expected
    text = prose(readme)
    assert all(f"{model.context_window:,}" in text for model in models.MODELS.values())
    assert all(f"{model.max_output_tokens:,}" in text for model in models.MODELS.values())


def test_both_languages_have_the_same_structure() -> None:
    english, chinese = READMES
    assert [len(level) for level in re.findall("^#+", prose(english), re.MULTILINE)] == [
        len(level) for level in re.findall("^#+", prose(chinese), re.MULTILINE)
    ]
    assert [len(row) for row in cells(english)] == [len(row) for row in cells(chinese)]
    assert len(re.findall("^- ", prose(english), re.MULTILINE)) == len(
        re.findall("^- ", prose(chinese), re.MULTILINE)
    )
    for pattern in (r"\]\(([^)]+)\)", r"`([a-z_]+)`", r"<(https://[^>]+)>"):
        assert sorted(set(re.findall(pattern, prose(english)))) == sorted(
            set(re.findall(pattern, prose(chinese)))
        )


def test_both_languages_have_the_same_code() -> None:
    def without_comments(readme: Path) -> list[tuple[str, str]]:
        blocks = FENCED.findall(readme.read_text("utf-8"))
        return [(language, re.sub(r" *#.*", "", block)) for language, block in blocks]

    assert without_comments(READMES[0]) == without_comments(READMES[1])


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", prose(READMES[0])))
    assert linked == {str(page.relative_to(ROOT)) for page in PAGES if page.parent != ROOT}


# -- every page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", prose(page))):
        if not target.startswith(("http://", "https://")):
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_whole(page: Path) -> None:
    """A row that no head stands above is shown as a line with bars in it."""
    for table in re.findall(r"(?:^\|.*\n)+", prose(page), re.MULTILINE):
        head, line, *rows = table.splitlines()
        assert re.fullmatch(r"(\|-+)+\|", line), f"under {head!r}"
        bars = {len(re.findall(r"(?<!\\)\|", row)) for row in (head, line, *rows)}
        assert len(bars) == 1, head


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    """`make TARGET` and `deepseek-proxy COMMAND --option`, in code and in sentences."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text("utf-8")
    spoken = "\n".join([*re.findall("`([^`\n]+)`", text), *code(page, "sh", "toml")])
    for target in re.findall(r"(?<![\w-])make ([a-z]+)", spoken):
        assert target in targets, f"make {target}"
    for name, options in re.findall(
        r"(?<![\w-])deepseek-proxy ([a-z]+(?:-[a-z]+)*)((?: --?[a-z-]+(?: [^-\s]\S*)?)*)", spoken
    ):
        assert name in main.commands, f"deepseek-proxy {name}"
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert set(re.findall(r" (--[a-z-]+)", options)) <= known, f"deepseek-proxy {name}{options}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_are_settings(page: Path) -> None:
    known = {f"DEEPSEEK_PROXY_{name.upper()}" for name in Settings.model_fields} | {"DEEPSEEK_PROXY_CONFIG"}
    assert set(re.findall(r"DEEPSEEK_PROXY_[A-Z_]*[A-Z]", page.read_text("utf-8"))) <= known


# -- the architecture -----------------------------------------------------------------------------


def section(page: Path, title: str) -> str:
    return page.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_module_can_be_found() -> None:
    entries = re.split(
        r"^- \*\*`([a-z_/]+)`\*\*", section(ARCHITECTURE, "Where things are"), flags=re.MULTILINE
    )[1:]
    told = {package: re.findall(r"`([a-z_]+)`", text) for package, text in zip(*[iter(entries)] * 2)}
    there: dict[str, list[str]] = {}
    for path in sorted((ROOT / "deepseek_proxy").rglob("*.py")):
        if path.stem not in ("__init__", "__main__", "version"):
            package = path.parent.relative_to(ROOT / "deepseek_proxy").as_posix()
            there.setdefault(package if package != "." else "deepseek_proxy", []).append(path.stem)
    assert {package: sorted(modules) for package, modules in told.items()} == there


def test_every_dependency_has_its_reason() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]

    def names(lines: str) -> list[str]:
        found = re.findall(r"^([\w.-]+)", lines.strip(), re.MULTILINE)
        return [name.lower() for name in found if name != "deepseek-proxy"]

    text = section(ARCHITECTURE, "Dependencies").lower()
    named = [name for row in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE) for name in row.split(", ")]
    for name in names(config["options"]["install_requires"] + extras["otel"]):
        assert name in named, name
    for name in names(extras["test"] + extras["dev"]):
        spoken = {word for part in name.removeprefix("pytest-").split("-") for word in (part, name)}
        assert any(re.search(rf"\b{re.escape(word)}\b", text) for word in spoken), name


# -- the rest -------------------------------------------------------------------------------------


def test_the_changelog_begins_with_this_version() -> None:
    assert re.findall(r"^## \[(.+?)\]", prose(ROOT / "CHANGELOG.md"), re.MULTILINE)[0] == __version__


def test_every_command_says_what_it_is_for() -> None:
    for command in main.commands.values():
        assert command.short_help
        assert command.help
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        assert all(option.help for option in options if option.name != "form")
