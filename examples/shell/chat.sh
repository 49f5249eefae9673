#!/bin/sh
# A chat in the terminal: one sidecar, the conversation so far with each question, the answer as it comes.
# Usage: chat.sh [MODEL]        ends with the end of input
self=$0 # or the file that it is a link to
while [ -L "$self" ]; do
    link=$(readlink "$self")
    case $link in
    /*) self=$link ;;
    *) self=$(dirname "$self")/$link ;;
    esac
done
. "$(dirname "$self")/../../clients/shell/mlx-sidecar.sh"
sidecar_open || exit

model=${1:-pocket}
messages='[]'
while printf '> ' >&2 && IFS= read -r question; do
    messages=$(printf '%s\n' "$messages" | jq -c --arg content "$question" '. + [{role: "user", $content}]')
    params=$(printf '%s\n' "$messages" | jq -c --arg model "$model" '{$model, messages: .}')
    sidecar_generate "$params" | tee "$sidecar_dir/answer" | jq -rj --unbuffered '.text // .error.message // "\n"'
    # The last line has the whole of it, for the next question.
    messages=$(tail -n 1 "$sidecar_dir/answer" | jq -c --argjson messages "$messages" \
        '$messages + [.result | values | {role: "assistant", content: .text}]')
done
