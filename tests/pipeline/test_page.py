"""The chat and compare page in a browser: against an imitation of the server, and the real one."""

import asyncio
import json
import math
import re
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from app.tui.widgets.token_colours import CLASSES, shade
from pipeline.options.config import InferenceOptions
from tests.support.browser import CHROMIUM, PATIENCE
from tests.support.page_visitor import opened, visiting
from tests.support.servers.ours import TOKEN as REAL_TOKEN
from tests.support.servers.ours import Served, make_runs, serving
from tests.support.servers.page_api import PAGE, TOKEN, facts, refusal

HOSTILE = (
    "<img src=x onerror=window.hacked=1></script><script>window.hacked=1</script>"
    "\u202egnp.exe\u2066 ${window.hacked=1} &lt;b&gt; \x1b[2J\x00 \ud83d\ude00 "
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


def test_a_prompt_is_answered_in_a_stream_and_the_token_leaves_the_address(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, server):
            server.gate.clear()
            await person.send("Once upon a time")
            await person.sees("Once upon a timeThe small hen lays an", "#chat")
            assert "The end" not in await person.js("document.body.innerText")
            server.gate.set()
            await person.sees("The end", "#chat")
            await person.sees("11 tokens · 115 tokens/s · first after 41 ms · full length")
            assert await person.js("location.hash") == ""
            (asked,) = server.requests
            assert asked["model"] == "run_2026_01_01_10_00_first/step-600"
            assert asked["prompt"] == "Once upon a time"
            assert asked["stream"]
            assert asked["stream_options"] == {"include_usage": True}
            fields = InferenceOptions.model_fields
            for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
                assert asked[name] == fields[name].default
            assert asked["max_tokens"] == fields["max_length"].default
            assert not {"seed", "stop"} & asked.keys()
            await person.until("document.querySelector('#live').textContent")

    asyncio.run(act())


def test_escape_stops_the_server_too_and_what_came_survives_a_reload(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, server):
            server.gate.clear()
            await person.send("Once")
            await person.sees("lays an", "#chat")
            await person.press("Escape")
            await person.sees("stopped by you", "#chat")
            await person.page.until(lambda: server.left == 1, PATIENCE)
            await person.reload()
            await person.sees("Once" + "The small hen lays an", "#chat")
            await person.click("☰ History")
            await person.click("Clear all", "#history")
            await person.click("Sure?", "#history")
            await person.sees("Write the beginning of a text", "#chat")
            assert await person.js("localStorage.getItem('hatchery.conversations')") == "[]"

    asyncio.run(act())


def test_a_model_that_was_taught_to_answer_is_chatted_with(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, server):
            chosen = "document.querySelector('[name=mode]:checked').value"
            await person.until("models.size")
            assert await person.js(chosen) == "complete"
            for known in server.models.values():
                known["chat"] = True
            await person.reload()
            assert await person.js(chosen) == "chat"
            await person.send("Hello?")
            await person.sees("The end", "#chat")
            assert server.requests[0]["messages"][-1]["content"] == "Hello?"
            await person.click("Complete")
            assert await person.js(chosen) == "complete"

    asyncio.run(act())


def test_a_mode_set_by_hand_stays_when_the_models_come_later(tmp_path: Path) -> None:
    chosen = "document.querySelector('[name=mode]:checked').value"

    async def act() -> None:
        async with opened(tmp_path) as (person, server):
            for tuned, words in ((False, "Chat"), (True, "Complete")):
                for known in server.models.values():
                    known["chat"] = tuned
                server.listing.clear()
                await person.reload(until="!models.size")
                await person.click(words, "#composer")
                server.listing.set()
                await person.until("models.size")
                assert await person.js(chosen) == words.lower()
                await person.press("k", modifiers=2)
                await person.until("document.querySelectorAll('#list label').length === 2")
                await person.click("Use", "#picker")
                for tab in ("Compare", "Chat"):
                    await person.click(tab, "header")
                assert await person.js(chosen) == words.lower()

    asyncio.run(act())


def test_a_conversation_goes_on_as_it_was_led(tmp_path: Path) -> None:
    chosen = "document.querySelector('[name=mode]:checked').value"

    async def act() -> None:
        async with opened(tmp_path) as (person, server):
            await person.click("Chat", "#composer")
            await person.send("Who lays eggs?")
            await person.idle()
            await person.click("New")
            await person.click("Complete", "#composer")
            await person.send("Once")
            await person.idle()
            await person.click("☰ History")
            await person.click("Who lays eggs?", "#history")
            await person.sees("Who lays eggs?", "#chat .said")
            assert await person.js(chosen) == "chat"
            await person.send("Why?")
            await person.idle()
            assert len(server.requests[-1]["messages"]) == 3

    asyncio.run(act())


def test_an_older_list_of_models_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, _):
            await person.until("models.size")
            left = await person.js(
                """(async () => {
                  const answers = [];
                  const real = window.fetch;
                  window.fetch = () => new Promise((resolve) => answers.push(resolve));
                  const list = (...ids) => new Response(JSON.stringify({
                    data: ids.map((id) => ({ id, hatchery: { run: id } })) }));
                  const asked = [loadModels(), loadModels()];
                  answers[1](list("newer"));
                  await asked[1];
                  answers[0](list("older"));
                  await asked[0];
                  window.fetch = real;
                  return [...models.keys()];
                })()"""
            )
            assert left == ["newer"]

    asyncio.run(act())


