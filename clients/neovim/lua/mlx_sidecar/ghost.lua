--- Draws the ghost text: an extmark at the cursor, nothing in the buffer.
local text = require("mlx_sidecar.text")

local M = {}

local NAMESPACE = vim.api.nvim_create_namespace("mlx_sidecar_ghost")
local MARK = 1 -- one ghost at a time: drawing again moves it
local GROUP = "MlxSidecarGhost"

--- Whether this Neovim draws between characters, moving the text behind the cursor.
M.inline = vim.fn.has("nvim-0.10") == 1

-- Before 0.10 a ghost can be drawn at the end of the line, or over the text behind the cursor, which would hide it.
local function position(at_line_end)
  if M.inline then
    return "inline", ""
  end
  return at_line_end and "overlay" or "eol", at_line_end and "" or "↳ "
end

--- Shows `shown` at a place (`row` and `column` in bytes, both from 0) of the current window's buffer.
function M.draw(buffer, row, column, shown)
  local line = vim.api.nvim_buf_get_lines(buffer, row, row + 1, true)[1]
  local tabstop = vim.bo[buffer].tabstop
  local pieces = vim.split(shown, "\n", { plain = true })
  local mark = { id = MARK, hl_mode = "combine" }
  if pieces[1] ~= "" then
    local where, sign = position(column == #line)
    local first = text.display(pieces[1], vim.fn.strdisplaywidth(line:sub(1, column)), tabstop)
    mark.virt_text, mark.virt_text_pos = { { sign .. first, GROUP } }, where
  end
  for place = 2, #pieces do
    mark.virt_lines = mark.virt_lines or {}
    table.insert(mark.virt_lines, { { text.display(pieces[place], 0, tabstop), GROUP } })
  end
  vim.api.nvim_buf_set_extmark(buffer, NAMESPACE, row, column, mark)
end

function M.clear(buffer)
  if vim.api.nvim_buf_is_valid(buffer) then
    vim.api.nvim_buf_del_extmark(buffer, NAMESPACE, MARK)
  end
end

return M
