# An operation as assignments for the shell.
"op=\(.op | @sh) method=\(.method | @sh) params=\(.params | tojson | @sh)",
"after=\(.cancel_after // .stall_after // 0) cancel=\(has("cancel_after"))",
"meanwhile=\(.meanwhile // [] | map(tojson) | join("\n") | @sh)",
"operations=\(.operations // [] | map(tojson) | join("\n") | @sh)"