def test_an_edited_message_replaces_what_followed_and_the_conversation_goes_along(
    tmp_path: Path,
) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, server):
            await person.click("Chat", "#composer")
            for number, prompt in enumerate(("Who lays eggs?", "Why?"), 1):
                server.text = f"Answer {number}."
                await person.send(prompt)
                await person.sees(f"Answer {number}.", "#chat")
                await person.idle()
            assert server.requests[-1]["messages"] == [
                {"role": "user", "content": "Who lays eggs?"},
                {"role": "assistant", "content": "Answer 1."},
                {"role": "user", "content": "Why?"},
            ]
            server.text = "Answer 3."
            await person.click("Edit", "#chat article:first-of-type")
            await person.until("document.querySelector('#prompt').value === 'Who lays eggs?'")
            await person.send(" And when?")
            await person.sees("Answer 3.", "#chat")
            await person.idle()
            first = {"role": "user", "content": "Who lays eggs? And when?"}
            assert server.requests[-1]["messages"] == [first]
            server.text = "Answer 4."
            await person.click("Again", "#chat")
            await person.sees("Answer 4.", "#chat")
            await person.idle()
            assert server.requests[-1]["messages"] == [first]
            assert await person.js("document.querySelectorAll('#chat article').length") == 1

    asyncio.run(act())


def test_two_models_write_at_once_and_a_blind_vote_comes_before_their_names(
    tmp_path: Path,
) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, server):
            await person.click("Compare", "header")
            await person.click("Blind", ".tools")
            server.gate.clear()
            await person.send("The hen")
            await person.until(
                "[...document.querySelectorAll('.column')].filter("
                "(column) => column.innerText.includes('lays an')).length === 2"
            )
            assert len(server.requests) == 2
            server.gate.set()
            await person.sees("Which is best?", "#compare")
            assert not re.search("first|second|★", await person.js("$('compare').textContent"))
            await person.js("document.activeElement.blur()")
            await person.press("1", "1")
            await person.sees("✓ your choice", "#compare .column")
            await person.sees("★ second · step 90 is fastest: 125 tokens/s", "#compare")
            votes = json.loads(await person.js("localStorage.getItem('hatchery.votes')"))
            sent = [asked["model"] for asked in server.requests]
            assert votes[0]["winner"] == votes[0]["models"][0]
            assert sorted(votes[0]["models"]) == sorted(sent) == sorted(server.models)
            assert (votes[0]["blind"], votes[0]["prompt"]) == (True, "The hen")
            await person.sees("1 vote", ".tools")
            saved = await person.js("transcript()")
            assert saved.count(server.text) == 2
            assert "```text\nThe hen\n```" in saved
            assert "Vote: " in saved

    asyncio.run(act())


