--- The status of the sidecar, for the status line and for people.
local shared = require("mlx_sidecar.shared")

local M = {}

local function engine_state(sidecar)
  return sidecar.state == "ready" and sidecar.engine and sidecar.engine.state or nil
end

local function speed()
  return shared.last and shared.last.tokens_per_s and ("%.0f tokens/s"):format(shared.last.tokens_per_s) or nil
end

--- The status as a table: `model`, `state`, `engine` (the last `engine/state`), `server`, `running` (how many
--- generations are), `last` (usage, timing and tokens_per_s of the last one), `error` (the last one, readable).
function M.get()
  local sidecar = shared.sidecar()
  return {
    model = shared.options.complete.model or shared.options.model,
    state = sidecar.state,
    engine = sidecar.engine,
    server = sidecar.info and sidecar.info.server,
    running = vim.tbl_count(sidecar.streams),
    last = shared.last,
    error = shared.complaint and tostring(shared.complaint),
  }
end

--- A few words for 'statusline': model, state, speed of the last answer.
function M.line()
  local now = M.get()
  local engine = engine_state(shared.sidecar())
  local state = now.state == "ready" and engine and engine ~= "ready" and "engine " .. engine or now.state
  state = now.running > 0 and state .. " …" or state
  return table.concat({ now.model, state, speed() }, " · ")
end

local function about_last(last)
  local usage = last.usage
  local cached = ("%d of %d prompt tokens were cached"):format(usage.cached_tokens, usage.prompt_tokens)
  return ("last answer: %s, %d tokens, %s, %s"):format(
    last.finish_reason,
    usage.completion_tokens,
    speed() or "no speed",
    cached
  )
end

--- Lines for :SidecarStatus, with the cards of the models that are loaded.
function M.lines(models)
  local now, sidecar = M.get(), shared.sidecar()
  local lines = { "model: " .. now.model, "sidecar: " .. now.state }
  if now.server then
    local server = ("%s %s"):format(now.server.name, now.server.version)
    lines[2] = ("%s (%s%s)"):format(lines[2], server, sidecar.connection and ", pid " .. sidecar.connection.pid or "")
  end
  if now.engine then
    local engine = now.engine
    table.insert(lines, ("engine: %s (%s, %d restarts)"):format(engine.state, engine.backend or "?", engine.restarts))
  end
  for _, card in ipairs(models) do
    table.insert(lines, ("loaded: %s, %s"):format(card.model, card.state))
  end
  if now.last then
    table.insert(lines, about_last(now.last))
  end
  local error = shared.complaint or sidecar.failure
  if error then
    local tried = error.tried and "; " .. error.tried or ""
    table.insert(lines, ("last error: %s (%s)%s"):format(tostring(error), error.kind, tried))
  end
  local trace = require("mlx_sidecar.guard").trace
  if trace then
    table.insert(lines, "last failure of the plugin: " .. trace)
  end
  return lines
end

return M
