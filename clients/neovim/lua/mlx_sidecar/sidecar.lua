--- The sidecar as a host sees it: started when first needed, started again when lost, and never in the way.
local Connection = require("mlx_sidecar.connection")
local calls = require("mlx_sidecar.call")
local errors = require("mlx_sidecar.errors")
local executable = require("mlx_sidecar.executable")

local MOST_STARTS, PER_S = 5, 60
local FIRST_PAUSE_MS = 100 -- before the second start in a row; then twice as long each time

local Sidecar = {}
Sidecar.__index = Sidecar

local M = {}

--- A sidecar that is not started yet.
--- `options`: `command` (see executable.lua), `serve` (arguments after `serve`), `window`, and `changed()`, which is
--- called after each change of `state`, `engine` or the running requests.
function M.new(options)
  return setmetatable({
    options = options,
    state = "off", -- off | starting | ready | lost | failed
    engine = nil, -- the last `engine/state`
    info = nil, -- the answer to `initialize`
    failure = nil, -- the last error that was the sidecar's own
    loads = {}, -- models to be loaded again by the next process
    starts = {}, -- when they were, in seconds
    queue = {}, -- calls that wait for a connection
    sent = {}, -- calls that wait for their answer, by id
    streams = {}, -- the same, by the name of the stream
    progress = {}, -- the same, by the progress token
    names = 0,
  }, Sidecar)
end

--- Asks for `method`. `handlers` is a function `done(error, result)`, or a table: see call.lua. Returns the call.
function Sidecar:call(method, params, handlers)
  handlers = type(handlers) == "function" and { done = handlers } or handlers
  local call = calls.new(method, params, handlers)
  if self.closed then
    call:finish(errors.new("sidecar_closed", "the sidecar was closed"))
  elseif self.state == "ready" then
    self:_send(call)
  else
    table.insert(self.queue, call)
    self:start()
  end
  return call
end

--- Generates. Deltas come to `handlers.delta`, the result to `handlers.done`.
function Sidecar:generate(params, handlers)
  params = vim.tbl_extend("keep", params, { stream = self:_name(), window = self.options.window })
  return self:call("generate", params, handlers)
end

--- Loads a model, with `handlers.progress` told how far it is. The next process gets it too, if this one is lost.
function Sidecar:load(params, handlers)
  local done = handlers.done
  local function remember(error, card)
    self.loads[params.model] = not error and params or nil
    done(error, card)
  end
  local asked = vim.tbl_extend("keep", params, { progress = self:_name() })
  return self:call("load", asked, vim.tbl_extend("force", handlers, { done = remember }))
end

--- Cancels a call at once. Its answer still comes; for a generation it is a result with the text so far.
function Sidecar:cancel(call)
  for place, queued in ipairs(self.queue) do
    if queued == call then
      table.remove(self.queue, place)
      return call:finish(errors.new("cancelled", "cancelled before it was sent", { code = -32800 }))
    end
  end
  if call.id and not call.finished then
    self.connection:notify("$/cancelRequest", { id = call.id })
  end
end

--- Goes on with a call that was paused (`call:pause()`).
function Sidecar:resume(call)
  call:resume(self.connection)
end

--- Ends the sidecar for good.
function Sidecar:close()
  self.closed = true
  if self.connection then
    self.connection:close()
  end
  local open = vim.list_extend(vim.tbl_values(self.sent), self.queue)
  self.queue, self.sent, self.streams, self.progress = {}, {}, {}, {}
  for _, call in ipairs(open) do
    call:finish(errors.new("sidecar_closed", "the sidecar was closed"))
  end
end

function Sidecar:_name()
  self.names = self.names + 1
  return "neovim-" .. self.names
end

function Sidecar:_become(state, failure)
  self.state, self.failure = state, failure
  self.options.changed()
end

-- Starting.

--- Starts the sidecar, if it does not run. Any call does that.
function Sidecar:start()
  if self.state == "starting" or self.state == "ready" or self.closed then
    return
  end
  local words, missing = executable.find(self.options.command)
  if not words then
    return self:_give_up(missing)
  end
  local pause_ms = self:_pause_before_start()
  if not pause_ms then
    local because = ("the sidecar ended %d times within %d s"):format(MOST_STARTS, PER_S)
    return self:_give_up(errors.new("sidecar_lost", because, { retryable = true }))
  end
  self:_become("starting")
  vim.list_extend(words, { "serve" })
  vim.list_extend(words, self.options.serve)
  if pause_ms == 0 then
    return self:_open(words)
  end
  vim.defer_fn(function()
    self:_open(words)
  end, pause_ms)