def test_hostile_text_stays_text_wherever_it_comes_from(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path, "") as (person, server):
            server.models = {HOSTILE + n: facts(HOSTILE + n, 5, checkpoint=HOSTILE) for n in "ab"}
            server.text = f"``` {HOSTILE}" * 3 + "x" * 10_000
            await person.until("document.querySelector('#asking').open")
            await person.type(TOKEN)
            await person.press("Enter", "\r")
            await person.send(HOSTILE)
            await person.sees("full length", "#chat")
            await person.click("Probabilities")
            await person.until("document.querySelector('#chat .text .p1') !== null")
            await person.click("Compare", "header")
            await person.send(HOSTILE)
            await person.sees("Which is best?", "#compare")
            server.failure = {"message": HOSTILE, "code": HOSTILE, "type": HOSTILE}
            await person.send(HOSTILE)
            await person.sees("Try again", "#compare")
            await person.js("document.querySelector('#model').click()")
            await person.until("document.querySelectorAll('#list label').length === 2")
            await person.reload()
            assert await person.js("window.hacked") is None
            assert await person.js("document.querySelectorAll('img, iframe, script').length") == 1
            text = await person.js("document.body.textContent")
            assert "<img src=x onerror=window.hacked=1></script><script>" in text
            assert not re.search("[\\x00\\x1b\u202e\u2066]", await person.js("$('chat').innerText"))
            wide = "document.documentElement.scrollWidth > innerWidth"
            assert not await person.js(wide + " || $('chat').scrollWidth > $('chat').clientWidth")

    asyncio.run(act())


def test_every_refusal_is_told_in_words_with_what_to_do(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path, "#token=wrong") as (person, server):
            models, server.models = server.models, {}
            await person.sees("The server asks for its token", "#asking")
            await person.type(TOKEN)
            await person.click("Go on", "#asking")
            await person.sees("There is no model yet. Train one first:", "#notice")
            await person.sees("python main.py quickstart", "#notice code")
            server.models = models
            await person.click("Look again")
            server.gate.clear()
            server.refusals.append(refusal(429, "Busy.", **{"Retry-After": "1"}))
            await person.send("a")
            await person.sees("The server is busy; again in 1 s", "#chat")
            await person.sees("lays an", "#chat")
            server.gate.set()
            await person.idle()
            long = {"message": "The prompt has 600 tokens.", "code": "context_length_exceeded"}
            server.refusals.append(web.json_response({"error": long}, status=400))
            await person.send("b")
            await person.sees("600 tokens. Shorten it, or begin a new conversation.", "#chat")
            server.failure = {"message": "No memory is left.", "code": "out_of_memory"}
            await person.send("c")
            await person.sees("No memory is left.", "#chat")
            await person.idle()
            server.failure, server.cut = None, True
            await person.send("d")
            await person.sees("The server has ended; start it again with", "#chat")
            await person.sees("python main.py serve --port", "#chat")

    asyncio.run(act())


