--- Where the sidecar is: the option `command`, then the environment variable MLX_SIDECAR, then the search path.
local errors = require("mlx_sidecar.errors")

local M = {}

local function look_up(name, tried)
  local path = vim.fn.exepath(vim.fn.expand(name))
  if path ~= "" then
    return path
  end
  -- Short enough for one line of an 80 column screen; `tried` is in :SidecarStatus and :checkhealth.
  return nil,
    errors.new("executable_not_found", "not found; docs/install.md says how to install", { tried = tried })
end

--- The words in front of `serve`, or nil and an error that says where it was looked for.
--- A list is a whole command; its first word is looked up.
function M.find(command)
  if type(command) == "table" then
    local path, error = look_up(command[1], ("the option `command` names %q"):format(command[1]))
    return path and vim.list_extend({ path }, command, 2), error
  end
  local named, tried = command, "the option `command` names %q"
  if not named then
    named, tried = vim.env.MLX_SIDECAR, "MLX_SIDECAR names %q"
  end
  if not named or named == "" then
    named, tried = "mlx-sidecar", "MLX_SIDECAR is not set, and %q is not on the search path"
  end
  local path, error = look_up(named, tried:format(named))
  return path and { path }, error
end

return M
