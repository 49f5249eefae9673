--- Errors of the plugin itself: a user gets one line that says what to do, and :SidecarStatus the place in the code.
local M = {
  trace = nil, -- of the last one
}

local told = {}

local function first_line(words)
  return (tostring(words):gsub("\n.*", ""):gsub("^[^:]+:%d+: ", ""))
end

--- Tells the user that `what` has failed, once for each place. `trace` is what xpcall gave with debug.traceback.
function M.report(what, trace)
  M.trace = what .. ": " .. trace
  if told[trace] then
    return
  end
  told[trace] = true
  vim.schedule(function()
    local advice = ":SidecarStatus says where; please report it"
    vim.notify(("sidecar: %s failed: %s (%s)"):format(what, first_line(trace), advice), vim.log.levels.ERROR)
  end)
end

--- What `action` gives with these arguments, or nothing where it fails, which is reported.
function M.call(what, action, ...)
  local given = { xpcall(action, debug.traceback, ...) }
  if given[1] then
    return unpack(given, 2)
  end
  M.report(what, given[2])
end

--- A function that does as `action` does, and reports where that fails.
function M.wrap(what, action)
  return function(...)
    return M.call(what, action, ...)
  end
end

return M
