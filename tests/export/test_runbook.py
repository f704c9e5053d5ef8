"""What a runbook says, by hand on small plans; and that nothing in a plan becomes markup of a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from simdeploy.environment.durations import fixed
from simdeploy.environment.models import Artefact
from simdeploy.errors import PlanError
from simdeploy.export.formats import FORMATS, export
from simdeploy.export.words import EFFECTS, effect_words, visible
from simdeploy.plan.effects import VERBS
from simdeploy.plan.findings import Finding, Floor, Vetting
from simdeploy.plan.forecast import Expected, Forecast, StepForecast
from simdeploy.plan.plan import Plan
from simdeploy.plan.steps import Judge, Step
from simdeploy.simulation.forecasting import forecast
from tests.builders import canonical, rolling
from tests.export.helpers import HOSTILE, TEXTS, farm_plan, rounds, two_batches


class Page(HTMLParser):
    """A page as a browser takes it: its tags with their attributes, headings, ids and texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.codes: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {(tag, name) for name, _ in attrs}
        self.ids += [value for name, value in attrs if name == "id"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "code":
            self.codes.append("")
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append(data)
        if "code" in self.open:
            self.codes[-1] += data

    @property
    def text(self):
        return "".join(self.texts)


def rendered(markdown: str) -> Page:
    return Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


def expected(p50: float, p95: float) -> Expected:
    return Expected(mean=p50, p50=p50, p95=p95, p99=p95)


def forecast_of(plan: Plan) -> Forecast:
    """Each step begins 100 s after the one before, lasts 30 s, in one of twenty runs 90 s, and leaves 50 req/s."""
    steps = {
        s.id: StepForecast(began=1.0, begins_s=expected(100.0 * k, 100.0 * k), lasts_s=expected(30, 90), capacity_per_s=50.0)
        for k, s in enumerate(plan.steps)
    }
    metrics = {"makespan_s": expected(600, 900), "downtime_s": expected(0, 12)}
    return Forecast(
        plan_sha256=plan.digest, tool="1.2", seed=7, replications=500, metrics=metrics, steps=steps, goals={"p95(x) <= 1": False}
    )


def vetting_of(plan: Plan) -> Vetting:
    found = Finding(id="dark/web", severity="error", invariant="dark", subject="web", message="web goes dark", cure="keep one back")
    floor = Floor(
        service="", start_per_s=200, least_per_s=50, kept_per_s=50, failures_per_s=None, machine_lost_per_s=None, zone_lost_per_s=None
    )
    return Vetting(plan_sha256=plan.digest, tool="1.2", findings=(found,), accepted=("one rack has both",), floors=(floor,))


@pytest.fixture
def plan(tmp_path):
    made = two_batches(tmp_path)
    last = Step(
        id="data/contract", target="web", after=("code/web/judge#2",), no_return=True, retries=2, retry_delay=fixed(15), timeout_s=90,
        fatal=True, end=(("open",),), artefact=Artefact(path="a|b.sql", sha256="0" * 64), secrets={"TOKEN": "vault:sql/owner"},
    )  # fmt: skip
    return made.model_copy(update={"steps": (*made.steps[:7], last, *made.steps[7:])})


@pytest.mark.parametrize("to", ["markdown", "html"])
def test_a_runbook_says_for_each_step_what_where_how_long_and_how_to_undo(plan, to):
    said = export(plan, to, vetting_of(plan), forecast_of(plan))
    page = rendered(said) if to == "markdown" else Page(said)

    text = " ".join(page.text.split())
    for step in plan.steps:
        if step.section == "main":
            assert step.id in page.codes
            assert not step.run or any(f"'{step.run[-1]}'" in code or code.split()[-1] == step.run[-1] for code in page.codes)
    assert "rollback/web@w0/out and 1 like it" in page.codes and any("'out '\"$MACHINE\"" in code for code in page.codes)
    for part in (
        "P50 30 s, P95 90 s", "at least 50 req/s, 25% of 200 req/s; users want up to 50 req/s", "the clock: after 90 s it is late",
        "stops as soon as any of the 2 steps of this batch failed", "if it says no: roll back",
        "an attempt that takes longer than 90 s has failed", "after 3 attempts it has failed; wait 15 s between them",
        "rollback steps R1.1 and R1.2", "no way back from here", "web goes dark; keep one back", "one rack has both", "seed 7",
        "p95(x) <= 1", "missed", plan.digest, "a|b.sql", "vault:sql/owner", "in the end: users arrive",
        "only if any of these began: code/web@", "only if done are: code/web@", "web runs version 1 and serves on w0 and w1",
    ):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize("to", ["markdown", "html"])
def test_the_point_of_no_return_is_marked_right_before_its_step_and_only_there(plan, to):
    said = export(plan, to)
    text = " ".join((rendered(said) if to == "markdown" else Page(said)).text.split())

    (mark,) = [m.start() for m in re.finditer("POINT OF NO RETURN", text)]
    headings = [(m.start(), m[0]) for m in re.finditer(r"\bR?\d+\.\d+ (drain|install|contract|gate|judge|out|back)\b", text[mark:])]
    assert headings[0][1].endswith("contract")
    assert "NO WAY BACK" in text[:mark]


@pytest.mark.parametrize("to", ["markdown", "html"])
def test_what_is_missing_is_said(plan, to):
    text = (rendered(export(plan, to)) if to == "markdown" else Page(export(plan, to))).text

    assert "was not vetted" in text and "No forecast was given" in text and "not known (no forecast)" in text
    assert "P95" not in text.split("Forecast", 2)[-1].split("Batches")[-1]


def test_every_batch_has_its_go_box_before_its_steps(plan):
    said = export(plan, "markdown")

    for batch in re.split(r"^### ", said, flags=re.M)[1:]:
        assert -1 < batch.index("**Go or no-go?**") < batch.index("#### ")
    assert [f"Batch {n}" for n in ("1", "2", "3", "R1")] == re.findall(r"^### (.*)$", said, flags=re.M)


def test_the_preflight_points_back_to_the_artefacts_that_stand_before_it(plan):
    page = export(plan, "markdown")

    assert page.index("## Prerequisites") < page.index("every artefact above is in its place")


@pytest.mark.parametrize("to", FORMATS)
def test_each_form_says_what_it_does_not_keep(plan, to):
    assert re.search(r"hat (Ansible|an inventory|this script|this page|this drawing) does not keep", export(plan, to))


@pytest.mark.parametrize("to", ["markdown", "html"])
def test_a_runbook_promises_only_what_stands_in_it(to):
    def said(steps, *told):
        page = export(farm_plan(steps), to, *told)
        return " ".join((rendered(page) if to == "markdown" else Page(page)).text.split())

    bare = [Step(id="a", target="web@w0", run=("a",))]
    back = Step(id="b", target="web@w0", section="rollback", began=("a",), check=("true",))
    full = [
        bare[0].model_copy(update={"secrets": {"TOKEN": "env:T"}}),
        back,
        Step(id="judge", kind="judge", judge=Judge(size=1, watch=("a",))),
    ]
    plan = farm_plan(full)

    assert "What it keeps: the order." in said(bare)
    assert "1 of 1 commands have no check" in said(bare) and "secrets too" not in said(bare) and "Nobody counts" not in said(bare)
    assert "go side by side in the forecast" not in said(bare) and "of its forecast" not in said(bare)
    whole = said(full, vetting_of(plan), forecast_of(plan))
    assert "What it keeps: the order, the checks, when to stop, how to undo, what was proved and what was forecast." in whole
    assert "secrets too, and nothing masks them" in whole and "Nobody counts but you: a judge's failures" in whole
    assert "go side by side in the forecast" in whole and "later than 99 of 100 of its forecast" in whole


def test_forward_rounds_and_the_rollback_have_chapters_of_their_own(tmp_path):
    said = export(rounds(tmp_path, 0), "markdown")

    chapters = re.findall("^## (.*)$", said, flags=re.M)
    assert ["Batches", "Forward, round 1", "Rollback", "Sign-off"] == chapters[-4:]


def test_what_is_by_hand_says_what_is_to_be_reached():
    step = Step(id="a", target="web@w0", begin=(("drain", "web@w0"),), end=(("out", "web@w0"),))
    said = export(farm_plan([step]), "markdown")

    assert "By hand, from the operator's desk" in said
    assert "from its begin: web@w0 takes nothing new and finishes what it has" in said
    assert "in the end: web@w0 is off the balancer and serves nothing" in said


def test_a_thousand_machines_are_instructed_once():
    """10 batches of 100 boxes, 2 steps each: a page for a person, with every machine on it."""
    steps: list[Step] = []
    for b in range(10):
        after = (f"code/web/judge#{b}",) if b else ()
        ids = []
        for k in range(100 * b, 100 * b + 100):
            instance, machine = f"web@w{k}", f"w{k}"
            a = Step(
                id=f"code/{instance}/stop",
                target=instance,
                on=machine,
                after=after,
                run=("stop", machine, f"{machine}.local", f"x{machine}"),
            )
            c = Step(id=f"code/{instance}/start", target=instance, on=machine, needs=(a.id,), run=("start", "web"))
            steps += [a, c]
            ids += [a.id, c.id]
        steps.append(Step(id=f"code/web/judge#{b + 1}", kind="judge", after=tuple(ids), judge=Judge(watch=tuple(ids), size=100, limit=5)))
    unlike = [s.model_copy(update={"run": (*s.run[:3], "x")}) if len(s.run) == 4 else s for s in steps]
    said = export(farm_plan(unlike, count=1000), "markdown")

    assert 3 == len(re.findall("^#### ", said, flags=re.M))
    assert 'stop "$MACHINE" "$MACHINE"\'.local\' x' in said or 'stop "$MACHINE" "$MACHINE".local x' in said
    assert all(re.search(rf"\bw{k}\b", said) for k in range(1000))
    assert len(said) < 60_000


def test_commands_that_differ_in_more_than_the_machine_are_not_put_together():
    steps = [Step(id=f"a/web@w{k}", target=f"web@w{k}", on=f"w{k}", run=("go", f"x{k}")) for k in range(2)]

    said = export(farm_plan(steps), "markdown")

    assert "go x0" in said and "go x1" in said and "MACHINE" not in said


@pytest.mark.parametrize("what", ["vetting", "forecast"])
def test_a_vetting_or_forecast_of_another_plan_is_refused(plan, what):
    other = plan.model_copy(update={"horizon_s": 1.0})
    given = {"vetting": vetting_of(other), "forecast": forecast_of(other)}[what]

    for to in FORMATS:
        with pytest.raises(PlanError, match=f"the {what} is of the plan {other.digest[:12]}... and this plan|{what} is of the plan"):
            export(plan, to, **{what: given})


def test_an_unknown_form_names_the_nearest():
    with pytest.raises(PlanError, match="exported to no 'markdwn'; did you mean 'markdown'"):
        export(farm_plan([]), "markdwn")


def test_every_verb_has_its_words():
    assert set(VERBS) == set(EFFECTS)
    for name, verb in VERBS.items():
        full = [name, *("1" for _ in verb.arguments)]
        least = [name, *("1" for a in verb.arguments if not a.endswith("?"))]
        assert effect_words(tuple(full)) and "{" not in effect_words(tuple(least))


def test_a_page_has_headings_in_order_ids_once_a_language_and_nothing_from_elsewhere(plan):
    said = export(plan, "html", vetting_of(plan), forecast_of(plan))
    page = Page(said)

    assert 1 == page.headings[0] and 1 == page.headings.count(1)
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert len(set(page.ids)) == len(page.ids)
    assert said.lstrip().startswith("<!DOCTYPE html>") and '<html lang="en">' in said
    assert not {"script", "link", "img", "iframe"} & page.tags
    assert not {name for _, name in page.attributes} & {"src", "onclick", "onload"}
    assert re.findall(r"https?://[^\"]+", said) == ["http://www.w3.org/2000/svg"] * 2
    assert said.count("<svg") == said.count('role="img" aria-labelledby') == said.count("<desc") == 2


def test_the_schedule_is_drawn_by_the_forecast_else_by_means():
    """Two lanes of 60 s, one after the other: with means 0 to 60 s and 60 s to 120 s."""
    plan = Plan(environment=canonical(), steps=rolling(["web@web1", "web@web2"]))

    assert "1.1 install web@web1: 0 s to 60 s" in export(plan, "html") and "60 s to 2 min" in export(plan, "html")
    assert "0 s to 30 s" in export(plan, "html", forecast=forecast_of(plan))


def test_a_real_forecast_fits(plan):
    assert "P50" in export(plan, "markdown", forecast=forecast(plan, 20, jobs=1))


def hostile(word: str, name: str) -> Plan:
    steps = [
        Step(
            id=f"x{name}",
            target=name,
            run=(word, word),
            check=(word,),
            end=(("version", "web@w0", word),),
            secrets={"T": "vault:a"},
            no_return=True,
        ),
        Step(id="y", artefact=Artefact(path=word, sha256="0" * 64), expects=(word,), section="rollback", began=(f"x{name}",)),
        Step(id="z", kind="judge", after=(f"x{name}",), target=word, judge=Judge(watch=(f"x{name}",), size=1)),
    ]
    return farm_plan(steps, source={"scenario": name, "strategy": word}, on_abort="rollback")


def told(plan: Plan, word: str) -> tuple[Vetting, Forecast]:
    found = Finding(id=word, severity="note", invariant=word, subject=word, message=word, cure=word)
    given = forecast_of(plan).model_copy(update={"goals": {word: None}})
    return Vetting(plan_sha256=plan.digest, tool=word, findings=(found,), accepted=(word,)), given


@settings(max_examples=60)
@given(TEXTS, TEXTS)
@example("</script><script>alert(1)</script>", '"><b>|')
@example("```\n# x", "``` | ` |")
def test_no_text_of_a_plan_becomes_markup_of_the_page_and_all_of_it_arrives(word, name):
    plain, plan = hostile("plain", "plain"), hostile(word, name)
    calm, page = Page(export(plain, "html", *told(plain, "plain"))), Page(export(plan, "html", *told(plan, word)))

    assert (calm.tags, calm.attributes, calm.headings) == (page.tags, page.attributes, page.headings)
    assert f"x{visible(name)}" in page.codes
    assert visible(f"{word}; {word}") in page.text
    assert all(c.isprintable() or c == "\n" for c in export(plan, "html", *told(plan, word)))


@settings(max_examples=60)
@given(TEXTS, TEXTS)
@example("</script><script>alert(1)</script>", '"><b>|')
@example("```\n# x", "``` | ` |")
@example("- [x](y)\\", "1. |a|")
def test_no_text_of_a_plan_becomes_markup_of_the_markdown_and_all_of_it_arrives(word, name):
    plain, plan = hostile("plain", "plain"), hostile(word, name)
    calm, page = rendered(export(plain, "markdown", *told(plain, "plain"))), rendered(export(plan, "markdown", *told(plan, word)))

    assert (calm.tags, calm.attributes, calm.headings) == (page.tags, page.attributes, page.headings)
    assert f"x{visible(name)}".strip() in [c.strip() for c in page.codes]
    squeezed = " ".join(page.text.split())
    assert " ".join(visible(f"{word}; {word}").split()) in squeezed
    assert all(c.isprintable() or c == "\n" for c in export(plan, "markdown", *told(plan, word)))


@given(st.lists(TEXTS, min_size=1, max_size=4, unique=True))
@example(list(HOSTILE))
@settings(max_examples=50)
def test_a_flowchart_has_safe_names_and_labels_that_nothing_can_leave(names):
    plan = farm_plan([Step(id=f"{k}{name}", target=name) for k, name in enumerate(names)])

    for line in export(plan, "mermaid").splitlines():
        assert re.fullmatch(
            r"flowchart TB|  %% plan [0-9a-f]{64}|  %% [A-Za-z ,.:()']+|"
            r" +subgraph n\w+\[\"[^\"<>`{}\[\]|;]*(#\d+;[^\"<>`{}\[\]|;]*)*\"\]| +end"
            r"| +n\w+(\[|\{\{?)\"[^\"<>`{}\[\]|;]*(#\d+;[^\"<>`{}\[\]|;]*)*\"(\]|\}\}?)| +n\w+ -(-|\.-)> n\w+",
            line,
        ), line
        assert line.isprintable()


def test_a_flowchart_shows_order_gates_and_the_point_of_no_return(plan):
    said = export(plan, "mermaid")

    assert 'n1_1["1.1 code/web@w0/drain"]' in said and "n1_1 --> n1_2" in said and 'n1_4{{"1.4 gate"}}' in said
    assert 'n1_3{"1.3 code/web/judge#35;1"}' in said and "n1_4 -.-> n2_1" in said
    assert 'n3_1["3.1 data/contract #40;no way back#41;"]' in said and "class n3_1 final" in said


def test_a_large_section_shows_its_batches_only_and_says_so():
    steps = [Step(id=f"step{k}", after=(f"step{k - 1}",) if k else ()) for k in range(121)]
    few, many = (" ".join(export(farm_plan(steps[:n]), "mermaid").replace("%%", "").split()) for n in (120, 121))

    assert "order of the steps, judges and gates, the point" in few and "1.1 step0" in few
    assert "order of the batches of large sections, the point" in many and 'n1["batch 1: 121 steps"]' in many
