"""Status line, :SidecarStatus, :SidecarLoad, :checkhealth."""

from __future__ import annotations

from tests.clients.neovim.editor import Editor, says


def statusline(editor: Editor) -> str:
    line: str = editor.lua("return require('mlx_sidecar').statusline()")
    return line


def test_the_status_line_shows_model_state_and_speed(editor: Editor) -> None:
    editor.setup(model="fake")
    assert statusline(editor) == "fake · off"
    editor.lua("vim.o.laststatus = 2; vim.o.statusline = [[%{v:lua.require'mlx_sidecar'.statusline()}]]")
    editor.wait_for_text("fake · off")
    editor.keys("ia")
    row = editor.wait_for_text("tokens/s")
    assert editor.screen.lines()[row].startswith("fake · ready · ")


def test_the_status_line_shows_that_something_runs(editor: Editor) -> None:
    editor.setup(model=says("never", prefill_ms=600_000))
    editor.keys("ia")
    editor.wait_for_lua("vim.endswith(require('mlx_sidecar').statusline(), 'ready …')")
    assert editor.status()["running"] == 1


def test_the_status_line_shows_an_engine_that_failed(editor: Editor) -> None:
    editor.setup(model="fake?poison_prompt=1")
    editor.keys("ia")
    editor.wait_for_lua("require('mlx_sidecar').status().error")
    assert "poison" in editor.status()["error"] or "engine" in editor.status()["error"]


def test_the_status_command_shows_processes_models_and_the_last_answer(editor: Editor) -> None:
    editor.setup(model=says("world"))
    editor.keys("ihello ")
    editor.wait_for_whole_ghost()
    editor.keys("<Esc>:SidecarStatus<CR>")
    editor.wait_for_text("last answer: stop, 5 tokens")
    shown = "\n".join(editor.screen.lines())
    for part in ("sidecar: ready (mlx-sidecar", "engine: ready (fake, 0 restarts)", "loaded: fake?text=world, ready"):
        assert part in shown


def test_loading_shows_how_far_it_is(editor: Editor) -> None:
    editor.setup()
    editor.keys(":SidecarLoad fake?load_ms=50<CR>")
    editor.wait_for_text("is loaded")
    shown = editor.messages()
    assert any("reading 50 %" in line for line in shown)


def test_a_load_that_fails_says_why(editor: Editor) -> None:
    editor.setup()
    editor.keys(":SidecarLoad fake?fail_load=model_not_found<CR>")
    editor.wait_for_text("sidecar: ")


def health(editor: Editor) -> str:
    editor.keys(":checkhealth mlx_sidecar<CR>")
    editor.wait_for_lua("vim.bo.filetype == 'checkhealth' and vim.fn.search('mlx_sidecar') > 0")
    return "\n".join(editor.text())


def test_checkhealth_reports_editor_executable_sidecar_and_model(editor: Editor) -> None:
    editor.setup(serve=[])
    report = health(editor)
    for part in ("draws ghost text", "found: ", "mlx-sidecar 0", "model: pocket", "<|fim_prefix|>"):
        assert part in report
    assert "ERROR" not in report


def test_checkhealth_says_what_to_install(editor: Editor) -> None:
    editor.setup(command="no-such-sidecar")
    report = health(editor)
    assert "ERROR" in report
    assert "docs/install.md" in report
    assert "no-such-sidecar" in report
