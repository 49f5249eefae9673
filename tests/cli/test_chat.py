"""``chat`` as a person has it, in a real terminal."""

from __future__ import annotations

import json
import re
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.terminal import ALT_ENTER, CTRL_C, CTRL_D, CTRL_R, ENTER, UP, Terminal, terminal

READY = "/help lists commands"
TOOLBAR = "tokens · /help"
PASTE = "".join(f"{number:07} of a long paste, é.\n" for number in range(800))[:20_000]
COLOUR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


@contextmanager
def chat(home: Path, model: str, *words: str, **more: Any) -> Iterator[Terminal]:
    """A conversation with a fake model, when it asks for the first line."""
    with terminal("chat", model, "--engine", "fake", *words, XDG_STATE_HOME=str(home), **more) as running:
        running.wait_for(TOOLBAR if more.get("TERM") != "dumb" else ">")
        yield running


def says(text: str, **options: int) -> str:
    """A fake model that answers ``text``, which does not stand in its name."""
    spelt = "".join(f"%{byte:02x}" for byte in text.encode())
    return "&".join([f"fake?text={spelt}", *(f"{name}={value}" for name, value in options.items())])


def say(running: Terminal, line: str, *, answers: int = 1) -> None:
    """Send a line and wait for the figures of the answer, which is the ``answers``-th."""
    running.type(line + ENTER)
    running.wait(lambda: len(re.findall(r"prompt.* new tokens", running.text)) >= answers, f"no answer to {line}")


def saved(running: Terminal, path: Path) -> list[dict[str, str]]:
    """The messages of the conversation."""
    running.type(f"/save {path}{ENTER}")
    running.wait_for("saved to")
    messages: list[dict[str, str]] = json.loads(path.read_text())["messages"]
    return messages


def test_a_paste_of_20_000_characters_arrives_whole_at_the_prompt_and_during_an_answer(tmp_path: Path) -> None:
    with chat(tmp_path, says("abcdefgh", delay_ms=30, context=100_000)) as running:
        running.paste(PASTE)
        running.type(ENTER)
        running.wait_for("abc")
        running.paste(PASTE[::-1])
        running.wait_for("new tokens")
        running.type(ENTER)
        running.wait_for("new tokens", 2)
        messages = saved(running, tmp_path / "saved.json")
    assert [message["content"] for message in messages] == [PASTE, "abcdefgh", PASTE[::-1], "abcdefgh"]


def test_several_lines_are_one_question(tmp_path: Path) -> None:
    with chat(tmp_path, "fake?text=ok") as running:
        say(running, f"one{ALT_ENTER}two")
        say(running, f'"""three{ENTER}four{ENTER}"""', answers=2)
        messages = saved(running, tmp_path / "saved.json")
    assert [message["content"] for message in messages[::2]] == ["one\ntwo", "three\nfour"]


def test_questions_come_back_now_and_the_next_time(tmp_path: Path) -> None:
    with chat(tmp_path, "fake?text=ok") as running:
        say(running, "the first")
        say(running, UP, answers=2)
        running.type(CTRL_D)
        assert running.end() == 0
    history = tmp_path / "mlx-sidecar" / "chat-history"
    assert history.stat().st_mode & 0o777 == 0o600
    with chat(tmp_path, "fake?text=ok") as running:
        say(running, UP)
        assert "> the first" in running.text


def test_ctrl_c_clears_a_line_then_cancels_an_answer_and_never_ends_the_conversation(tmp_path: Path) -> None:
    with chat(tmp_path, says("abcdefghijklmnopqrstuvwxyz", delay_ms=40)) as running:
        running.type("not this")
        running.wait_for("> not this")
        running.type(CTRL_C)
        running.wait(lambda: "not this" not in running.text, "the line is still there")
        running.type(CTRL_C)
        running.wait_for("Ctrl-D or /bye ends the conversation")
        running.type(f"question{ENTER}")
        running.wait_for("abc")
        running.type(CTRL_C)
        running.wait_for("cancelled")
        running.type(f"/model fake?load_ms=60000{ENTER}")
        running.wait_for("loading")
        running.type(CTRL_C)
        # The latter where it came before the request was sent.
        running.wait(lambda: "error: cancelled" in running.text or "interrupted" in running.text, "no end of the load")
        messages = saved(running, tmp_path / "saved.json")
        assert messages[0]["content"] == "question"
        assert messages[1]["content"].startswith("abc")
        assert not messages[1]["content"].endswith("z")
        running.type(f"/bye{ENTER}")
        assert running.end() == 0


