--- Text in pieces that a person sees: characters with combining ones, words, lines, columns.
local M = {}

local JOINER = "\226\128\141" -- U+200D joins two characters to one picture
local SELECTOR = "\239\184\143" -- U+FE0F asks for the coloured form
local SKIN = "^\240\159\143[\187-\191]$" -- U+1F3FB to U+1F3FF colour the character before them
local FLAG_LETTER = "^\240\159\135[\166-\191]$" -- U+1F1E6 to U+1F1FF: two of them make a flag

-- Vim keeps combining marks with their base; newer versions also join all of these, and there this changes nothing.
local function belongs(before, character)
  if character == JOINER or character == SELECTOR or character:find(SKIN) or before:sub(-3) == JOINER then
    return true
  end
  return character:find(FLAG_LETTER) and before:find(FLAG_LETTER)
end

--- The characters of a text as people count them.
function M.characters(text)
  local characters = {}
  for _, character in ipairs(vim.fn.split(text, [[\zs]])) do
    local before = characters[#characters]
    if before and belongs(before, character) then
      characters[#characters] = before .. character
    else
      table.insert(characters, character)
    end
  end
  return characters
end

local function kind(character)
  if character:find("^%s") then
    return "space"
  end
  return vim.fn.match(character, [[^\k]]) == 0 and "keyword" or "other"
end

--- The first word: white space in front, then characters of one kind (see 'iskeyword').
function M.first_word(text)
  local taken, running = {}, nil
  for _, character in ipairs(M.characters(text)) do
    local this = kind(character)
    if running and this ~= running then
      break
    end
    running = this ~= "space" and this or running
    table.insert(taken, character)
  end
  return table.concat(taken)
end

--- The first line; with the line break in front of it, if there is one.
function M.first_line(text)
  return text:match("^\n?[^\n]*")
end

--- The text without line breaks, tabs and control characters, as it looks from `column` on (cells, from 0).
function M.display(text, column, tabstop)
  local out, at = {}, column
  for piece, tab in text:gmatch("([^\t]*)(\t?)") do
    piece = vim.fn.strtrans(piece)
    at = at + vim.fn.strdisplaywidth(piece, at)
    local spaces = tab == "" and "" or (" "):rep(tabstop - at % tabstop)
    at = at + #spaces
    table.insert(out, piece .. spaces)
  end
  return table.concat(out)
end

--- The text in pieces of at most `width` cells.
function M.wrap(text, width)
  local lines, line = {}, ""
  for _, character in ipairs(M.characters(text)) do
    if line ~= "" and vim.fn.strdisplaywidth(line .. character) > width then
      table.insert(lines, line)
      line = ""
    end
    line = line .. character
  end
  table.insert(lines, line)
  return lines
end

-- Lead bytes, and the least and the most that the byte after them may be.
local LEADS = {
  { 0xC2, 0xDF, 1, 0x80, 0xBF },
  { 0xE0, 0xE0, 2, 0xA0, 0xBF },
  { 0xE1, 0xEC, 2, 0x80, 0xBF },
  { 0xED, 0xED, 2, 0x80, 0x9F },
  { 0xEE, 0xEF, 2, 0x80, 0xBF },
  { 0xF0, 0xF0, 3, 0x90, 0xBF },
  { 0xF1, 0xF3, 3, 0x80, 0xBF },
  { 0xF4, 0xF4, 3, 0x80, 0x8F },
}

-- How many bytes the character at `at` has, nil if it is none.
local function length(text, at)
  local lead, second = text:byte(at, at + 1)
  if lead < 0x80 then
    return 1
  end
  for _, row in ipairs(LEADS) do
    if lead >= row[1] and lead <= row[2] then
      local more = text:match("^[\128-\191]+", at + 1) or ""
      return #more >= row[3] and second >= row[4] and second <= row[5] and row[3] + 1 or nil
    end
  end
end

--- The text as valid UTF-8: each byte that belongs to no character becomes U+FFFD. JSON can carry nothing else.
function M.valid(text)
  if not text:find("[\128-\255]") then
    return text
  end
  local out, at = {}, 1
  while at <= #text do
    local plain = text:match("^[%z\1-\127]+", at)
    local bytes = plain and #plain or length(text, at)
    table.insert(out, bytes and text:sub(at, at + bytes - 1) or "\239\191\189")
    at = at + (bytes or 1)
  end
  return table.concat(out)
end

return M
