--- The keys that the user wants for the <Plug> mappings of plugin/mlx_sidecar.lua.
local completion = require("mlx_sidecar.completion")

local M = {}

local ACTIONS = { "accept", "accept_word", "accept_line", "dismiss", "complete" }

local function plug(action)
  return ("<Plug>(mlx-sidecar-%s)"):format(action:gsub("_", "-"))
end

local function same_key(one, other)
  local function codes(key)
    return vim.api.nvim_replace_termcodes(key, true, true, true)
  end
  return codes(one) == codes(other)
end

-- The key's earlier mapping, under a name of its own; the key itself if it had none.
local function fallback(key)
  -- Not maparg(): in 0.7 that gives a number for a Lua function.
  for _, old in ipairs(vim.api.nvim_get_keymap("i")) do
    if same_key(old.lhs, key) then
      local name = plug("before-" .. key:gsub("[<>]", ""))
      local right = (old.rhs or ""):gsub("<SID>", ("<SNR>%d_"):format(old.sid))
      vim.api.nvim_set_keymap("i", name, right, {
        callback = old.callback,
        expr = old.expr == 1,
        noremap = old.noremap == 1,
        silent = old.silent == 1,
        replace_keycodes = old.replace_keycodes == 1 or nil, -- not known before 0.8
      })
      return name
    end
  end
  return key
end

local before = {} -- earlier mappings of all keys that were ever mapped here
local mapped = {} -- keys that are mapped now

local function unmap()
  for key in pairs(mapped) do
    vim.keymap.set("i", key, before[key], { remap = before[key] ~= key })
  end
  mapped = {}
end

--- Maps the configured keys. With no ghost on the screen such a key has its earlier effect, but for `complete`, which
--- asks for one.
function M.map(keys)
  unmap()
  for _, action in ipairs(ACTIONS) do
    local key = keys[action]
    if key then
      before[key] = before[key] or fallback(key)
      mapped[key] = true
      vim.keymap.set("i", key, function()
        return (action == "complete" or completion.is_visible()) and plug(action) or before[key]
      end, { expr = true, remap = true, desc = "mlx-sidecar: " .. action })
    end
  end
end

return M
