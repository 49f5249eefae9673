-- Carries out the operations of clients/conformance, one JSON object a line. Started by conformance.sh.
local errors = require("mlx_sidecar.errors")
local sidecars = require("mlx_sidecar.sidecar")

local PATIENCE_MS = 120000 -- far longer than any operation

local sidecar = sidecars.new({
  command = vim.split(vim.env.CONFORMANCE_COMMAND, "\n", { plain = true, trimempty = true }),
  serve = { "--engine", "fake" },
  window = 64,
  changed = function() end,
})

local function error_answer(error)
  if error.kind == "sidecar_lost" then
    return { kind = "sidecar_lost" }
  end
  return { code = error.code, kind = error.kind, retryable = error.retryable, data = error.data }
end

local function wait_until(condition)
  assert(vim.wait(PATIENCE_MS, condition, 1), "nothing came")
end

local begin -- begins an operation, and returns a function that waits for its answer

local function carry_out(operation)
  return begin(operation)()
end

local function carry_out_all(operations)
  local waiting, answers = vim.tbl_map(begin, operations), {}
  for place, wait in ipairs(waiting) do
    answers[place] = wait()
  end
  return answers
end

local BEGIN = {}

function BEGIN.call(operation)
  local answer
  sidecar:call(operation.method, operation.params, function(error, result)
    answer = error and { error = error_answer(error) } or { result = result }
  end)
  return function()
    wait_until(function()
      return answer
    end)
    return answer
  end
end

function BEGIN.load(operation)
  local answer, progress = nil, {}
  sidecar:load(operation.params, {
    progress = function(params)
      table.insert(progress, params)
    end,
    done = function(error, card)
      answer = error and { error = error_answer(error) } or { result = card, progress = progress }
    end,
  })
  return function()
    wait_until(function()
      return answer
    end)
    return answer
  end
end

function BEGIN.generate(operation)
  local answer = { text = "", reasoning = "", tool_calls = {}, tokens = {}, deltas = 0 }
  local call, finished, left, stalled
  call = sidecar:generate(operation.params, {
    delta = function(delta)
      if left then
        return
      end
      answer.text = answer.text .. delta.text
      answer.reasoning = answer.reasoning .. (delta.reasoning or "")
      for _, more in ipairs(delta.tool_calls or {}) do
        local begun = answer.tool_calls[more.index + 1] or { id = more.id, name = more.name, arguments = "" }
        begun.arguments = begun.arguments .. (more.arguments or "")
        answer.tool_calls[more.index + 1] = begun
      end
      vim.list_extend(answer.tokens, delta.tokens)
      answer.deltas = answer.deltas + 1
      if answer.deltas == operation.cancel_after then
        left = true
        sidecar:cancel(call)
      elseif answer.deltas == operation.stall_after then
        stalled = true
        call:pause()
      end
    end,
    done = function(error, result)
      finished = true
      answer.error, answer.result = error and error_answer(error), result
    end,
  })
  return function()
    wait_until(function()
      return finished or stalled
    end)
    if stalled then
      answer.meanwhile = vim.tbl_map(carry_out, operation.meanwhile)
      sidecar:resume(call)
      wait_until(function()
        return finished
      end)
    end
    return answer
  end
end

function BEGIN.together(operation)
  return function()
    return { together = carry_out_all(operation.operations) }
  end
end

function begin(operation)
  local beginning = BEGIN[operation.op]
  if not beginning then
    return function()
      return { unsupported = operation.op }
    end
  end
  return beginning(operation)
end

local fine, why = xpcall(function()
  sidecar:start()
  wait_until(function()
    return sidecar.state ~= "starting"
  end)
  for line in io.lines() do
    io.stdout:write(vim.json.encode(carry_out(vim.json.decode(line))), "\n")
    io.stdout:flush()
  end
  local connection = sidecar.connection
  sidecar:close()
  wait_until(function()
    return not connection or connection.lost
  end)
end, debug.traceback)
if not fine then
  io.stderr:write(why, "\n")
  vim.cmd("cquit 1")
end
vim.cmd("qall!")
