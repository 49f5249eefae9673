--- Fill in the middle: the tokens that tell a model the text before and after the gap, if it has them.
local M = {}

-- Families of models, by their spelling. `join` makes the prompt.
local FAMILIES = {}

local function family(marks, join)
  table.insert(FAMILIES, { marks = marks, join = join })
end

local function prefix_suffix_middle(marks, before, after)
  return marks[1] .. before .. marks[2] .. after .. marks[3]
end

family({ "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>" }, prefix_suffix_middle) -- Qwen, CodeGemma, pocket
family({ "<fim_prefix>", "<fim_suffix>", "<fim_middle>" }, prefix_suffix_middle) -- StarCoder, Granite
family({ "<fim-prefix>", "<fim-suffix>", "<fim-middle>" }, prefix_suffix_middle) -- SantaCoder
family({ "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>" }, prefix_suffix_middle) -- DeepSeek
family({ "▁<PRE>", "▁<SUF>", "▁<MID>" }, prefix_suffix_middle) -- CodeLlama
family({ "<PRE>", "<SUF>", "<MID>" }, prefix_suffix_middle)
family({ "[SUFFIX]", "[PREFIX]" }, function(marks, before, after) -- Codestral
  return marks[1] .. after .. marks[2] .. before
end)

--- Finds the family of a model: `found(family)`, with nil where it has none, or `found(nil, error)`.
--- A model has a family's marks if its tokenizer has exactly one token for each. All are asked at once, in one round trip.
function M.find(sidecar, model, found)
  local open, whole, failed = 0, {}, nil
  local function answered(place, error, result)
    open, failed = open - 1, failed or error
    whole[place] = whole[place] and not error and result.count == 1
    if open == 0 then
      local first
      for at = #FAMILIES, 1, -1 do
        first = whole[at] and FAMILIES[at] or first
      end
      found(not failed and first or nil, failed)
    end
  end
  for _, candidate in ipairs(FAMILIES) do
    open = open + #candidate.marks
  end
  for place, candidate in ipairs(FAMILIES) do
    whole[place] = true
    for _, mark in ipairs(candidate.marks) do
      sidecar:call("tokenize", { model = model, text = mark, add_special = false }, function(error, result)
        answered(place, error, result)
      end)
    end
  end
end

--- The prompt for a model of this family; without one, the text before the cursor is the prompt.
function M.prompt(kin, before, after)
  return kin and kin.join(kin.marks, before, after) or before
end

return M
