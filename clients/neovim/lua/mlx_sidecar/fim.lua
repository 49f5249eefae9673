--- Fill in the middle: the control tokens that tell a model the text before and after the gap, if it has them.
local M = {}

-- Families of models. `join` puts the marks and the texts around the gap in order, all of them as lists of tokens.
local FAMILIES = {}

local function family(marks, join)
  table.insert(FAMILIES, { marks = marks, join = join })
end

local function prefix_suffix_middle(marks, before, after)
  return { marks[1], before, marks[2], after, marks[3] }
end

family({ "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>" }, prefix_suffix_middle) -- Qwen, CodeGemma, pocket
family({ "<fim_prefix>", "<fim_suffix>", "<fim_middle>" }, prefix_suffix_middle) -- StarCoder, Granite
family({ "<fim-prefix>", "<fim-suffix>", "<fim-middle>" }, prefix_suffix_middle) -- SantaCoder
family({ "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>" }, prefix_suffix_middle) -- DeepSeek
family({ "▁<PRE>", "▁<SUF>", "▁<MID>" }, prefix_suffix_middle) -- CodeLlama
family({ "<PRE>", "<SUF>", "<MID>" }, prefix_suffix_middle)
family({ "[SUFFIX]", "[PREFIX]" }, function(marks, before, after) -- Codestral
  return { marks[1], after, marks[2], before }
end)

-- The tokens of each text, in one round trip: `done(lists)`, or `done(nil, error)`.
local function tokenize(sidecar, texts, params, done)
  local open, lists, failed = #texts, {}, nil
  for place, text in ipairs(texts) do
    sidecar:call("tokenize", vim.tbl_extend("force", params, { text = text }), function(error, result)
      open, failed, lists[place] = open - 1, failed or error, result and result.tokens
      if open == 0 then
        done(not failed and lists or nil, failed)
      end
    end)
  end
end

-- The first family whose marks are one token each, with these tokens. `lists` has those of all marks, in order.
local function first_whole(lists)
  local place = 0
  for _, candidate in ipairs(FAMILIES) do
    local tokens = vim.list_slice(lists, place + 1, place + #candidate.marks)
    place = place + #candidate.marks
    local whole = vim.tbl_filter(function(list)
      return #list == 1
    end, tokens)
    if #whole == #tokens then
      return vim.tbl_extend("force", candidate, { tokens = tokens })
    end
  end
end

-- Up to the first token of a mark, without it.
local function before_mark(tokens, mark)
  for place, token in ipairs(tokens) do
    if token == mark[1] then
      return vim.list_slice(tokens, 1, place - 1)
    end
  end
  return {}
end

--- Finds the family of a model: `found(family)`, with nil where it has none, or `found(nil, error)`.
--- A model has a family's marks if its tokenizer has exactly one token for each. `marks` of the family are their texts,
--- `tokens` their tokens, and `lead` the tokens that the tokenizer puts in front of a prompt.
function M.find(sidecar, model, found)
  local marks = {}
  for _, candidate in ipairs(FAMILIES) do
    vim.list_extend(marks, candidate.marks)
  end
  tokenize(sidecar, marks, { model = model, add_special = false }, function(lists, error)
    local kin = lists and first_whole(lists)
    if not kin then
      return found(nil, error)
    end
    tokenize(sidecar, { kin.marks[1] }, { model = model }, function(led, failed)
      if led then
        kin.lead = before_mark(led[1], kin.tokens[1])
      end
      found(led and kin or nil, failed)
    end)
  end)
end

--- The prompt for a model of this family, as tokens: `ready(tokens)`, or `ready(nil, error)`. `params` are those of
--- `tokenize` for the two texts. The marks stand beside the tokens of the texts, so with `escape_special` a document
--- that has such a mark in it is text and nothing else.
function M.prompt(sidecar, kin, before, after, params, ready)
  params = vim.tbl_extend("force", params, { add_special = false })
  tokenize(sidecar, { before, after }, params, function(lists, error)
    if not lists then
      return ready(nil, error)
    end
    local tokens = vim.list_extend({}, kin.lead)
    for _, list in ipairs(kin.join(kin.tokens, lists[1], lists[2])) do
      vim.list_extend(tokens, list)
    end
    ready(tokens)
  end)
end

return M
