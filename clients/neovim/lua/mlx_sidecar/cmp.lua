--- The source for nvim-cmp: require("cmp").register_source("mlx_sidecar", require("mlx_sidecar.cmp").new())
local guard = require("mlx_sidecar.guard")

local Source = {}
Source.__index = Source

local M = {}

function M.new()
  return setmetatable({ cancel = nil }, Source)
end

function Source:get_debug_name()
  return "mlx_sidecar"
end

function Source:is_available()
  return require("mlx_sidecar.completion").is_enabled()
end

--- Positions in the entries count bytes.
function Source:get_position_encoding_kind()
  return "utf-8"
end

--- Calls back once with entries, or with none. An older request is cancelled.
function Source:complete(_, callback)
  if self.cancel then
    self.cancel()
    self.cancel = nil
  end
  local suggestion = require("mlx_sidecar.suggestion")
  self.cancel = guard.call("completion", suggestion.at_cursor, function(text)
    callback({ items = suggestion.items(text), isIncomplete = true })
  end)
end

return M
