--- The options of `setup`. An unknown option or a wrong value is refused by name.
local M = {}

local function is(...)
  local kinds = { ... }
  return function(value)
    return vim.tbl_contains(kinds, type(value)), table.concat(kinds, " or ")
  end
end

local function list_of_strings(value)
  local fine = type(value) == "table" and (vim.islist or vim.tbl_islist)(value)
  for _, word in ipairs(fine and value or {}) do
    fine = fine and type(word) == "string"
  end
  return fine, "a list of strings"
end

local function words(value)
  if type(value) == "string" then
    return value ~= "", "a name, a path, or a list of words"
  end
  return list_of_strings(value) and #value > 0, "a name, a path, or a list of words"
end

local function whole(least)
  return function(value)
    return type(value) == "number" and value >= least and value == math.floor(value), "a whole number from " .. least
  end
end

local function number(least)
  return function(value)
    return type(value) == "number" and value >= least, "a number from " .. least
  end
end

local function key(value)
  return value == false or (type(value) == "string" and value ~= ""), "a key, or false"
end

--- An option is { its default, its permitted values }. A table with names is a group of options.
M.OPTIONS = {
  command = { nil, words },
  serve = { {}, list_of_strings },
  model = { "pocket", is("string") },
  window = { 64, whole(1) },
  escape_special = { true, is("boolean") },
  complete = {
    enabled = { true, is("boolean") },
    model = { nil, is("string") },
    debounce_ms = { 150, whole(0) },
    max_tokens = { 64, whole(1) },
    temperature = { 0, number(0) },
    stop = { { "\n\n" }, list_of_strings },
    prefix_bytes = { 8192, whole(256) },
    suffix_bytes = { 1024, whole(0) },
    disabled_filetypes = { {}, list_of_strings },
  },
  keys = {
    accept = { false, key },
    accept_word = { false, key },
    accept_line = { false, key },
    dismiss = { false, key },
    complete = { false, key },
  },
  chat = {
    model = { nil, is("string") },
    system = { nil, is("string") },
    max_tokens = { 1024, whole(1) },
    temperature = { 0, number(0) },
    open = { "botright vsplit", is("string") },
  },
}

local function is_option(entry)
  return type(entry[2]) == "function"
end

local function refuse(path, why, ...)
  error(("mlx_sidecar.setup: option %s %s"):format(path, why:format(...)), 0)
end

local function check(options, given, path)
  if type(given) ~= "table" then
    refuse(path, "must be a table, not %s", vim.inspect(given))
  end
  for name, value in pairs(given) do
    local entry, here = options[name], path .. tostring(name)
    if not entry then
      local known = vim.tbl_keys(options)
      table.sort(known)
      refuse("'" .. here .. "'", "is not known; there are: %s", table.concat(known, ", "))
    elseif is_option(entry) then
      local fine, wanted = entry[2](value)
      if not fine then
        refuse("'" .. here .. "'", "must be %s, not %s", wanted, vim.inspect(value))
      end
    else
      check(entry, value, here .. ".")
    end
  end
end

local function fill(options, given)
  local filled = {}
  for name, entry in pairs(options) do
    if not is_option(entry) then
      filled[name] = fill(entry, given[name] or {})
    elseif given[name] ~= nil then
      filled[name] = vim.deepcopy(given[name])
    else
      filled[name] = vim.deepcopy(entry[1])
    end
  end
  return filled
end

--- All options, with defaults for those not given. Raises an error that names a wrong one.
function M.read(given)
  given = given or {}
  check(M.OPTIONS, given, "")
  return fill(M.OPTIONS, given)
end

return M
