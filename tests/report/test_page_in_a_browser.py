"""The page in a real browser: it fits, is quiet, can be read and used without a mouse, and no name breaks out of it."""

from __future__ import annotations

import base64
import json
import pathlib
import re

import pytest

from simdeploy.planning.loading import load_scenario
from simdeploy.planning.starter import write_starter
from simdeploy.report.page import report_page
from simdeploy.study.comparison import compare
from tests.report.browser import Browser

OVERFLOWING = """
(width => [document.documentElement.scrollWidth - width, [...document.querySelectorAll('body *')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.width && !e.matches('.hidden, .skip') && !e.parentElement.closest('.wide, svg') && (r.right > width + 1 || r.left < -1);
}).map(e => e.outerHTML.slice(0, 120))])(document.documentElement.clientWidth)
"""
FAINT = """
(() => {
  const rgb = s => { const m = s.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const light = c => { const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                       return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] == 1) return c; }
                        return [255, 255, 255, 1]; };
  const faint = new Set();
  for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
    const e = walk.currentNode.parentElement, style = getComputedStyle(e);
    if (!walk.currentNode.data.trim() || !e.getClientRects().length || e.closest('title, desc, defs, .hidden')) continue;
    const box = e.namespaceURI.endsWith('svg') ? e.parentElement.querySelector(':scope > rect') : null;
    const ink = rgb(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
    const paper = box && e.parentElement.matches('.cell') ? rgb(getComputedStyle(box).fill) : behind(e);
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.add(e.className + ' ' + walk.currentNode.data.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return [...faint];
})()
"""
"""Texts whose contrast with what is behind them is below the 4.5 of WCAG 2.2, 1.4.3."""
UNNAMED = """
(() => {
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id), wrong = ids.filter((id, i) => ids.indexOf(id) < i);
  for (const e of document.querySelectorAll('[aria-labelledby]'))
    for (const id of e.getAttribute('aria-labelledby').split(' '))
      if (!document.getElementById(id)?.textContent.trim()) wrong.push('nothing is called ' + id);
  for (const e of document.querySelectorAll('svg:not([role=img][aria-labelledby], [aria-hidden=true])')) wrong.push(e.outerHTML);
  for (const e of document.querySelectorAll('table')) if (!e.caption?.textContent.trim()) wrong.push(e.outerHTML.slice(0, 99));
  for (const e of document.querySelectorAll('th')) if (!e.scope) wrong.push(e.outerHTML);
  for (const e of document.querySelectorAll('a')) if (!document.getElementById(e.hash.slice(1))) wrong.push(e.outerHTML);
  const levels = [...document.querySelectorAll('h1, h2, h3, h4')].map(e => +e.tagName[1]);
  levels.forEach((n, i) => { if (n > (levels[i - 1] ?? 0) + 1) wrong.push('heading ' + i); });
  return wrong;
})()
"""
BITING = (
    "</title><script>document.title='broken'</script>", "<img src=x onerror=\"document.title='broken'\">", "\"' onload='alert(1)'",
    "--> ]]>", "{{ 7 * 7 }}", "\u202eevil \u2066txt", "שלום עולם", "x" * 400, "https://example.org/x.js",
    "</style><style>body{display:none}",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = Browser(tmp_path_factory.mktemp("chromium"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, pathlib.Path]:
    """A page of each sort: many strategies, one strategy, a hundred machines, and words that bite."""
    folder = tmp_path_factory.mktemp("pages")
    made = {
        "upgrade": ("scenarios/canonical/upgrade.yaml", None, 80),
        "one strategy": ("scenarios/canonical/upgrade.yaml", ["all-at-once"], 80),
        "fleet": ("scenarios/fleet/machine-replacement.yaml", ["quarters"], 8),
        "hostile": (biting_scenario(folder / "hostile"), None, 8),
    }
    for name, (scenario, strategies, replications) in made.items():
        page = report_page(compare(load_scenario(scenario), replications, strategies=strategies), command=f"simdeploy {BITING[0]}")
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


def biting_scenario(folder: pathlib.Path) -> pathlib.Path:
    """The starter with a word that bites wherever a file takes any text."""
    *_, path = write_starter(folder)
    environment, text = folder / "environment.yaml", path.read_text()
    environment.write_text(environment.read_text().replace("assumed: a busy evening", f"assumed: {json.dumps(' '.join(BITING))}"))
    text = re.sub("title: .*", lambda _: f"title: {json.dumps(' '.join(BITING))}", text)
    text = re.sub("about: .*", lambda _: f"about: {json.dumps(' '.join(BITING))}", text)
    path.write_text(text.replace('middle: "2"', f"middle: {json.dumps(BITING[0])}").replace("all-at-once", "a" * 63))
    return path


NAMES = ("upgrade", "one strategy", "fleet", "hostile")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_window(browser, pages, name, width):
    browser.open(pages[name], width)

    assert [0, []] == browser.run(OVERFLOWING)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_paper(browser, pages, name):
    browser.open(pages[name], 700, media="print")  # A4 between margins of a centimetre; nobody can scroll there

    assert 700 >= browser.run("document.documentElement.scrollWidth")


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_for_nothing_and_says_nothing(browser, pages, name):
    browser.open(pages[name])

    assert [pages[name].as_uri()] == [r["request"]["url"] for r in browser.seen("Network.requestWillBeSent")]
    assert [] == browser.seen("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    assert 0 == browser.run("document.scripts.length + document.querySelectorAll('link, iframe, object, [src]').length")


@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")])
def test_every_text_stands_out_from_what_is_behind_it(browser, pages, scheme, media):
    browser.open(pages["upgrade"], scheme=scheme, media=media)
    browser.run("document.querySelectorAll('details').forEach(e => { e.open = true; })")

    assert [] == browser.run(FAINT)


def test_it_is_light_or_dark_as_its_reader_is(browser, pages):
    papers = []
    for scheme in ("light", "dark"):
        browser.open(pages["upgrade"], scheme=scheme)
        papers.append(browser.run("getComputedStyle(document.documentElement).backgroundColor"))

    assert ["rgb(255, 255, 255)", "rgb(20, 24, 29)"] == papers


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_drawn_has_a_name_and_everything_named_is_there(browser, pages, name):
    browser.open(pages[name])

    assert [] == browser.run(UNNAMED)


def test_each_chart_reaches_a_screen_reader_with_its_words_and_each_drawn_table_as_a_table(browser, pages):
    browser.open(pages["upgrade"], 390)  # where the rows of drawn tables are laid out anew

    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    roles = [n["role"]["value"] for n in nodes if "role" in n and not n.get("ignored")]
    images = [n for n in nodes if n.get("role", {}).get("value") in ("image", "img") and not n.get("ignored")]
    assert len(images) >= 3 + 7 + 1 + 1  # courses, strategies, services, the front
    assert all(n["name"]["value"] and n["description"]["value"] for n in images)
    assert roles.count("table") == browser.run(
        "[...document.querySelectorAll('table')].filter(e => !e.closest('details:not([open])')).length"
    )
    assert roles.count("rowheader") > 40


def test_the_keyboard_reaches_the_verdict_first_then_all_that_scrolls_or_opens(browser, pages):
    browser.open(pages["upgrade"], 390)
    visited = []
    for _ in range(120):
        browser.press("Tab", 9)
        visited.append(browser.run("document.activeElement.tagName + ' ' + (document.activeElement.textContent.trim().slice(0, 30))"))
        if visited[-1].startswith("BODY"):
            break
        assert browser.run("(r => r.width > 0 && r.right > 0 && r.bottom > 0)(document.activeElement.getBoundingClientRect())"), visited[-1]

    assert visited[0] == "A To the verdict"
    assert [] == browser.run(
        "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth && e.tabIndex).map(e => e.ariaLabel)"
    )
    assert sum(v.startswith("SUMMARY") for v in visited) == browser.run("document.querySelectorAll('summary').length")


def test_a_detail_opens_with_enter(browser, pages):
    browser.open(pages["upgrade"])
    browser.run("document.querySelector('summary').focus()")
    browser.press("Enter", 13)

    assert browser.run("document.querySelector('details').open")


def test_on_paper_all_details_are_open_and_nothing_is_cut_off(browser, pages):
    browser.open(pages["upgrade"], 718, "dark", "print")  # A4 between margins of 1 cm

    assert browser.run("[...document.querySelectorAll('details table')].every(e => e.checkVisibility())")
    assert "rgb(255, 255, 255)" == browser.run("getComputedStyle(document.documentElement).backgroundColor")
    assert [] == browser.run(
        "[...document.querySelectorAll('table, figure, article, p')].filter(e => e.getBoundingClientRect().right > 719)"
        ".map(e => e.outerHTML.slice(0, 99))"
    )
    pdf = base64.b64decode(browser.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert pdf.startswith(b"%PDF") and 5 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 25


def test_no_word_breaks_out_and_every_word_arrives(browser, pages):
    browser.open(pages["hostile"])
    said = browser.run("document.title + document.body.textContent")

    assert browser.run("document.title").startswith("</title><script>")
    assert all(word in said for word in BITING if word.isprintable())
    assert "\\u202eevil \\u2066txt" in said and not set("\u202e\u2066") & set(said)
    assert browser.run("getComputedStyle(document.body).display") == "block"
