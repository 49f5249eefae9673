-- Commands, <Plug> mappings and events. Nothing is started, and little is read, before it is used.
if vim.g.loaded_mlx_sidecar or vim.fn.has("nvim-0.7") == 0 then
  return
end
vim.g.loaded_mlx_sidecar = true

local function guarded(what, action)
  return function(...)
    return require("mlx_sidecar.guard").call(what, action, ...)
  end
end

local function command(name, action, options)
  local function run(arguments)
    require("mlx_sidecar.commands")[action](arguments)
  end
  vim.api.nvim_create_user_command(name, guarded(":" .. name, run), options)
end

command("Sidecar", "chat", { nargs = "*", range = true, desc = "chat with the model; a range is quoted" })
command("SidecarStop", "stop", { desc = "stop what is being generated" })
command("SidecarStatus", "status", { desc = "model, sidecar, engine, last answer, last error" })
command("SidecarModel", "model", { nargs = "?", desc = "choose the model of the chat" })
command("SidecarLoad", "load", { nargs = "?", desc = "load a model; downloads it if it is not here" })
command("SidecarToggle", "toggle", { desc = "completion while typing: on or off" })

local function highlights()
  vim.api.nvim_set_hl(0, "MlxSidecarGhost", { default = true, link = "Comment" })
  vim.api.nvim_set_hl(0, "MlxSidecarNote", { default = true, link = "WarningMsg" })
  vim.api.nvim_set_hl(0, "MlxSidecarHint", { default = true, link = "Comment" })
  vim.api.nvim_set_hl(0, "MlxSidecarRole", { default = true, link = "Title" })
end

highlights()

local group = vim.api.nvim_create_augroup("mlx_sidecar", {})
local function on(events, action)
  vim.api.nvim_create_autocmd(events, { group = group, callback = action })
end

-- There is nothing to move or to dismiss before the first change.
local function completion(action)
  return guarded("completion", function()
    if action == "changed" or package.loaded["mlx_sidecar.completion"] then
      require("mlx_sidecar.completion")[action]()
    end
  end)
end

on("ColorScheme", highlights)
on({ "TextChangedI", "TextChangedP" }, completion("changed"))
on("CursorMovedI", completion("moved"))
on({ "InsertLeave", "BufLeave", "WinLeave" }, completion("dismiss"))
on("VimLeavePre", function()
  if package.loaded["mlx_sidecar.shared"] then
    require("mlx_sidecar.shared").close()
  end
end)

-- <C-G>u makes the accepted text an undo step of its own.
local function plug(name, call, before)
  local right = ("%s<Cmd>lua require('mlx_sidecar').%s<CR>"):format(before or "", call)
  vim.keymap.set("i", ("<Plug>(mlx-sidecar-%s)"):format(name), right)
end

plug("accept", "accept()", "<C-G>u")
plug("accept-word", "accept('word')", "<C-G>u")
plug("accept-line", "accept('line')", "<C-G>u")
plug("dismiss", "dismiss()")
plug("complete", "complete()")
