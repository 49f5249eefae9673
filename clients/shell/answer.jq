# The frames of one operation, in an array, as its answer.
def failure: {code, kind: .data.kind, retryable: .data.retryable, data};

(map(.delta // empty)) as $deltas
| (if $op == "generate"
   then {text: ($deltas | map(.text) | add // ""), tokens: ($deltas | map(.tokens) | add // []), deltas: ($deltas | length),
     reasoning: ($deltas | map(.reasoning // "") | add // ""),
     tool_calls: ($deltas | map(.tool_calls // [] | .[]) | group_by(.index)
       | map({id: .[0].id, name: .[0].name, arguments: (map(.arguments // "") | add)}))}
   else {} end)
+ (if $op == "load" then {progress: map(.progress // empty)} else {} end)
+ (if ($meanwhile | length) > 0 then {meanwhile: $meanwhile} else {} end)
+ (last // {}
   | if .error then {error: (.error | failure)}
     elif .result.error then {error: (.result.error | failure)}
     elif .result then {result}
     elif $cancel then {result: null}
     else {error: {kind: "sidecar_lost"}} end)
