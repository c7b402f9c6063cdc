"""The page in a real Chromium, of a run whose documents, URLs, file names and recipe try to be more than text."""

import itertools
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

SECTIONS = [
    *("overview", "funnel", "tokens", "signals", "duplicates", "packing"),
    *("mixture", "documents", "throughput", "recipe"),
]
PHONE, SCREEN = (390, 844), (1280, 900)


@dataclass
class Opened:
    """A page that was opened, and what it did."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def open_page(browser: Browser, path: Path, size: tuple[int, int] = SCREEN, scheme: str = "light") -> Opened:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)  # type: ignore[arg-type]
    opened = Opened(context.new_page())
    opened.page.on("console", lambda message: opened.said.append(message.text))
    opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.page.on("dialog", lambda dialog: opened.said.append(f"dialog: {dialog.message}"))
    opened.page.on("request", lambda request: opened.asked.append(request.url))
    opened.page.goto(path.as_uri())
    return opened


@pytest.fixture
def opened(chromium: Browser, hostile_page: Path) -> Iterator[Opened]:
    found = open_page(chromium, hostile_page)
    yield found
    found.page.context.close()


def test_it_loads_whole_asks_for_nothing_and_says_nothing(opened: Opened, hostile_page: Path):
    assert opened.page.eval_on_selector_all("main > section", "all => all.map(one => one.id)") == SECTIONS
    links = opened.page.eval_on_selector_all("nav a", "all => all.map(one => one.getAttribute('href'))")
    assert links == [f"#{name}" for name in SECTIONS]
    assert opened.page.eval_on_selector_all("section", "all => all.every(one => one.innerText.length > 40)")
    assert opened.page.locator("svg.chart").count() > 20
    assert opened.asked == [hostile_page.as_uri()]
    assert opened.said == []


def test_nothing_of_the_run_is_more_than_text(opened: Opened):
    page = opened.page
    for _ in range(20):
        if page.locator("#more").is_visible():
            page.click("#more")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.scripts.length") == 1
    assert page.locator("img, iframe, object, embed, base, form, link, a:not([href^='#'])").count() == 0
    handlers = (
        "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => /^on|^style$/.test(n))"
    )
    assert page.evaluate(handlers) == []
    assert page.locator("section").count() == page.locator("main > section").count() == len(SECTIONS)
    shown = page.inner_text("body")
    for text in (
        "<script>window.hacked = 1</script>",
        "</pre></article></main><script>",
        "<img src=x onerror=window.hacked=1>.jsonl at",  # the raw file's name
        "javascript:window.hacked=1\n",  # a URL
        'http://a.example/"onmouseover="window.hacked=1',
        r"http://a.example/\u202egnp.exe",
        "{{ 7 * 7 }} {% raw %} ${7*7} $x_1$ &lt;b&gt;",
        "output: unused # </pre><script>",
        r"\u202egnp.exe\u202c \u2066isolated\u2069 \u200bzero\u2060width",
        r"nul [31m escape  \x85 \u2028 \u2029",  # readers take NUL, ESC and DEL out of texts
        "שלום עולם",
    ):
        assert text in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00\x1b]", shown)
    assert page.title() == "</title><script>window.hacked = 1</script> – tokenmill report"


def test_the_policy_stops_what_got_in_all_the_same(opened: Opened):
    """As if the template had a hole: a script, a handler, a style and a picture put into the document."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    opened.page.evaluate(
        """picture => {
          const script = document.createElement("script");
          script.textContent = "window.hacked = 1";
          document.body.append(script);
          const hole = document.createElement("div");
          hole.innerHTML = `<img src='${picture}' onerror='window.hacked = 1'><p style='position:fixed'>`;
          document.body.append(hole);
        }""",
        f"http://127.0.0.1:{server.getsockname()[1]}/x.png",
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.eval_on_selector("body > div:last-child p", "e => getComputedStyle(e).position") == "static"
    with server, pytest.raises(BlockingIOError):  # nobody connected
        server.accept()
    assert len(opened.said) >= 3  # Chromium says what it blocked
    assert all("Content Security Policy" in line for line in opened.said)


def shown_documents(page: Page) -> list[tuple[str, str]]:
    articles = "all => all.filter(e => !e.hidden).map(e => [e.dataset.source, e.dataset.reason])"
    return [(source, reason) for source, reason in page.eval_on_selector_all("#documents article", articles)]


def test_documents_are_searched_and_filtered(opened: Opened):
    page = opened.page
    total = page.locator("#documents article").count()
    assert total > 24
    assert (len(shown_documents(page)), page.inner_text("#count")) == (24, f"24 of {total} documents shown")
    page.click("#more")
    assert len(shown_documents(page)) == min(48, total)
    assert page.evaluate("document.activeElement.tagName") == "ARTICLE"  # the first of the new ones

    page.select_option("#source", "web")
    assert {source for source, _ in shown_documents(page)} == {"web"}
    page.select_option("#source", "")
    page.select_option("#reason", "gopher_quality.min_words")
    assert set(shown_documents(page)) == {("notes", "gopher_quality.min_words")}
    page.select_option("#source", "web")
    assert (shown_documents(page), page.inner_text("#count")) == ([], "no document matches")
    page.select_option("#source", "")
    page.select_option("#reason", "dedup.near")
    assert {reason for _, reason in shown_documents(page)} == {"dedup.near"}
    page.select_option("#reason", "")

    page.fill("#search", "<IMG onerror")
    found = page.eval_on_selector_all("#documents article", "all => all.filter(e => !e.hidden).map(e => e.textContent)")
    assert found
    assert all("<img src=x onerror" in text for text in found)
    page.fill("#search", "nothing has this in it")
    assert page.inner_text("#count") == "no document matches"
    page.fill("#search", "")
    assert page.inner_text("#count") == f"24 of {total} documents shown"