def test_a_refused_prompt_comes_back_into_the_box(tmp_path: Path) -> None:
    long = {"message": "The prompt has 600 tokens.", "code": "context_length_exceeded"}
    box = "document.querySelector('#prompt').value"

    async def act() -> None:
        async with opened(tmp_path) as (person, server):
            for kind, status in (("#chat", 400), ("#chat", 413), ("#compare", 422)):
                if kind == "#compare":
                    await person.click("Compare")
                answers = 2 if kind == "#compare" else 1
                server.refusals += [
                    web.json_response({"error": long}, status=status) for _ in range(answers)
                ]
                await person.send("too long")
                await person.sees("The prompt has 600 tokens.", kind)
                await person.until(f"{box} === 'too long'")
                shown = f"document.querySelector('{kind}').innerText"
                assert "Try again" not in await person.js(shown)
                await person.js("document.querySelector('#prompt').value = ''")
            server.failure = {"message": "No memory is left.", "code": "out_of_memory"}
            await person.send("short")
            await person.sees("Try again", "#compare")
            assert await person.js(box) == ""

    asyncio.run(act())


def test_one_writes_at_once_after_going_to_another_tab(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, server):
            await person.until("models.size")
            for tab in ("Compare", "Chat"):
                await person.click(tab, "header")
                await person.until("document.activeElement === document.querySelector('#prompt')")
                await person.type(tab)
            assert await person.js("document.querySelector('#prompt').value") == "CompareChat"
            assert server.requests == []

    asyncio.run(act())


def test_a_stream_is_understood_wherever_the_network_cuts_it(tmp_path: Path) -> None:
    first = b'data: {"a": "\xc3\xa9\xf0\x9f\x90\xa3"}\r\n\r\n'
    sent = first + b": note\n\ndata:x\rdata: y\r\rdata: [DONE]\n\n"
    script = """(async (sent, size) => {
      const pieces = [];
      for (let at = 0; at < sent.length; at += size)
        pieces.push(new Uint8Array(sent.slice(at, at + size)));
      const pull = (to) => (pieces.length ? to.enqueue(pieces.shift()) : to.close());
      const stream = new ReadableStream({ pull });
      const heard = [];
      for await (const data of events(stream)) heard.push(data);
      return heard;
    })"""

    async def act() -> None:
        async with opened(tmp_path) as (person, _):
            for size in (1, 2, 3, 5, 7, 1000):
                heard = await person.js(f"{script}({list(sent)}, {size})")
                assert heard == ['{"a": "é🐣"}', "x\ny", "[DONE]"], size

    asyncio.run(act())


def test_fifty_thousand_tokens_change_the_page_once_a_frame_and_in_small_blocks(
    tmp_path: Path,
) -> None:
    script = """(async (coloured) => {
      colour(coloured);
      const answer = new Answer({ model: "m", label: "m", text: "" });
      $("chat").append(answer.text);
      answer.begin();
      const next = () => new Promise(requestAnimationFrame);
      let frames = 0, rounds = 0;
      const all = { childList: true, subtree: true, characterData: true };
      new MutationObserver(() => rounds++).observe(answer.text, all);
      for (let at = 0; at < 50000; at++) {
        const token = at % 20 ? " word" : "\\n  line";
        answer.take(token, [{ token, logprob: -1 }]);
        if (at % 2500 === 0) { await next(); frames++; }
      }
      answer.end();
      while (painter.due.size) { await next(); frames++; }
      const sizes = [...answer.text.children].map((block) => block.textContent.length);
      const same = answer.text.textContent === answer.record.text;
      answer.text.remove();
      return [same, Math.max(...sizes), rounds <= frames + 2];
    })"""

    async def act() -> None:
        async with opened(tmp_path) as (person, _):
            await person.until("typeof models === 'object' && models.size")
            for coloured in ("false", "true"):
                same, largest, calm = await person.js(f"{script}({coloured})")
                assert same
                assert calm
                assert largest < 2000

    asyncio.run(act())


def test_probabilities_are_told_in_numbers_by_mouse_and_by_keys(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, _):
            await person.send("Once")
            await person.idle()
            await person.js("document.activeElement.blur()")
            await person.press("p", "p")
            await person.until("document.querySelectorAll('#chat .text span').length === 12")
            box = await person.js(
                "(() => { const b = document.querySelectorAll('#chat .text span')[2]"
                ".getBoundingClientRect(); return [b.x + 8, b.y + 5] })()"
            )
            await person.page.call(
                "Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1]
            )
            await person.sees('44 % · " small"', "#tip")
            await person.js("document.querySelector('#chat .text').focus()")
            for _ in range(3):
                await person.press("ArrowRight")
            await person.sees('20 % · " hen"', "#tip")
            await person.press("p", "p")
            await person.until("document.querySelectorAll('#chat .text span').length === 1")

    asyncio.run(act())


