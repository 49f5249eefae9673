--- A chat is text in a buffer. A line such as `=== user ===` begins a message, and the text below it is the message.
--- Below `=== reasoning ===` stands what the next message's answer was reasoned from.
local M = {}

M.ROLES = { "system", "user", "assistant", "reasoning" }

--- The line that begins a message of this role.
function M.header(role)
  return ("=== %s ==="):format(role)
end

--- The role of the message that this line begins; nil if it begins none.
function M.role_of(line)
  local role = line:match("^=== (%l+) ===%s*$")
  return vim.tbl_contains(M.ROLES, role) and role or nil
end

local function trimmed(lines)
  return (table.concat(lines, "\n"):gsub("^%s*\n", ""):gsub("%s+$", ""))
end

--- The messages in these lines. Empty ones do not count, and neither does text above the first header.
function M.read(lines)
  local messages, role, body, reasoning = {}, nil, {}, nil
  local function finish()
    local content = trimmed(body)
    body = {}
    if role == "reasoning" then
      reasoning = content ~= "" and content or nil
      return
    end
    if role and content ~= "" then
      local own = role == "assistant" and reasoning or nil
      table.insert(messages, { role = role, content = content, reasoning_content = own })
    end
    reasoning = nil
  end
  for _, line in ipairs(lines) do
    local begins = M.role_of(line)
    if begins then
      finish()
      role = begins
    else
      table.insert(body, line)
    end
  end
  finish()
  return messages
end

--- Lines of a buffer that were selected, as a fenced block for a question.
function M.quote(lines, filetype)
  local fence = "```"
  for _, line in ipairs(lines) do
    local longer = line:match("^%s*(```+)")
    fence = longer and #longer >= #fence and longer .. "`" or fence
  end
  local quoted = vim.list_extend({ fence .. filetype }, lines)
  table.insert(quoted, fence)
  return quoted
end

return M
