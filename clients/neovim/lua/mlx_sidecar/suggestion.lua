--- A completion at a place of a buffer, as it is asked for: by the ghost, and by completion menus.
local fim = require("mlx_sidecar.fim")
local prompts = require("mlx_sidecar.prompt")
local shared = require("mlx_sidecar.shared")

local M = {}

--- The model of completions.
function M.model()
  return shared.options.complete.model or shared.options.model
end

--- The parameters of `generate` for a place: `buffer`, `row` and `column` (in bytes, from 0), and `after`, the rest of
--- its line. `ready(params)` gets them, later where the texts must become tokens first, or `ready(nil, error)`. Both are
--- nil where there is nothing to continue.
function M.params(place, family, ready)
  local options, escape_special = shared.options.complete, shared.options.escape_special
  local before, after = prompts.around(place.buffer, place.row, place.column, options)
  local stop = vim.deepcopy(options.stop)
  if place.after ~= "" then
    table.insert(stop, "\n") -- in the middle of a line nothing but the rest of that line makes sense
  end
  local params = {
    model = M.model(),
    max_tokens = options.max_tokens,
    temperature = options.temperature,
    stop = stop,
    priority = "high",
  }
  if not family then
    params.prompt, params.escape_special = before, escape_special
    return ready(before ~= "" and params or nil)
  end
  local how = { model = params.model, escape_special = escape_special }
  fim.prompt(shared.sidecar(), family, before, after, how, function(tokens, error)
    params.tokens = tokens
    ready(tokens and params, error)
  end)
end

--- Asks for a whole completion at the cursor: `done(text)` is called once, with "" where there is none. Errors are told
--- to the user once. Returns a function that cancels.
function M.at_cursor(done)
  local row, column = unpack(vim.api.nvim_win_get_cursor(0))
  local line = vim.api.nvim_get_current_line()
  local place = { buffer = vim.api.nvim_get_current_buf(), row = row - 1, column = column, after = line:sub(column + 1) }
  local model, call, is_left = M.model(), nil, false
  local function finish(text)
    if not is_left then
      is_left = true
      done(text)
    end
  end
  local function failed(error)
    if error.kind ~= "cancelled" and error.kind ~= "sidecar_closed" then
      shared.complain_once(error)
    end
    finish("")
  end
  shared.family(model, function(family, error)
    if error then
      return failed(error)
    end
    if is_left then
      return
    end
    M.params(place, family, function(params, refused)
      if refused then
        return failed(refused)
      elseif is_left or not params then
        return finish("")
      end
      call = shared.sidecar():generate(params, {
        done = function(broken, result)
          if broken then
            return failed(broken)
          end
          shared.note(model, result)
          finish((result.text:gsub("%s+$", "")))
        end,
      })
    end)
  end)
  return function()
    is_left = true
    if call then
      shared.sidecar():cancel(call)
    end
  end
end

--- The entries of a completion menu for a text that goes on at the cursor: none, one, or also its first line alone.
--- They replace the word before the cursor by itself and the text, because menus look for that word in their entries.
function M.items(text)
  if text == "" then
    return {}
  end
  local row, column = unpack(vim.api.nvim_win_get_cursor(0))
  local word = vim.api.nvim_get_current_line():sub(1, column):match("[%w_]*$")
  local first, more = text:match("^([^\n]*)(.*)$")
  local range = {
    start = { line = row - 1, character = column - #word },
    ["end"] = { line = row - 1, character = column },
  }
  local function item(whole, mark)
    local label = word .. first .. mark
    return {
      label = label:match("^%s*(.-)%s*$"),
      filterText = word .. whole,
      kind = 1, -- text, as the language server protocol numbers kinds
      textEdit = { range = range, newText = word .. whole },
      documentation = { kind = "plaintext", value = word .. whole },
    }
  end
  if more == "" or first == "" then
    return { item(text, more == "" and "" or "…") }
  end
  return { item(text, " …"), item(first, "") }
end

return M
