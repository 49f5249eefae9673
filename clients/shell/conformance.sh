#!/bin/sh
# The adapter for clients/conformance: carries out operations, one a line, with the shell client.
self=$0 # or the file that it is a link to
while [ -L "$self" ]; do
    link=$(readlink "$self")
    case $link in
    /*) self=$link ;;
    *) self=$(dirname "$self")/$link ;;
    esac
done
here=$(dirname "$self")
. "$here/mlx-sidecar.sh"

# begin OPERATION: send its request.
begin() {
    eval "$(printf '%s\n' "$1" | jq -r -f "$here/operation.jq")"
    case $op in
    call) sidecar_ask "$method" "$params" ;;
    load) sidecar_ask load "$params" '. + {progress: $id}' ;;
    generate) sidecar_stream "$params" ;;
    esac
}

# finish ID: take its frames, and print the answer of the operation that was begun.
finish() {
    frames=$sidecar_dir/$1.frames
    : >"$frames"
    : >"$frames.meanwhile"
    while sidecar_take "$1"; do
        printf '{"%s":%s}\n' "$sidecar_kind" "$sidecar_body" >>"$frames"
        case $sidecar_kind in
        result | error) break ;;
        delta) after=$((after - 1)) ;;
        esac
        if [ "$sidecar_kind$after" = delta0 ]; then
            if [ "$cancel" = true ]; then
                sidecar_leave "$1"
                break
            fi
            carry_out_all "$meanwhile" >"$frames.meanwhile"
        fi
    done
    jq -cs --arg op "$op" --argjson cancel "$cancel" --slurpfile meanwhile "$frames.meanwhile" \
        -f "$here/answer.jq" "$frames"
}

# carry_out OPERATION: print its answer. In a subshell, since one operation may hold others.
carry_out() (
    begin "$1"
    case $op in
    together)
        printf '%s\n' "$operations" | {
            begun=
            while read -r one; do
                begin "$one"
                printf '%s\n' "$one" >"$sidecar_dir/$sidecar_id.operation"
                begun="$begun $sidecar_id"
            done
            for id in $begun; do
                read -r one <"$sidecar_dir/$id.operation"
                eval "$(printf '%s\n' "$one" | jq -r -f "$here/operation.jq")"
                finish "$id"
            done
        } | jq -cs '{together: .}'
        ;;
    *) finish "$sidecar_id" ;;
    esac
)

# carry_out_all OPERATIONS: one after the other; one a line, and so are the answers.
carry_out_all() {
    printf '%s\n' "$1" | while read -r one; do
        carry_out "$one"
    done
}

sidecar_open "$@" || exit
while read -r line; do
    carry_out "$line"
done