def test_the_keyboard_reaches_every_control(opened: Opened):
    page = opened.page
    page.evaluate("document.querySelectorAll('*').forEach((element, index) => element.number = index)")
    focusable = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
              .filter(e => e.checkVisibility()).map(e => e.number)"""
    )
    reached, outlines = [], []
    for _ in range(len(focusable) + 5):
        page.keyboard.press("Tab")
        now = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e.tagName, e.number, s.outlineStyle, parseFloat(s.outlineWidth)]; })()"
        )
        if now[0] == "BODY":
            break
        reached.append(now[1])
        outlines.append((now[2], now[3] >= 2))
    assert len(focusable) > 40
    assert reached == focusable
    assert set(outlines) == {("solid", True)}
    assert page.evaluate("document.querySelector('.skip').number") == reached[0]

    page.focus(".skip")
    assert page.eval_on_selector(".skip", "e => e.getBoundingClientRect().left >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.focus("details summary")
    page.keyboard.press("Enter")
    assert page.eval_on_selector("details", "e => e.open")


def test_landmarks_tables_and_pictures_have_names(opened: Opened):
    page = opened.page
    for landmark in ("header", "nav[aria-label]", "main", "footer", "[role=search]"):
        assert page.locator(landmark).count() == 1
    assert page.eval_on_selector_all(
        "section", "all => all.every(e => document.getElementById(e.getAttribute('aria-labelledby')))"
    )
    assert page.eval_on_selector_all("table", "all => all.every(e => e.caption && e.caption.textContent.trim())")
    assert page.eval_on_selector_all("th", "all => all.every(e => ['col', 'row'].includes(e.scope))")
    assert page.eval_on_selector_all("tbody tr", "all => all.every(e => e.cells[0].tagName == 'TH')")
    assert page.eval_on_selector_all(
        "svg", "all => all.every(e => e.getAttribute('role') == 'img' && e.getAttribute('aria-label').length > 20)"
    )
    # the numbers of each picture stand in a table: its own, or the one beside it
    assert page.eval_on_selector_all("figure", "all => all.every(e => e.parentElement.querySelector('table'))")
    assert page.eval_on_selector_all("input, select", "all => all.every(e => e.closest('label'))")
    ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(set(ids)) == len(ids)
    levels = [int(tag[1]) for tag in page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(e => e.tagName)")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


CONTRASTS = """() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(v => linear(v / 255)); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor);
                        if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((one, other) => other - one);
    return (x + .05) / (y + .05);
  };
  const found = {};
  const note = (name, value) => { found[name] = Math.min(found[name] ?? 99, value); };
  for (const e of document.querySelectorAll("body *")) {
    if (!e.checkVisibility() || ["SCRIPT", "OPTION"].includes(e.tagName)) continue;
    const style = getComputedStyle(e), back = behind(e.closest("svg")?.parentElement ?? e);
    if (e instanceof SVGElement) {
      if (e.tagName === "text") note("text of charts", ratio(channels(style.fill).slice(0, 3), back));
      else if (/f-kept|f-drop/.test(e.getAttribute("class")) && !e.hasAttribute("fill-opacity"))
        note("bars", ratio(channels(style.fill).slice(0, 3), back));
      else if (/s-kept|s-drop|s-ink/.test(e.getAttribute("class")))
        note("lines", ratio(channels(style.stroke).slice(0, 3), back));
    } else if ([...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
      note("text", ratio(channels(style.color).slice(0, 3), back));
  }
  return found;
}"""


def test_both_themes_have_enough_contrast(chromium: Browser, hostile_page: Path):
    """WCAG 2.2 AA: 4.5 for text, 3 for what is drawn; by the system's theme, and by the button."""
    seen = set()
    for scheme in ("light", "dark"):
        opened = open_page(chromium, hostile_page, scheme=scheme)
        for _ in range(2):
            seen.add(opened.page.eval_on_selector("body", "e => getComputedStyle(e).backgroundColor"))
            found = opened.page.evaluate(CONTRASTS)
            assert set(found) == {"text", "text of charts", "bars", "lines"}
            assert min(found["text"], found["text of charts"]) >= 4.5
            assert min(found["bars"], found["lines"]) >= 3
            opened.page.click("#theme")
        opened.page.context.close()
    assert len(seen) == 2


@pytest.mark.parametrize("size", [PHONE, SCREEN], ids=["phone", "screen"])
def test_nothing_is_wider_than_the_window(chromium: Browser, hostile_page: Path, size: tuple[int, int]):
    opened = open_page(chromium, hostile_page, size)
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    wide = "all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90))"
    assert page.eval_on_selector_all("main > section > *, .charts > *, .documents > *, article > *", wide) == []
    # letters of charts: at least 9 px, as drawn
    sizes = page.eval_on_selector_all("svg text", "all => all.map(e => e.getBoundingClientRect().height)")
    assert min(sizes) >= 9
    page.context.close()


def test_without_its_script_all_documents_are_there(chromium: Browser, hostile_page: Path):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(hostile_page.as_uri())
    assert page.locator("#documents article").count() == page.locator("#documents article:visible").count() > 24
    assert page.locator("#theme, .filters, #more").count() == 3
    assert page.locator("#theme:visible, .filters:visible, #more:visible").count() == 0
    context.close()
