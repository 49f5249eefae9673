# A frame of the sidecar as a line for the shell: its kind, the number of the request it belongs to, the rest as JSON.
# Streams and progress tokens are named like their requests. A frame that belongs to no request is a notice.
def line($kind; $key; $body): "\($kind)\t\($key)\t\($body | tojson)";

if .method == "stream/delta" and (.params.stream | type) == "number" then line("delta"; .params.stream; .params)
elif .method == "progress" and (.params.token | type) == "number" then line("progress"; .params.token; .params)
elif has("method") or (.id | type) != "number" then line("notice"; .method; .)
elif .error then line("error"; .id; .error)
else line("result"; .id; .result)
end
