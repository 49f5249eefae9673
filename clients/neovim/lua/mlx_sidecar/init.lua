--- mlx-sidecar in Neovim: ghost text completion and a chat, from a language model on this machine.
local guard = require("mlx_sidecar.guard")
local shared = require("mlx_sidecar.shared")

local M = {}

local function completion()
  return require("mlx_sidecar.completion")
end

--- Takes the options (see :help mlx-sidecar-options). Raises an error that names a wrong one.
function M.setup(options)
  completion().dismiss()
  shared.setup(options)
  require("mlx_sidecar.keys").map(shared.options.keys)
end

--- Puts the ghost into the text: all of it, or its first "word" or "line". Returns whether there was one.
function M.accept(part)
  return guard.call("completion", completion().accept, part) or false
end

--- Drops the ghost and cancels its request.
function M.dismiss()
  guard.call("completion", completion().dismiss)
end

--- Asks for a completion at the cursor now.
function M.complete()
  guard.call("completion", completion().complete)
end

--- Whether there is a ghost to accept.
function M.is_visible()
  return completion().is_visible()
end

--- Switches completion at each key on or off. Returns whether it is on.
function M.toggle()
  completion().dismiss()
  shared.options.complete.enabled = not shared.options.complete.enabled
  return shared.options.complete.enabled
end

--- The status as a table: see status.lua.
function M.status()
  return require("mlx_sidecar.status").get()
end

--- The status in a few words, for 'statusline'.
function M.statusline()
  return require("mlx_sidecar.status").line()
end

return M