def test_models_are_chosen_by_keys_and_a_theme_is_remembered(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, _):
            await person.until("!document.querySelector('#send').disabled")
            await person.press("k", modifiers=2)
            await person.sees("val loss 3.200 · 14.2 M parameters", "#list")
            await person.sees("Loads about 54.4 MiB; 8.00 GiB are free on cpu.", "#memory")
            await person.type("second")
            await person.press("Enter", "\r")
            await person.sees("second · step 90", "#model")
            await person.press("k", modifiers=2)
            await person.type("first")
            await person.press("Enter", "\r")
            await person.sees("first · step 600", "#model")
            await person.press("k", modifiers=2)
            await person.type("run")
            await person.js("document.querySelector('#list input[value*=second]').click()")
            await person.press("Enter", "\r")
            await person.sees("second · step 90", "#model")
            await person.js("document.querySelector('#theme').click()")
            chosen = await person.js("document.documentElement.dataset.theme")
            await person.reload()
            assert await person.js("document.documentElement.dataset.theme") == chosen
            await person.sees("second · step 90", "#model")

    asyncio.run(act())


def test_the_real_server_answers_compares_and_its_end_is_told(tmp_path: Path) -> None:
    make_runs(tmp_path)

    async def act(served: Served, stack: ExitStack) -> None:
        async with visiting(served.url, f"#token={quote(REAL_TOKEN)}", tmp_path / "p") as person:
            await person.click("Compare", "header")
            await person.js("$('sampling').elements.max_tokens.value = 12")
            await person.js("$('sampling').elements.temperature.value = 0")
            await person.send("7 8 9")
            await person.sees("Which is best?", "#compare")
            assert (
                await person.js("document.querySelectorAll('.column .notice[hidden]').length") == 2
            )
            await person.sees("012345678901", "#compare")
            await person.click("Chat", "header")
            await person.click("Chat", "#composer")
            await person.send("Who lays eggs?")
            await person.sees("12 tokens", "#chat")
            await person.idle()
            await person.js("colour(true)")
            await person.until("document.querySelector('#chat .text span') !== null")
            await asyncio.to_thread(stack.close)
            await person.send("And now?")
            await person.sees("The server has ended; start it again with", "#chat")

    with ExitStack() as stack:
        asyncio.run(act(stack.enter_context(serving(tmp_path)), stack))


def test_the_page_is_one_file_that_makes_no_markup_from_text() -> None:
    source = PAGE.read_text("utf-8")
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|srcdoc|eval\(|Function\(|\son\w+="
    )
    assert not re.findall(forbidden, source.split("<script>")[0], re.IGNORECASE)
    assert not re.findall(forbidden.rsplit("|", 1)[0], source)
    assert "style=" not in source
    assert not re.findall(r"https?://|@import|url\(|src=", source)
    assert source.count("<script>") == source.count("<style>") == 1


def test_page_and_app_class_probabilities_alike(tmp_path: Path) -> None:
    async def act() -> None:
        async with opened(tmp_path) as (person, _):
            legend = await person.js("document.querySelector('#legend').textContent")
            assert legend.split(", ") == [words for _, _, words in CLASSES]
            for share in (1.0, 0.6, 0.5, 0.49, 0.1, 0.09, 0.01, 0.009, 1e-9):
                place = [name for _, name, _ in CLASSES].index(shade(math.log(share)))
                assert await person.js(f"shade(Math.exp(Math.log({share})))") == place, share

    asyncio.run(act())