def test_ctrl_c_ends_a_search_of_the_history(tmp_path: Path) -> None:
    with chat(tmp_path, "fake?text=ok") as running:
        running.type("kept" + CTRL_R)
        running.wait_for("I-search")
        running.type("zzz" + CTRL_C)
        running.wait(lambda: "I-search" not in running.text, "it is still searched")
        running.wait_for("> kept")


def test_a_signal_that_ends_the_command_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with chat(tmp_path, says("abcdefghijklmnopqrstuvwxyz", delay_ms=40)) as running:
        before = running.modes
        running.type(f"question{ENTER}")
        running.wait_for("abc")
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 128 + signal.SIGTERM
        assert running.modes & termios.ECHO
        assert not before & termios.ECHO
        assert running.written.rfind(b"\x1b[?2004l") > running.written.rfind(b"\x1b[?2004h")


def test_when_the_sidecar_is_gone_the_conversation_can_still_be_saved(tmp_path: Path) -> None:
    with chat(tmp_path, "fake?text=ok") as running:
        say(running, "question")
        (sidecar,) = psutil.Process(running.process.pid).children()
        sidecar.kill()
        running.type("/model po")  # which would be completed
        running.wait_for("> /model po")
        running.type(f"{CTRL_C}again{ENTER}")
        running.wait_for("error: mlx-sidecar ended with status -9")
        assert [each["content"] for each in saved(running, tmp_path / "saved.json")] == ["question", "ok"]


def test_what_the_sidecar_logs_comes_behind_the_answer_and_not_into_it(tmp_path: Path) -> None:
    with chat(tmp_path, says("abcdefghijklm", delay_ms=40, crash_after=5)) as running:
        say(running, "question")
        running.wait_for("warning: the engine was lost")
        assert re.search(r"\nabcdefghijklm\nstop .*\nwarning: the engine was lost", running.text)


def test_ctrl_c_while_the_first_model_loads_ends_the_command_as_shells_expect(tmp_path: Path) -> None:
    with terminal("chat", "fake?load_ms=60000", "--engine", "fake", XDG_STATE_HOME=str(tmp_path)) as running:
        running.wait_for("loading")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 130


def test_an_answer_survives_other_widths_with_its_words_whole(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(60)]
    with chat(tmp_path, says(" ".join(words), delay_ms=20), columns=70) as running:
        running.type(f"go{ENTER}")
        running.wait_for("word20")
        running.resize(44, 24)
        running.wait_for("word40")
        running.resize(100, 24)
        running.wait_for("new tokens")
        # This emulator does not flow lines anew: it has cut those that were drawn for the first width.
        drawn = running.text
        assert drawn[drawn.index("word40") : drawn.index("word59") + 6].split() == words[40:]
        running.type(f"again{ENTER}")
        # The figures of the first answer may stand there twice, once for each width.
        again = re.compile(r"> again(?P<text>.*?)stop .* new tokens", re.DOTALL)
        running.wait(lambda: again.search(running.text) is not None, "no second answer")
        told = again.search(running.text)
        assert told is not None
        assert told["text"].split() == words


def test_a_full_context_offers_to_drop_the_oldest_turns(tmp_path: Path) -> None:
    with chat(tmp_path, says("ok", context=400), "--system", "Be brief.") as running:
        for number in range(3):
            say(running, f"{number}" * 90, answers=number + 1)
        running.type("3" * 90 + ENTER)
        running.wait_for("Drop the oldest turns? [Y/n]")
        running.type(CTRL_C)
        running.wait_for("the limit is 399")
        running.type(UP + ENTER)
        running.wait_for("Drop the oldest turns? [Y/n]", 2)
        running.type(ENTER)
        running.wait_for("turns dropped")
        running.wait_for("new tokens", 4)
        messages = saved(running, tmp_path / "saved.json")
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert messages[-2:] == [{"role": "user", "content": "3" * 90}, {"role": "assistant", "content": "ok"}]
    assert "0" * 90 not in [message["content"] for message in messages]


