--- Errors: those that the sidecar answers (one `kind` each, see docs/protocol.md) and those of the client itself:
--- `executable_not_found`, `sidecar_lost`, `sidecar_closed`.
local M = {}

local Error = {}
Error.__index = Error

function Error.__tostring(error)
  return M.describe(error)
end

--- An error with a stable `kind`, a `message` for people, and more members by kind.
function M.new(kind, message, members)
  local error = vim.tbl_extend("force", { code = 0, retryable = false, data = {} }, members or {})
  error.kind, error.message = kind, message
  return setmetatable(error, Error)
end

--- The error for the `error` member of an answer. A kind that is unknown here is kept as it came.
function M.from_wire(wire)
  local data = type(wire.data) == "table" and wire.data or {}
  local members = { code = wire.code, retryable = data.retryable == true, data = data }
  return M.new(tostring(data.kind or "unknown"), tostring(wire.message or ""), members)
end

-- Advice for people, by kind; nil where there is none.
local ADVICE = {
  model_not_found = function(data)
    return (":SidecarLoad %s gets it"):format(data.model or "NAME")
  end,
  model_not_loaded = function(data)
    return (":SidecarLoad %s loads it"):format(data.model or "NAME")
  end,
  context_too_long = function(data)
    return ("%s tokens, the model takes %s"):format(data.have or "?", data.limit or "?")
  end,
  overloaded = function(data)
    return ("try again in %s s"):format(data.retry_after_s or "a few")
  end,
  unsupported_parameter = function(data)
    return data.name == "escape_special" and "setup({ escape_special = false }) does without it" or nil
  end,
  engine_lost = function()
    return ":SidecarStatus shows the engine"
  end,
}
ADVICE.engine_stalled = ADVICE.engine_lost

--- One line for people: the message and the advice.
function M.describe(error)
  local line = error.message:gsub("%s*\n%s*", " ")
  local advice = ADVICE[error.kind] and ADVICE[error.kind](error.data)
  return advice and ("%s (%s)"):format(line, advice) or line
end

return M
