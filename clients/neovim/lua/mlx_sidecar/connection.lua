--- One sidecar process and the messages to and from it. Knows JSON-RPC, and nothing of methods.
local lines = require("mlx_sidecar.lines")
local errors = require("mlx_sidecar.errors")
local guard = require("mlx_sidecar.guard")

local uv = vim.uv or vim.loop -- one thing under two names
local KILL_AFTER_MS = 2000 -- a shutdown cancels running requests, so it takes far less
local STDERR_LINES = 50

local Connection = {}
Connection.__index = Connection

local M = {}

-- Everything below `vim.schedule` runs in the editor's loop; libuv's callbacks only cut and decode.
local function read_messages(self, pipe)
  local decode = lines.decoder()
  pipe:read_start(function(failed, bytes)
    if failed or not bytes then
      return vim.schedule(function()
        self:_ended("stdout")
      end)
    end
    local messages = {}
    for _, line in ipairs(decode(bytes)) do
      -- Null is the same as missing, in every result.
      local fine, message = pcall(vim.json.decode, line, { luanil = { object = true, array = true } })
      table.insert(messages, fine and message or { unreadable = line })
    end
    if #messages > 0 then
      vim.schedule(function()
        for _, message in ipairs(messages) do
          -- A handler that fails does not cost the messages behind it.
          guard.call("an answer", self._take, self, message)
        end
      end)
    end
  end)
end

local function read_stderr(self, pipe)
  local decode = lines.decoder()
  pipe:read_start(function(failed, bytes)
    for _, line in ipairs(not failed and bytes and decode(bytes) or {}) do
      table.insert(self.stderr, line)
      if #self.stderr > STDERR_LINES then
        table.remove(self.stderr, 1)
      end
    end
  end)
end

--- Starts `words` and returns the connection, or nil and an error.
--- `handlers.notification(method, params)` is called for each notification, `handlers.lost(because)` once, at the end.
function M.open(words, handlers)
  local self = setmetatable({ handlers = handlers, stderr = {}, waiting = {}, last_id = 0, ended = {} }, Connection)
  local stdin, stdout, stderr = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  local options = { args = { unpack(words, 2) }, stdio = { stdin, stdout, stderr }, hide = true }
  local process, pid = uv.spawn(words[1], options, function(status, signal)
    self.status = signal ~= 0 and -signal or status
    vim.schedule(function()
      self:_ended("process")
    end)
  end)
  if not process then
    for _, pipe in ipairs({ stdin, stdout, stderr }) do
      pipe:close()
    end
    return nil, errors.new("sidecar_lost", ("%s cannot be started: %s"):format(words[1], pid))
  end
  self.process, self.pid, self.stdin, self.stdout, self.stderr_pipe = process, pid, stdin, stdout, stderr
  read_messages(self, stdout)
  read_stderr(self, stderr)
  return self
end

--- Sends a request; `answered(error, result)` is called once, unless the connection is lost before. Returns its id.
function Connection:request(method, params, answered)
  self.last_id = self.last_id + 1
  self.waiting[self.last_id] = answered
  self:_send({ id = self.last_id, method = method, params = params })
  return self.last_id
end

function Connection:notify(method, params)
  self:_send({ method = method, params = params })
end

--- Ends the process and cancels running requests. It is killed if it does not go.
function Connection:close()
  if self.closing then
    return
  end
  self.closing = true
  self:request("shutdown", { cancel = true }, function() end)
  self:notify("exit")
  self.stdin:shutdown()
  self:_kill_later()
end

function Connection:kill()
  if not self.process:is_closing() then
    self.process:kill("sigkill")
  end
end

function Connection:_kill_later()
  vim.defer_fn(function()
    self:kill()
  end, KILL_AFTER_MS)
end

function Connection:_send(message)
  message.jsonrpc = "2.0"
  -- A write that fails means that the process is gone, and the end of its stdout says that already.
  if not self.stdin:is_closing() then
    self.stdin:write(vim.json.encode(message) .. "\n")
  end
end

function Connection:_take(message)
  local answered = message.id and self.waiting[message.id]
  if message.unreadable then
    self:_ended("wire", "it wrote something that is no message: " .. message.unreadable:sub(1, 200))
  elseif message.method and message.id then
    self:_send({ id = message.id, error = { code = -32601, message = "not a method of this client" } })
  elseif message.method then
    self.handlers.notification(message.method, message.params or {})
  elseif answered then
    self.waiting[message.id] = nil
    answered(message.error and errors.from_wire(message.error), message.result)
  end
end

-- Lost means that both stdout and the process have ended: until then there may be answers to read.
function Connection:_ended(part, because)
  self.ended[part] = true
  self.because = self.because or because
  if part == "wire" then
    self:kill()
  elseif part == "stdout" then
    self:_kill_later()
  end
  if not (self.ended.process and (self.ended.stdout or self.ended.wire)) or self.lost then
    return
  end
  self.lost = true
  for _, handle in ipairs({ self.stdin, self.stdout, self.stderr_pipe, self.process }) do
    if not handle:is_closing() then
      handle:close()
    end
  end
  local how = self.status < 0 and "was ended by signal " .. -self.status or "ended with status " .. self.status
  self.handlers.lost("the sidecar " .. (self.because or how), self.status)
end

return M
