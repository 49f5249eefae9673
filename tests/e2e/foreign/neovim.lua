-- Drives a sidecar with Neovim's vim.lsp.rpc; prints what it saw as one JSON object.
local rpc = require("vim.lsp.rpc")

local PATIENCE_MS = 60000 -- far beyond what anything takes
local seen = { deltas = {}, errors = {} }
local exited = nil

local function fail(why)
  io.stderr:write(why .. "\n")
  vim.cmd("cquit 1")
end

local function wait_for(what, condition)
  vim.wait(PATIENCE_MS, function()
    return condition() or exited ~= nil
  end, 2)
  if not condition() then
    fail("nothing came: " .. what .. "; exit status: " .. tostring(exited))
  end
end

local dispatchers = {
  notification = function(method, params)
    if method == "stream/delta" then
      local deltas = seen.deltas[params.stream] or {}
      table.insert(deltas, params)
      seen.deltas[params.stream] = deltas
    end
  end,
  server_request = function()
    return nil, { code = -32601, message = "no such method" }
  end,
  on_error = function(code, error)
    table.insert(seen.errors, { code = code, error = vim.inspect(error) })
  end,
  on_exit = function(code)
    exited = code
  end,
}

local function start(command)
  if vim.fn.has("nvim-0.10") == 1 then
    return rpc.start(command, dispatchers)
  end
  local arguments = { unpack(command, 2) }
  return rpc.start(command[1], arguments, dispatchers)
end

local client = start(vim.fn.json_decode(vim.env.SIDECAR_COMMAND))

-- Sends a request; returns its id, and a function that waits for its answer.
local function ask(method, params)
  local answer = nil
  local sent, id = client.request(method, params, function(error, result)
    answer = { error = error, result = result }
  end)
  if not sent then
    fail("could not send " .. method)
  end
  return id, function()
    wait_for("an answer to " .. method, function()
      return answer ~= nil
    end)
    return answer
  end
end

local function call(method, params)
  local _, answer = ask(method, params)
  return answer().result
end

-- The result of a long generation; `cancel` is called with its id after its first delta.
local function cancelled(stream, cancel)
  local model = "fake?tokens=100000&delay_ms=5"
  local id, answer = ask("generate", { model = model, prompt = "Hello", stream = stream })
  wait_for("a delta of " .. stream, function()
    return seen.deltas[stream] ~= nil
  end)
  cancel(id)
  return answer().result
end

local function drive()
  seen.initialize = call("initialize", { protocol_version = 1, client = { name = "neovim" }, process_id = vim.fn.getpid() })
  client.notify("initialized", vim.empty_dict())
  seen.ping = call("ping", vim.empty_dict())
  seen.finished = call("generate", { model = "fake?tokens=40", prompt = "Hello", stream = "finished" })
  local text = vim.fn.json_decode(vim.env.SIDECAR_TEXT)
  local tokens = call("tokenize", { model = "fake", text = text }).tokens
  seen.returned = call("detokenize", { model = "fake", tokens = tokens })
  seen.cancelled_by_id = cancelled("id", function(id)
    client.notify("$/cancelRequest", { id = id })
  end)
  seen.cancelled_by_stream = cancelled("stream", function()
    call("stream/cancel", { stream = "stream" })
  end)

  local _, unknown = ask("no/such", vim.empty_dict())
  local error = unknown().error
  seen.unknown_method = { code = error.code, data = error.data }
  seen.shutdown = call("shutdown", vim.empty_dict())
  client.notify("exit", vim.empty_dict())
  wait_for("the exit", function()
    return exited ~= nil
  end)
  seen.exit_status = exited
end

local fine, why = pcall(drive)
if not fine then
  fail(tostring(why))
else
  io.stdout:write(vim.fn.json_encode(seen))
  vim.cmd("qall!")
end
