# A client of mlx-sidecar for POSIX shells. Needs jq. Source it:
#
#   . path/to/mlx-sidecar.sh
#   sidecar_open || exit
#   sidecar_generate '{"model": "pocket", "prompt": "Hello"}' | jq -rj --unbuffered '.text // empty'
#   sidecar_call models '{}' | jq .
#
# The state of the functions is in files, so they work in pipelines and in $(…), too. This file is all there is of the
# client, because a file that is sourced cannot tell where it lies.

sidecar_window=64
sidecar_tab=$(printf '\t')

# For jq:
sidecar_frames='
# A frame of the sidecar as a line for the shell: its kind, the number of the request it belongs to, the rest as JSON.
# Streams and progress tokens are named like their requests. A frame that belongs to no request is a notice.
def line($kind; $key; $body): "\($kind)\t\($key)\t\($body | tojson)";

if .method == "stream/delta" and (.params.stream | type) == "number" then line("delta"; .params.stream; .params)
elif .method == "progress" and (.params.token | type) == "number" then line("progress"; .params.token; .params)
elif has("method") or (.id | type) != "number" then line("notice"; .method; .)
elif .error then line("error"; .id; .error)
else line("result"; .id; .result)
end
'

# sidecar_open [WORD…]: start a sidecar. WORD… is its command, if it is neither in MLX_SIDECAR nor called mlx-sidecar.
# It is closed when the shell exits: the traps of EXIT, HUP, INT, TERM and PIPE are taken for that.
sidecar_open() {
    [ $# -gt 0 ] || set -- "${MLX_SIDECAR:-mlx-sidecar}"
    for sidecar_needed in "$1" jq; do
        command -v "$sidecar_needed" >/dev/null && continue
        echo "$sidecar_needed is not there. For mlx-sidecar see docs/install.md in its repository; MLX_SIDECAR says where it is" >&2
        return 127
    done
    sidecar_dir=$(mktemp -d) && mkfifo "$sidecar_dir/in" "$sidecar_dir/out" || return
    trap sidecar_close EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap '' PIPE # to write to a sidecar that is gone is an error, and not our end
    "$@" serve --framing lines <"$sidecar_dir/in" |
        jq -r --unbuffered "$sidecar_frames" >"$sidecar_dir/out" &
    sidecar_job=$!
    exec 8>"$sidecar_dir/in" 9<"$sidecar_dir/out"
    rm "$sidecar_dir/in" "$sidecar_dir/out"
    echo 0 >"$sidecar_dir/last"
    sidecar_call initialize '{"protocol_version":1,"client":{"name":"mlx-sidecar.sh"},"process_id":'$$'}' \
        >"$sidecar_dir/hello" || return
    sidecar_tell initialized '{}'
}

# sidecar_call METHOD PARAMS: print the result. Prints the error and returns 1 if there is one, 2 if the sidecar is gone.
sidecar_call() {
    sidecar_ask "$1" "$2" && sidecar_answer "$sidecar_id"
}

# sidecar_generate PARAMS: print each delta in a line, then {"result": …} or {"error": …}. Cancels when its reader leaves.
# Returns like sidecar_call, and 1 as well when it was cancelled or a generation broke off.
sidecar_generate() {
    sidecar_stream "$1" || return
    while sidecar_take "$sidecar_id" && [ "$sidecar_kind" = delta ]; do
        if ! printf '%s\n' "$sidecar_body" 2>/dev/null; then
            sidecar_leave "$sidecar_id"
            return 1
        fi
    done
    [ -n "$sidecar_kind" ] || return 2
    printf '{"%s":%s}\n' "$sidecar_kind" "$sidecar_body"
    [ "$sidecar_kind" = result ]
}

# sidecar_close: end the sidecar and its requests.
sidecar_close() {
    [ -n "${sidecar_dir-}" ] || return 0
    sidecar_call shutdown '{"cancel":true}' >/dev/null && sidecar_tell exit '{}'
    exec 8>&- # its input ends: it goes even if it did not hear us
    cat <&9 >/dev/null # its last words, for which jq would find no reader
    exec 9<&-
    wait "$sidecar_job" || :
    rm -rf "$sidecar_dir"
    sidecar_dir=
}

# The parts, for more than one request at a time.

# sidecar_ask METHOD PARAMS [FILTER]: send a request; its id is in sidecar_id. A jq filter can put $id into the parameters.
sidecar_ask() {
    read -r sidecar_id <"$sidecar_dir/last"
    sidecar_id=$((sidecar_id + 1))
    echo "$sidecar_id" >"$sidecar_dir/last"
    [ $# -lt 3 ] || set -- "$1" "$(printf '%s\n' "$2" | jq -c --argjson id "$sidecar_id" "$3")"
    sidecar_send "{\"jsonrpc\":\"2.0\",\"id\":$sidecar_id,\"method\":\"$1\",\"params\":$2}"
}

# sidecar_stream PARAMS: begin a generation; its id is in sidecar_id.
sidecar_stream() {
    sidecar_ask generate "$1" ". + {stream: \$id, window: $sidecar_window}"
}

# sidecar_take ID: the next frame of a request: sidecar_kind is delta, progress, result or error, sidecar_body its JSON.
# Frames of other requests are kept for them. Returns 2, with no kind, when the sidecar is gone.
sidecar_take() {
    if [ -s "$sidecar_dir/$1" ]; then
        {
            IFS=$sidecar_tab read -r sidecar_kind sidecar_body
            cat >"$sidecar_dir/rest"
        } <"$sidecar_dir/$1"
        mv "$sidecar_dir/rest" "$sidecar_dir/$1"
        sidecar_taken "$1"
        return
    fi
    while IFS=$sidecar_tab read -r sidecar_kind sidecar_key sidecar_body <&9; do
        if [ "$sidecar_key" = "$1" ]; then
            sidecar_taken "$1"
            return
        elif [ "$sidecar_kind" != notice ] && ! [ -e "$sidecar_dir/$sidecar_key.left" ]; then
            printf '%s\t%s\n' "$sidecar_kind" "$sidecar_body" >>"$sidecar_dir/$sidecar_key"
        fi
    done
    sidecar_kind=
    return 2
}

# sidecar_answer ID: wait for it and print it, like sidecar_call.
sidecar_answer() {
    while sidecar_take "$1" || return 2; do
        case $sidecar_kind in
        result | error) break ;;
        esac
    done
    printf '%s\n' "$sidecar_body"
    [ "$sidecar_kind" = result ]
}

# sidecar_leave ID: cancel a generation and drop its later frames.
sidecar_leave() {
    : >"$sidecar_dir/$1.left"
    sidecar_tell stream/cancel "{\"stream\":$1}"
}

# sidecar_tell METHOD PARAMS: a notification.
sidecar_tell() {
    sidecar_send "{\"jsonrpc\":\"2.0\",\"method\":\"$1\",\"params\":$2}"
}

sidecar_send() {
    printf '%s\n' "$1" 2>/dev/null >&8 || return 2
}

# Every half window of deltas that were taken is acknowledged, so that a stream goes on that is being read, and no other.
sidecar_taken() {
    [ "$sidecar_kind" = delta ] || return 0
    sidecar_seq=-1
    [ ! -e "$sidecar_dir/$1.seq" ] || read -r sidecar_seq <"$sidecar_dir/$1.seq"
    sidecar_seq=$((sidecar_seq + 1))
    echo "$sidecar_seq" >"$sidecar_dir/$1.seq"
    if [ $(((sidecar_seq + 1) % (sidecar_window / 2))) -eq 0 ]; then
        sidecar_tell stream/ack "{\"stream\":$1,\"seq\":$sidecar_seq}" || return 0 # gone: the next frame will not come
    fi
}
