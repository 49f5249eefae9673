--- A chat is text in a buffer. A line such as `=== user ===` begins a message, and the text below it is the message.
local M = {}

M.ROLES = { "system", "user", "assistant" }

--- The line that begins a message of this role.
function M.header(role)
  return ("=== %s ==="):format(role)
end

local function role_of(line)
  local role = line:match("^=== (%l+) ===%s*$")
  return vim.tbl_contains(M.ROLES, role) and role or nil
end

local function trimmed(lines)
  return (table.concat(lines, "\n"):gsub("^%s*\n", ""):gsub("%s+$", ""))
end

--- The messages in these lines. Empty ones do not count, and neither does text above the first header.
function M.read(lines)
  local messages, role, body = {}, nil, {}
  local function finish()
    local content = trimmed(body)
    if role and content ~= "" then
      table.insert(messages, { role = role, content = content })
    end
    body = {}
  end
  for _, line in ipairs(lines) do
    local begins = role_of(line)
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
