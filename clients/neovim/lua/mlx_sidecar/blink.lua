--- The source for blink.cmp: sources.providers.mlx = { name = "mlx-sidecar", module = "mlx_sidecar.blink", async = true }
local guard = require("mlx_sidecar.guard")

local Source = {}
Source.__index = Source

local M = {}

function M.new()
  return setmetatable({}, Source)
end

function Source:enabled()
  return require("mlx_sidecar.completion").is_enabled()
end

--- Calls back once with entries, or with none. Returns a function that cancels.
function Source:get_completions(_, callback)
  local suggestion = require("mlx_sidecar.suggestion")
  return guard.call("completion", suggestion.at_cursor, function(text)
    callback({
      items = suggestion.items(text),
      is_incomplete_forward = true,
      is_incomplete_backward = true,
    })
  end)
end

return M
