"""A chat with the sidecar in processes: they are killed, and the embedded model answers."""

from __future__ import annotations

import os
import signal

from tests.clients.neovim.editor import Editor
from tests.clients.neovim.test_chat import EXCHANGE, answered, ask, chatting


def test_an_answer_goes_on_when_the_engine_is_killed(editor: Editor) -> None:
    whole = "x" * 200
    chatting(editor, whole, delay_ms=10)
    ask(editor, "why?")
    editor.wait(lambda: any("xx" in line for line in editor.text()))
    os.kill(editor.status()["engine"]["pid"], signal.SIGKILL)
    editor.wait_for_lua("(require('mlx_sidecar').status().last or {}).finish_reason == 'stop'")
    assert editor.text()[6] == whole


def test_when_the_whole_sidecar_is_killed_the_chat_says_so_and_keeps_the_text(editor: Editor) -> None:
    chatting(editor, "x" * 3000, delay_ms=20)
    ask(editor, "why?")
    editor.wait(lambda: any("xx" in line for line in editor.text()))
    os.kill(editor.sidecar_pid(), signal.SIGKILL)
    editor.wait_for_text("── the answer broke off")
    assert "signal 9" in "".join(editor.screen.lines())
    assert editor.text()[6].startswith("xx")
    assert editor.text()[-3:] == ["=== user ===", "", ""]


def test_the_next_question_starts_another_sidecar(editor: Editor) -> None:
    chatting(editor, "because\nof it")
    ask(editor, "why?")
    answered(editor, *EXCHANGE)
    os.kill(editor.sidecar_pid(), signal.SIGKILL)
    editor.wait_for_lua("require('mlx_sidecar').status().state == 'lost'")
    ask(editor, "and?")
    editor.wait(lambda: editor.text()[-8:] == EXCHANGE[-8:])
    editor.wait_for_lua("require('mlx_sidecar').status().state == 'ready'")


def test_the_embedded_model_answers(editor: Editor) -> None:
    editor.setup(serve=[], chat={"open": "only"})
    editor.keys(":Sidecar How do I cancel a stream?<CR>")
    editor.wait_for_lua("(require('mlx_sidecar').status().last or {}).finish_reason == 'stop'")
    assert "stream/cancel" in "\n".join(editor.text())
    editor.keys("u")
    answered(editor, "=== user ===", "", "How do I cancel a stream?")
