"""A chat in the terminal: ``python chat.py [MODEL]``. Ctrl-C ends an answer, Ctrl-D the chat."""

import sys

from mlx_sidecar_client import RpcError, SyncSidecar

model = sys.argv[1] if len(sys.argv) > 1 else "pocket"
messages: list[dict[str, str]] = []

with SyncSidecar.spawn() as sidecar:
    while True:
        try:
            messages.append({"role": "user", "content": input("> ")})
        except EOFError:
            break
        said = ""
        with sidecar.generate(model, messages=messages) as stream:
            try:
                for delta in stream:
                    said += delta.text
                    sys.stdout.write(delta.text)
                    sys.stdout.flush()
            except KeyboardInterrupt:
                sys.stdout.write(" …")
            except RpcError as error:
                sys.stdout.write(f"[{error.kind}] {error}")
        messages.append({"role": "assistant", "content": said})
        sys.stdout.write("\n")
