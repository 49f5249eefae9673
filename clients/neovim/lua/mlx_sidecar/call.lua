--- A request on its way, and the deltas that come for it. It outlives a sidecar process: see sidecar.lua.
local errors = require("mlx_sidecar.errors")

local Call = {}
Call.__index = Call

local M = {}

-- Asking these twice is the same as asking once. `generate` is one of them until its first delta.
local IDEMPOTENT = {
  ["cache/stats"] = true,
  ["local/list"] = true,
  ["rpc.discover"] = true,
  detokenize = true,
  generate = true,
  load = true,
  models = true,
  ping = true,
  render = true,
  stats = true,
  tokenize = true,
}

--- A call that was not sent yet. Of `handlers`, `done(error, result)` is called exactly once; `delta(delta)`,
--- `interrupted(params)` and `progress(params)` are optional.
function M.new(method, params, handlers)
  local call = { method = method, params = params, handlers = handlers, pieces = {}, tokens = {}, unacknowledged = 0 }
  return setmetatable(call, Call)
end

--- Whether the call may be sent to the next process after its own was lost.
function Call:may_be_sent_again()
  return not self.sent_again and IDEMPOTENT[self.method] and not self.paused and #self.pieces == 0
end

--- Takes a delta of its stream. The consumer runs before the ack, so that a slow one pauses the model.
function Call:take(delta, connection)
  if self.paused then
    return table.insert(self.paused, delta)
  end
  table.insert(self.pieces, delta.text)
  vim.list_extend(self.tokens, delta.tokens)
  self.unacknowledged = self.unacknowledged + 1
  if self.handlers.delta then
    self.handlers.delta(delta)
  end
  if connection and self.params.window and self.unacknowledged >= self.params.window / 2 then
    self.unacknowledged = 0
    -- A notification, because a late ack is no error.
    connection:notify("stream/ack", { stream = delta.stream, seq = delta.seq })
  end
end

--- Hands on nothing more, and acknowledges nothing, until `resume`: the model pauses when the window is used up.
function Call:pause()
  self.paused = self.paused or {}
end

--- Hands on the deltas that came meanwhile, and goes on.
function Call:resume(connection)
  local waiting, answer = self.paused or {}, self.held
  self.paused, self.held = nil, nil
  for _, delta in ipairs(waiting) do
    self:take(delta, connection)
  end
  if answer then
    self:finish(unpack(answer, 1, 2))
  end
end

--- Gives the answer. A result that ended with an error becomes that error, with the whole of it as `partial`;
--- with any other error come the `text` and `tokens` that were delivered.
function Call:finish(error, result)
  if self.finished then
    return
  elseif self.paused then
    self.held = { error, result } -- given after the deltas that wait
    return
  end
  self.finished = true
  if result and result.finish_reason == "error" then
    error = errors.from_wire(result.error or {})
    error.partial, result = result, nil
  elseif error then
    error.text, error.tokens = table.concat(self.pieces), self.tokens
  end
  self.handlers.done(error, result)
end

return M
