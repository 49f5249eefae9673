--- Framing: one JSON text per line, in bytes that may be cut anywhere.
local M = {}

--- A decoder: a function that takes the next bytes and returns the lines that they complete.
function M.decoder()
  -- The unfinished line stays in pieces until its end comes: joining at every read would copy a long line each time.
  local pieces = {}
  return function(bytes)
    local lines, from = {}, 1
    while true do
      local stop = bytes:find("\n", from, true)
      if not stop then
        break
      end
      table.insert(pieces, bytes:sub(from, stop - 1))
      local line = table.concat(pieces)
      pieces, from = {}, stop + 1
      if line:find("%S") then
        table.insert(lines, line)
      end
    end
    if from <= #bytes then
      table.insert(pieces, bytes:sub(from))
    end
    return lines
  end
end

return M