end

-- Nil when there were too many already.
function Sidecar:_pause_before_start()
  local now = (vim.uv or vim.loop).now() / 1000
  self.starts = vim.tbl_filter(function(start)
    return start > now - PER_S
  end, self.starts)
  if #self.starts >= MOST_STARTS then
    return nil
  end
  table.insert(self.starts, now)
  return #self.starts == 1 and 0 or FIRST_PAUSE_MS * 2 ^ (#self.starts - 2)
end

function Sidecar:_open(words)
  if self.closed then
    return
  end
  local connection, error
  connection, error = Connection.open(words, {
    notification = function(method, params)
      self:_notified(method, params)
    end,
    lost = function(because, status)
      self:_lost(connection, because, status)
    end,
  })
  if not connection then
    return self:_give_up(error)
  end
  self.connection, self.engine = connection, nil
  connection:request("initialize", {
    protocol_version = 1,
    client = { name = "mlx-sidecar.nvim", version = "0.1.0" },
    process_id = vim.fn.getpid(),
  }, function(refused, info)
    if refused then
      connection:close()
      return self:_give_up(refused)
    end
    self:_ready(info)
  end)
end

function Sidecar:_ready(info)
  self.info = info
  self.connection:notify("initialized")
  for model, params in pairs(self.loads) do
    self.connection:request("load", params, function(error)
      self.loads[model] = not error and params or nil
    end)
  end
  self:_become("ready")
  local queue = self.queue
  self.queue = {}
  for _, call in ipairs(queue) do
    self:_send(call)
  end
end

-- Messages.

function Sidecar:_send(call)
  local stream, progress = call.method == "generate" and call.params.stream, call.params and call.params.progress
  call.id = self.connection:request(call.method, call.params, function(error, result)
    self:_forget(call)
    call:finish(error, result)
  end)
  self.sent[call.id] = call
  if stream then
    self.streams[stream] = call
  end
  if progress then
    self.progress[progress] = call
  end
  self.options.changed()
end

function Sidecar:_forget(call)
  self.sent[call.id] = nil
  for _, named in ipairs({ self.streams, self.progress }) do
    for name, other in pairs(named) do
      named[name] = other ~= call and other or nil
    end
  end
  self.options.changed()
end

-- Notifications that are not known here come from a newer sidecar: nothing is missed without them.
function Sidecar:_notified(method, params)
  local call = self.streams[params.stream] or self.progress[params.token]
  if method == "engine/state" then
    self.engine = params
    self.options.changed()
  elseif method == "stream/delta" and call then
    call:take(params, self.connection)
  elseif call then
    local handler = call.handlers[method == "stream/interrupted" and "interrupted" or method]
    if handler then
      handler(params)
    end
  end
end

-- Loss.

function Sidecar:_lost(connection, because, status)
  local was = self.state
  if self.closed or connection ~= self.connection then
    return
  end
  self.connection = nil
  if was == "starting" then
    local last = connection.stderr[#connection.stderr]
    because = because .. " before it was ready" .. (last and ": " .. last or "")
    return self:_give_up(errors.new("sidecar_lost", because, { exit_status = status, stderr = connection.stderr }))
  end
  local again, gone = {}, {}
  for _, call in pairs(self.sent) do
    table.insert(call:may_be_sent_again() and again or gone, call)
  end
  self.sent, self.streams, self.progress, self.engine = {}, {}, {}, nil
  self:_become("lost", errors.new("sidecar_lost", because, { exit_status = status, retryable = true }))
  self:_send_again(again)
  for _, call in ipairs(gone) do
    call:finish(errors.new("sidecar_lost", because, { exit_status = status }))
  end
end

function Sidecar:_send_again(again)
  table.sort(again, function(one, other)
    return one.id < other.id
  end)
  for place, call in ipairs(again) do
    call.sent_again, call.id = true, nil
    table.insert(self.queue, place, call)
  end
  if #self.queue > 0 then
    self:start()
  end
end

function Sidecar:_give_up(error)
  self.connection = nil
  self:_become("failed", error)
  local queue = self.queue
  self.queue = {}
  for _, call in ipairs(queue) do
    call:finish(vim.deepcopy(error)) -- a copy for each, because `finish` adds the call's own text
  end
end

return M
