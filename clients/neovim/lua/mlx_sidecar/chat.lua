--- The chat buffer: the conversation is its text, and an answer streams into it as one undo step.
local conversation = require("mlx_sidecar.conversation")
local reasoning = require("mlx_sidecar.reasoning")
local shared = require("mlx_sidecar.shared")
local text = require("mlx_sidecar.text")

local M = {}

local NAMESPACE = vim.api.nvim_create_namespace("mlx_sidecar_chat")
local NAME = "sidecar://chat"

local buffer = nil
-- The running one: { call, model, row, column (where it begins), began, has_text, reasoned (tokens of its reasoning) }.
local answer = nil

local function count()
  return vim.api.nvim_buf_line_count(buffer)
end

local function last_line()
  return vim.api.nvim_buf_get_lines(buffer, -2, -1, true)[1]
end

local function windows()
  return vim.fn.win_findbuf(buffer)
end

-- A remark under a line. It is no text: it is not sent, and undo does not know it.
local function remark(row, words)
  local window = windows()[1]
  local lines = {}
  for _, line in ipairs(text.wrap("── " .. words, window and vim.api.nvim_win_get_width(window) - 1 or 79)) do
    table.insert(lines, { { line, "MlxSidecarNote" } })
  end
  vim.api.nvim_buf_set_extmark(buffer, NAMESPACE, row, 0, { id = 1, virt_lines = lines })
end

local function no_remark()
  vim.api.nvim_buf_del_extmark(buffer, NAMESPACE, 1)
end

-- Beside the header of the first question, until that is sent. It is no text either.
local function hint()
  local words = "<CR> sends, in Insert mode <C-s>; <C-c> stops the answer"
  local row = count() - 3 -- two empty lines follow the header
  vim.api.nvim_buf_set_extmark(buffer, NAMESPACE, row, 0, { id = 2, virt_text = { { words, "MlxSidecarHint" } } })
end

local function no_hint()
  vim.api.nvim_buf_del_extmark(buffer, NAMESPACE, 2)
end

-- Writes at the end. While an answer comes only this modifies the buffer, so the undo step of the last change is the
-- answer's.
local function append(pieces)
  local following = {}
  for _, window in ipairs(windows()) do
    following[window] = vim.api.nvim_win_get_cursor(window)[1] == count()
  end
  vim.bo[buffer].modifiable = true
  vim.api.nvim_buf_call(buffer, function()
    if answer and answer.began then
      vim.cmd("undojoin")
    else
      vim.cmd("let &g:undolevels = &g:undolevels") -- ends the undo step before
    end
    local row, column = count() - 1, #last_line()
    vim.api.nvim_buf_set_text(buffer, row, column, row, column, pieces)
  end)
  if answer then
    answer.began = true
  end
  vim.bo[buffer].modifiable = answer == nil
  for window, follows in pairs(following) do
    if follows then
      vim.api.nvim_win_set_cursor(window, { count(), 0 })
    end
  end
end

local function split(words)
  return vim.split(words, "\n", { plain = true })
end

local REASONS = {
  cancelled = "stopped",
  length = "cut off: chat.max_tokens was reached, or the context is full",
  deadline = "cut off: the time was over",
  repeated = "cut off: it went round in a loop",
}

