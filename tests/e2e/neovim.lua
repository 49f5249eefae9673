-- Drives a sidecar with Neovim's vim.lsp.rpc; prints what it saw as one JSON object.
-- Usage: SIDECAR_COMMAND='["COMMAND", "ARGUMENT", …]' nvim --headless --clean -c 'luafile neovim.lua'
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

local function generate(stream, model)
  return ask("generate", { model = model, prompt = "Hello", stream = stream })
end

local function wait_for_delta(stream)
  wait_for("a delta of " .. stream, function()
    return seen.deltas[stream] ~= nil
  end)
end

local function drive()
  seen.initialize = call("initialize", { protocol_version = 1, client = { name = "neovim" }, process_id = vim.fn.getpid() })
  client.notify("initialized", vim.empty_dict())
  seen.ping = call("ping", vim.empty_dict())
  local _, finished = generate("finished", "fake?tokens=40")
  seen.finished = finished().result

  local id, by_id = generate("id", "fake?tokens=100000&delay_ms=5")
  wait_for_delta("id")
  client.notify("$/cancelRequest", { id = id })
  seen.cancelled_by_id = by_id().result

  local _, by_stream = generate("stream", "fake?tokens=100000&delay_ms=5")
  wait_for_delta("stream")
  seen.cancel_answer = call("stream/cancel", { stream = "stream" })
  seen.cancelled_by_stream = by_stream().result

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
