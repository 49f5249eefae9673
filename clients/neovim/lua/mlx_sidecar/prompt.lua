--- The prompt of a completion: the text around the cursor, cut so that the sidecar's prefix cache serves.
---
--- The cache knows a prompt from its beginning on, so the beginning must stay the same during typing. It moves only when
--- the text before the cursor has grown by another half of `prefix_bytes`, and then to the start of a line.
local text = require("mlx_sidecar.text")

local M = {}

-- Bytes in front of a line.
local function offset_of(buffer, row)
  return row == 0 and 0 or vim.api.nvim_buf_get_offset(buffer, row) -- 0.7 says -1 for the first line
end

-- The first line, up to `last`, that starts at `offset` (bytes into the buffer) or after it.
local function line_at(buffer, offset, last)
  local low, high = 0, last
  while low < high do
    local middle = math.floor((low + high) / 2)
    if offset_of(buffer, middle) >= offset then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local function prefix(buffer, row, column, limit)
  local before = offset_of(buffer, row) + column
  local step = math.floor(limit / 2)
  local start = math.max(0, math.ceil((before - limit) / step)) * step
  local first = line_at(buffer, start, row)
  local lines = vim.api.nvim_buf_get_lines(buffer, first, row + 1, true)
  lines[#lines] = lines[#lines]:sub(1, column)
  local whole = table.concat(lines, "\n")
  -- Only a line that is longer than the window is cut inside, and then in the same steps.
  local excess = first == row and start - offset_of(buffer, row) or 0
  return excess > 0 and (whole:sub(excess + 1):gsub("^[\128-\191]+", "")) or whole
end

local function suffix(buffer, row, column, limit)
  if limit == 0 then
    return ""
  end
  local offset = offset_of(buffer, row) + column
  local lines_count = vim.api.nvim_buf_line_count(buffer)
  local last = line_at(buffer, offset + limit, lines_count)
  local lines = vim.api.nvim_buf_get_lines(buffer, row, math.max(last, row + 1), true)
  lines[1] = lines[1]:sub(column + 1)
  local whole = table.concat(lines, "\n")
  while limit > 0 and whole:find("^[\128-\191]", limit + 1) do
    limit = limit - 1
  end
  return whole:sub(1, limit)
end

--- The text before and after the cursor (`row` and `column` in bytes, both from 0), as valid UTF-8.
function M.around(buffer, row, column, options)
  local before = prefix(buffer, row, column, options.prefix_bytes)
  local after = suffix(buffer, row, column, options.suffix_bytes)
  return text.valid(before), text.valid(after)
end

return M
