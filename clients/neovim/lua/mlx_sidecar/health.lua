--- :checkhealth mlx_sidecar
local executable = require("mlx_sidecar.executable")
local shared = require("mlx_sidecar.shared")

local M = {}

local PATIENCE_MS = 10000 -- a first start on a slow disk included

-- The functions have other names since 0.9, and before 0.8 another home.
local function reporter()
  local health = vim.health or require("health")
  return {
    start = health.start or health.report_start,
    ok = health.ok or health.report_ok,
    warn = health.warn or health.report_warn,
    error = health.error or health.report_error,
  }
end

local function ask(method, params)
  local error, result
  shared.sidecar():call(method, params, function(failed, answered)
    error, result = failed, answered
  end)
  vim.wait(PATIENCE_MS, function()
    return error ~= nil or result ~= nil
  end, 5)
  return error, result
end

local function check_editor(report)
  if vim.fn.has("nvim-0.7") == 0 then
    report.error("Neovim 0.7 or later is needed")
  elseif require("mlx_sidecar.ghost").inline then
    report.ok("this Neovim draws ghost text inside a line")
  else
    report.ok("this Neovim draws ghost text at the end of a line only (inside a line: 0.10 and later)")
  end
end

local function check_executable(report)
  local words, error = executable.find(shared.options.command)
  if words then
    report.ok("found: " .. table.concat(words, " "))
  else
    report.error(error.message, { error.tried })
  end
  return words ~= nil
end

local function check_sidecar(report)
  local error = ask("ping", vim.empty_dict())
  local sidecar = shared.sidecar()
  if error or sidecar.state ~= "ready" then
    report.error("it does not answer: " .. (error and tostring(error) or "nothing came"), error and error.stderr)
    return false
  end
  local server = sidecar.info.server
  report.ok(("%s %s answers, pid %d"):format(server.name, server.version, sidecar.connection.pid))
  return true
end

local function check_model(report, model)
  local error, result = ask("tokenize", { model = model, text = "x" })
  if error or not result then
    return report.error(model .. ": " .. (error and tostring(error) or "nothing came"))
  end
  report.ok("model: " .. model)
  local known, family
  shared.family(model, function(found)
    known, family = true, found
  end)
  vim.wait(PATIENCE_MS, function()
    return known
  end, 5)
  if family then
    report.ok("it fills in the middle: " .. table.concat(family.marks, " "))
  else
    report.warn("it has no tokens to fill in the middle: completions see only what is before the cursor")
  end
end

function M.check()
  local report = reporter()
  report.start("mlx_sidecar")
  check_editor(report)
  if check_executable(report) and check_sidecar(report) then
    check_model(report, shared.options.complete.model or shared.options.model)
  end
end

return M