-- Takes the header of an answer away again, so that the question is the last message and can be sent once more.
local function retract()
  vim.bo[buffer].modifiable = true
  vim.api.nvim_buf_call(buffer, function()
    vim.cmd("undojoin")
    vim.api.nvim_buf_set_text(buffer, answer.row, answer.column, count() - 1, #last_line(), { "" })
  end)
end

-- Reasoning is a section of its own before the answer's: the answer's header, which nothing follows yet, becomes its.
local function write_reasoning(delta)
  if not answer.reasoned then
    answer.reasoned = 0
    vim.bo[buffer].modifiable = true
    vim.api.nvim_buf_call(buffer, function()
      vim.cmd("undojoin")
      local row = answer.row + 2
      vim.api.nvim_buf_set_lines(buffer, row, row + 1, true, { conversation.header("reasoning") })
    end)
  end
  answer.reasoned = answer.reasoned + #delta.tokens
  append(split(delta.reasoning))
  reasoning.note(buffer, answer.row + 2, answer.reasoned)
end

local function end_reasoning()
  if answer.reasoned and not answer.has_text then
    append({ "", "", conversation.header("assistant"), "", "" })
  end
end

local function write_text(delta)
  if delta.text ~= "" then
    end_reasoning()
    answer.has_text = true
    append(split(delta.text))
  end
end

local function finished(running, error, result)
  local has_any = running.has_text or running.reasoned
  if error and not has_any then
    retract()
  end
  end_reasoning()
  local row = count() - 1
  if result and running.reasoned then
    reasoning.note(buffer, running.row + 2, result.usage.reasoning_tokens or running.reasoned)
  end
  if not error or has_any then
    append({ "", "", conversation.header("user"), "", "" })
  end
  answer = nil
  vim.bo[buffer].modifiable = true
  if error then
    shared.complaint = error
    remark(row, "the answer broke off: " .. tostring(error))
  else
    shared.note(running.model, result)
    if REASONS[result.finish_reason] then
      remark(row, REASONS[result.finish_reason])
    end
  end
end

local function ask(messages)
  local options = shared.options.chat
  local running = { model = M.model(), row = count() - 1, column = #last_line() }
  answer = running
  append({ "", "", conversation.header("assistant"), "", "" })
  no_remark()
  no_hint()
  -- Deltas are dropped if the buffer was wiped out.
  local function if_wanted(handle)
    return function(...)
      if answer == running then
        handle(...)
      end
    end
  end
  running.call = shared.sidecar():generate({
    model = running.model,
    messages = messages,
    max_tokens = options.max_tokens,
    temperature = options.temperature,
    escape_special = shared.options.escape_special,
  }, {
    delta = if_wanted(function(delta)
      no_remark()
      if delta.reasoning then
        write_reasoning(delta)
      end
      write_text(delta)
    end),
    interrupted = if_wanted(function(params)
      remark(count() - 1, "the engine was lost, and the answer goes on: " .. params.because)
    end),
    done = if_wanted(function(error, result)
      finished(running, error, result)
    end),
  })
end

--- The model of the chat.
function M.model()
  return vim.b[buffer].mlx_sidecar_model or shared.options.chat.model or shared.options.model
end

--- Sends the messages of the buffer. The last one must be the user's.
function M.send()
  if answer then
    return vim.notify("sidecar: an answer is coming; :SidecarStop stops it", vim.log.levels.WARN)
  end
  local messages = conversation.read(vim.api.nvim_buf_get_lines(buffer, 0, -1, true))
  if #messages == 0 or messages[#messages].role ~= "user" then
    return vim.notify("sidecar: write a question under the last === user ===", vim.log.levels.WARN)
  end
  if vim.api.nvim_get_current_buf() == buffer then
    vim.api.nvim_win_set_cursor(0, { count(), 0 }) -- from there it follows the answer
  end
  ask(messages)
end

--- Stops the running answer; its text so far stays.
function M.stop()
  if answer then
    shared.sidecar():cancel(answer.call)
  end
end

local function begin()
  local lines = {}
  if shared.options.chat.system then
    lines = vim.list_extend({ conversation.header("system"), "" }, split(shared.options.chat.system))
    table.insert(lines, "")
  end
  return vim.list_extend(lines, { conversation.header("user"), "", "" })
end

local function create()
  buffer = vim.api.nvim_create_buf(true, false)
  vim.api.nvim_buf_set_name(buffer, NAME)
  for option, value in pairs({ buftype = "nofile", bufhidden = "hide", swapfile = false, filetype = "mlxsidecar" }) do
    vim.bo[buffer][option] = value
  end
  vim.api.nvim_buf_set_lines(buffer, 0, -1, true, begin())
  hint()
  vim.api.nvim_buf_call(buffer, function()
    vim.cmd("setlocal syntax=markdown")
    vim.cmd([[syntax match MlxSidecarRole /^=== \l\+ ===\s*$/]])
  end)
  vim.api.nvim_create_autocmd("BufWipeout", {
    buffer = buffer,
    callback = function()
      M.stop()
      buffer, answer = nil, nil
    end,
  })
  local function map(mode, key, command, why)
    vim.keymap.set(mode, key, command, { buffer = buffer, desc = why })
  end
  local function guarded(action)
    return ("<Cmd>lua require('mlx_sidecar.guard').call('the chat', require('mlx_sidecar.chat').%s)<CR>"):format(action)
  end
  map("n", "<CR>", guarded("send"), "send the chat")
  map("i", "<C-s>", "<Esc>" .. guarded("send"), "send the chat")
  map("n", "<C-c>", guarded("stop"), "stop the answer")
end

--- Shows the chat in a window, and makes it if there is none.
function M.open()
  if not buffer then
    create()
  end
  local window = windows()[1]
  if window then
    vim.api.nvim_set_current_win(window)
  else
    vim.cmd(shared.options.chat.open)
    vim.api.nvim_win_set_buf(0, buffer)
    vim.wo.wrap, vim.wo.linebreak = true, true
    reasoning.fold()
  end
  vim.api.nvim_win_set_cursor(0, { count(), 0 })
end

--- Opens the chat with `lines` (a quoted selection) and `question` at its end, and sends it if there is a question.
function M.start(lines, question)
  M.open()
  if answer then
    return M.send() -- says that it must wait
  end
  local words = vim.list_extend({}, lines)
  if question ~= "" then
    vim.list_extend(words, split(question))
  elseif #lines > 0 then
    table.insert(words, "")
  end
  if #words > 0 then
    append(words)
  end
  if question ~= "" then
    M.send()
  end
end

--- Chooses the model of the chat.
function M.choose(model)
  M.open()
  vim.b[buffer].mlx_sidecar_model = model
end

return M
