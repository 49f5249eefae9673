--- Folds over the reasoning of answers: closed, and each a line with a count of tokens.
local conversation = require("mlx_sidecar.conversation")

local M = {}

local NAMESPACE = vim.api.nvim_create_namespace("mlx_sidecar_reasoning")
local HEADER = conversation.header("reasoning")

local function mark_at(buffer, row)
  return vim.api.nvim_buf_get_extmarks(buffer, NAMESPACE, { row, 0 }, { row, 0 }, { details = true })[1]
end

--- Notes at `row` (from 0), where a reasoning begins, how many tokens it has.
function M.note(buffer, row, count)
  local mark = mark_at(buffer, row)
  local words = count == 1 and "1 token" or count .. " tokens"
  local shown = { virt_text = { { words, "MlxSidecarNote" } }, id = mark and mark[1] }
  vim.api.nvim_buf_set_extmark(buffer, NAMESPACE, row, 0, shown)
end

--- 'foldexpr' for a line, from 1.
function M.level(line)
  local text = vim.fn.getline(line)
  if text == HEADER then
    return ">1"
  end
  return conversation.role_of(text) and "0" or "="
end

--- 'foldtext' for the fold that is drawn.
function M.text()
  local row = vim.v.foldstart - 1
  local mark = mark_at(0, row)
  local size = mark and mark[4].virt_text[1][1] or (vim.v.foldend - row .. " lines")
  return ("── reasoned, %s (zo opens)"):format(size)
end

--- Lets the current window fold its buffer.
function M.fold()
  vim.opt_local.foldmethod = "expr"
  vim.opt_local.foldexpr = "v:lua.require'mlx_sidecar.reasoning'.level(v:lnum)"
  vim.opt_local.foldtext = "v:lua.require'mlx_sidecar.reasoning'.text()"
  vim.opt_local.foldlevel = 0
  vim.opt_local.foldenable = true
end

return M
