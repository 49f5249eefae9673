--- Ghost text completion: when it is asked for, dropped, and taken.
---
--- There is at most one ghost: a place, the text that came for it, and how much of that is in the buffer already. It
--- is valid as long as the buffer (by changedtick) and the cursor are as they were when it was asked for, or have
--- changed exactly as the ghost says. Any other change cancels its request, and asks anew after a pause.
local ghosts = require("mlx_sidecar.ghost")
local guard = require("mlx_sidecar.guard")
local shared = require("mlx_sidecar.shared")
local suggestion = require("mlx_sidecar.suggestion")
local text = require("mlx_sidecar.text")

local M = {}

local ghost = nil
local timer = (vim.uv or vim.loop).new_timer()
local seen_tick = nil -- of the current buffer, when it was last looked at

local function cursor()
  local place = vim.api.nvim_win_get_cursor(0)
  return place[1] - 1, place[2]
end

local function line(row)
  return vim.api.nvim_buf_get_lines(0, row, row + 1, true)[1]
end

local function tick()
  return vim.api.nvim_buf_get_changedtick(0)
end

local function inserting()
  return vim.api.nvim_get_mode().mode:sub(1, 1) == "i"
end

-- Whether the ghost belongs to the present buffer, text and cursor.
local function is_fresh(candidate)
  if candidate ~= ghost or vim.api.nvim_get_current_buf() ~= candidate.buffer or not inserting() then
    return false
  end
  local row, column = cursor()
  return tick() == candidate.tick and row == candidate.row and column == candidate.column
end

-- The rest of the ghost, without the empty lines that models like to end with.
local function rest()
  return (ghost.text:sub(ghost.taken + 1):gsub("%s+$", ""))
end

local function draw()
  local shown = rest()
  if shown == "" or vim.fn.pumvisible() == 1 then
    ghosts.clear(ghost.buffer)
  else
    ghosts.draw(ghost.buffer, ghost.row, ghost.column, shown)
  end
end

--- Drops the ghost and cancels its request.
function M.dismiss()
  timer:stop()
  if ghost then
    local gone = ghost
    ghost = nil
    ghosts.clear(gone.buffer)
    if gone.call then
      shared.sidecar():cancel(gone.call)
    end
  end
end

local function failed(candidate, error, asked)
  if candidate == ghost then
    M.dismiss()
  end
  if error.kind == "sidecar_closed" then
    return
  end
  local complain = asked and shared.complain or shared.complain_once
  complain(error)
end

local function generate(candidate, params)
  candidate.call = shared.sidecar():generate(params, {
    delta = function(delta)
      candidate.text = candidate.text .. delta.text
      if is_fresh(candidate) then
        draw()
      end
    end,
    done = function(error, result)
      candidate.done = true
      if error and error.kind ~= "cancelled" then
        failed(candidate, error, candidate.asked)
      elseif result then
        shared.note(candidate.model, result)
      end
    end,
  })
end

local function request(asked)
  local row, column = cursor()
  local whole = line(row)
  local candidate = {
    buffer = vim.api.nvim_get_current_buf(),
    model = suggestion.model(),
    tick = tick(),
    row = row,
    column = column,
    before = whole:sub(1, column), -- of the line up to the place
    after = whole:sub(column + 1), -- and behind it
    text = "",
    taken = 0, -- bytes of text that are in the buffer
    asked = asked,
  }
  ghost = candidate
  shared.family(candidate.model, function(family, error)
    if error then
      failed(candidate, error, asked)
    elseif is_fresh(candidate) then
      suggestion.params(candidate, family, function(params, refused)
        if refused then
          failed(candidate, refused, asked)
        elseif params and is_fresh(candidate) then
          generate(candidate, params)
        end
      end)
    end
  end)
end

-- Whether the user has typed the beginning of the ghost; then the ghost goes on behind it.
local function typed_through()
  local row, column = cursor()
  if vim.api.nvim_get_current_buf() ~= ghost.buffer or row < ghost.row or (row == ghost.row and column < ghost.column) then
    return false
  end
  local pieces = vim.api.nvim_buf_get_text(0, ghost.row, ghost.column, row, column, {})
  local typed, whole = table.concat(pieces, "\n"), line(row)
  local unread = ghost.text:sub(ghost.taken + 1)
  local as_before = line(ghost.row):sub(1, #ghost.before) == ghost.before and whole:sub(column + 1) == ghost.after
  if not as_before or unread:sub(1, #typed) ~= typed then
    return false
  end
  ghost.taken = ghost.taken + #typed
  ghost.row, ghost.column, ghost.before, ghost.tick = row, column, whole:sub(1, column), tick()
  return not ghost.done or rest() ~= ""
end

--- Whether completions are made in this buffer.
function M.is_enabled()
  local options = shared.options.complete
  return options.enabled
    and vim.bo.buftype == ""
    and vim.bo.modifiable
    and vim.b.mlx_sidecar_enabled ~= false
    and not vim.tbl_contains(options.disabled_filetypes, vim.bo.filetype)
end

--- To be called when the text has changed in Insert mode.
function M.changed()
  seen_tick = tick()
  if ghost and is_fresh(ghost) then
    return draw()
  end
  if ghost and ghost.text ~= "" and typed_through() then
    return draw()
  end
  M.dismiss()
  if M.is_enabled() and vim.fn.pumvisible() == 0 then
    timer:start(shared.options.complete.debounce_ms, 0, function()
      vim.schedule(guard.wrap("completion", function()
        if not ghost and inserting() and M.is_enabled() and tick() == seen_tick then
          request(false)
        end
      end))
    end)
  end
end

--- To be called when the cursor has moved in Insert mode, also where that is because the text has changed.
function M.moved()
  if tick() == seen_tick and not (ghost and is_fresh(ghost)) then
    M.dismiss()
  end
end

--- Asks for a completion now, in any filetype.
function M.complete()
  M.dismiss()
  seen_tick = tick()
  request(true)
end

--- Whether there is a ghost to accept.
function M.is_visible()
  return ghost ~= nil and is_fresh(ghost) and rest() ~= ""
end

local function insert(taken)
  local pieces = vim.split(taken, "\n", { plain = true })
  local row, column = ghost.row, ghost.column
  vim.api.nvim_buf_set_text(0, row, column, row, column, pieces)
  column = #pieces == 1 and column + #taken or #pieces[#pieces]
  row = row + #pieces - 1
  vim.api.nvim_win_set_cursor(0, { row + 1, column })
end

--- Puts the ghost into the text: all of it, or its first "word" or "line". The rest of it stays.
--- Returns whether there was one.
function M.accept(part)
  if not M.is_visible() then
    return false
  end
  local shown = rest()
  local taken = part == "word" and text.first_word(shown) or part == "line" and text.first_line(shown) or shown
  insert(taken)
  if typed_through() then
    draw()
  else
    M.dismiss()
  end
  return true
end

return M
