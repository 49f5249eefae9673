--- The functions behind the commands of plugin/mlx_sidecar.lua.
local shared = require("mlx_sidecar.shared")

local M = {}

local function say(lines)
  vim.api.nvim_echo({ { table.concat(lines, "\n") } }, true, {})
end

--- :[range]Sidecar [question]
function M.chat(arguments)
  local conversation, lines = require("mlx_sidecar.conversation"), {}
  if arguments.range > 0 then
    local selected = vim.api.nvim_buf_get_lines(0, arguments.line1 - 1, arguments.line2, true)
    lines = conversation.quote(selected, vim.bo.filetype)
  end
  require("mlx_sidecar.chat").start(lines, arguments.args)
end

--- :SidecarStop
function M.stop()
  require("mlx_sidecar.completion").dismiss()
  require("mlx_sidecar.chat").stop()
end

--- :SidecarStatus
function M.status()
  local status = require("mlx_sidecar.status")
  if shared.sidecar().state ~= "ready" then
    return say(status.lines({}))
  end
  shared.sidecar():call("models", nil, function(error, result)
    say(status.lines(error and {} or result.models))
  end)
end

local function with_models(use)
  shared.sidecar():call("models", nil, function(error, result)
    if error then
      return shared.complain(error)
    end
    local names = { shared.options.model }
    for _, card in ipairs(result.models) do
      if not vim.tbl_contains(names, card.model) then
        table.insert(names, card.model)
      end
    end
    use(names)
  end)
end

--- :SidecarModel [name]
function M.model(arguments)
  local chat = require("mlx_sidecar.chat")
  if arguments.args ~= "" then
    return chat.choose(arguments.args)
  end
  with_models(function(names)
    vim.ui.select(names, { prompt = "Model of the chat" }, function(name)
      if name then
        chat.choose(name)
      end
    end)
  end)
end

local function progress(params)
  local total = params.total_bytes and params.total_bytes > 0
  local part = total and (" %d %%"):format(100 * params.done_bytes / params.total_bytes) or ""
  say({ ("sidecar: %s: %s%s"):format(params.model, params.stage, part) })
end

--- :SidecarLoad [name]
function M.load(arguments)
  local model = arguments.args ~= "" and arguments.args or shared.options.model
  shared.sidecar():load({ model = model }, {
    progress = progress,
    done = function(error, card)
      if error then
        shared.complain(error)
      else
        say({ ("sidecar: %s is loaded (%.1f s)"):format(card.model, card.load_s or 0) })
      end
    end,
  })
end

--- :SidecarToggle
function M.toggle()
  say({ "sidecar: completion is " .. (require("mlx_sidecar").toggle() and "on" or "off") })
end

return M
