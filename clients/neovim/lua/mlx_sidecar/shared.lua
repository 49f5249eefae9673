--- The one sidecar of this editor, its options, and facts about its last answer.
local config = require("mlx_sidecar.config")
local sidecars = require("mlx_sidecar.sidecar")

local M = { options = config.read({}), last = nil }
local sidecar = nil
local kin = {} -- families for fill in the middle, by model; false for none
local told = nil -- the last complaint

local telling = false

-- Tells once for all that changes before the editor is at it.
local function changed()
  if telling then
    return
  end
  telling = true
  vim.schedule(function()
    telling = false
    vim.cmd("silent! doautocmd <nomodeline> User MlxSidecarStatus")
    vim.cmd("redrawstatus!")
  end)
end

--- The sidecar; it is started by its first request.
function M.sidecar()
  if not sidecar then
    local options = M.options
    sidecar = sidecars.new({
      command = options.command,
      serve = options.serve,
      window = options.window,
      changed = changed,
    })
  end
  return sidecar
end

--- Takes new options. A running sidecar ends, so that the next request starts one with them.
function M.setup(given)
  M.options = config.read(given)
  M.close()
end

function M.close()
  if sidecar then
    sidecar:close()
    sidecar, kin, told = nil, {}, nil
  end
end

--- The family of a model for fill in the middle, found once: `ready(family)`, or `ready(nil, error)`.
function M.family(model, ready)
  if kin[model] ~= nil then
    return ready(kin[model] or nil)
  end
  require("mlx_sidecar.fim").find(M.sidecar(), model, function(family, error)
    if not error then
      kin[model] = family or false
    end
    ready(family, error)
  end)
end

--- Remembers a result for the status: how fast it was, and where its prompt came from.
function M.note(model, result)
  local seconds, tokens = result.timing.decode_s, result.usage.completion_tokens
  M.last = {
    model = model,
    finish_reason = result.finish_reason,
    usage = result.usage,
    timing = result.timing,
    tokens_per_s = seconds and seconds > 0 and tokens / seconds or nil,
  }
  told = nil
  changed()
end

--- Shows an error in one line that needs no key to go away. The whole of it is in :SidecarStatus.
function M.complain(error)
  M.complaint = error
  local line = "sidecar: " .. tostring(error)
  local room = math.max(vim.v.echospace, 20)
  if vim.fn.strdisplaywidth(line) > room then
    line = vim.fn.strcharpart(line, 0, room - 1) .. "…"
  end
  vim.notify(line, vim.log.levels.ERROR)
end

--- The same, but only once until a request succeeds: for requests without a command, such as the completion at each key.
function M.complain_once(error)
  if told ~= tostring(error) then
    told = tostring(error)
    M.complain(error)
  end
end

return M