def test_a_question_that_alone_is_too_long_costs_no_turn(tmp_path: Path) -> None:
    with chat(tmp_path, says("ok", context=200)) as running:
        say(running, "first")
        running.type("x" * 300 + ENTER)
        running.wait_for("the limit is 199")
        assert "Drop" not in running.text
        assert [each["content"] for each in saved(running, tmp_path / "saved.json")] == ["first", "ok"]


def test_what_fails_takes_nothing_of_the_conversation(tmp_path: Path) -> None:
    with chat(tmp_path, says("ok", context=200)) as running:
        say(running, "first")
        running.type(f"/load {tmp_path / 'nowhere'}{ENTER}")
        running.wait_for("cannot be read")
        running.type(f"/system {'x' * 300}{ENTER}/retry{ENTER}")
        running.wait_for("the limit is 199")
        running.type(f"/system none{ENTER}")
        assert [each["content"] for each in saved(running, tmp_path / "saved.json")] == ["first", "ok"]


def test_a_conversation_is_saved_loaded_and_begun_anew(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("[bold]attached[/bold]")
    with chat(tmp_path, "fake?text=ok") as running:
        running.type(f"/file {note}{ENTER}")
        running.wait_for("goes with the next question")
        say(running, "what is it?")
        messages = saved(running, tmp_path / "saved.json")
        running.type(f"/clear{ENTER}/load {tmp_path / 'saved.json'}{ENTER}/retry{ENTER}")
        running.wait_for("new tokens", 2)
        running.type(f"/save {tmp_path / 'again.json'}{ENTER}")
        running.wait_for("saved to", 2)
        assert json.loads((tmp_path / "again.json").read_text())["messages"] == messages
        running.type(f"/stats{ENTER}")
        running.wait_for("since start")
    assert messages[0]["content"] == "note.txt:\n```\n[bold]attached[/bold]\n```\n\nwhat is it?"


def test_parameters_are_checked_when_they_are_set_and_commands_are_completed(tmp_path: Path) -> None:
    with chat(tmp_path, "fake?text=ok") as running:
        running.type(f"/set temperatur 1{ENTER}")
        running.wait_for("did you mean 'temperature'?")
        running.type(f"/set temperature -1{ENTER}")
        running.wait_for("greater than or equal to 0")
        running.type(f"/set seed 7{ENTER}")
        running.wait_for("seed = 7")
        running.type(f"/set seed null{ENTER}/set stop a b{ENTER}")
        running.wait_for('stop = ["a b"]')
        running.type(f'/set template_args {{"a": NaN}}{ENTER}')
        running.wait_for("should be a valid dictionary")
        running.type(f"/lod x{ENTER}")
        running.wait_for("did you mean '/load'?")
        running.type("/sy")
        running.wait_for(" /system")  # in the menu
        running.type("\t")
        running.wait_for("> /system")
        running.type(f" Be kind.{ENTER}")
        running.wait_for("system message: Be kind.")


def test_without_colours_nothing_is_coloured(tmp_path: Path) -> None:
    code = says("```python\nreturn 1\n```\n**bold**")
    for no_color, coloured in (("1", False), ("", True)):
        with chat(tmp_path / no_color, code, NO_COLOR=no_color) as running:
            say(running, "x")
            running.type(f"/nonsense{ENTER}")
            running.wait_for("error:")
            assert bool(COLOUR.search(running.written)) == coloured


def test_a_dumb_terminal_gets_no_escape_sequence(tmp_path: Path) -> None:
    with chat(tmp_path, says("**plain**"), TERM="dumb") as running:
        say(running, "x")
        running.type(CTRL_D)
        assert running.end() == 0
        assert b"\x1b" not in running.written
        assert "**plain**" in running.text
