"""Stands in for ``mlx-sidecar``: passes a host's bytes to a pair that listens, in a tenth of a sidecar's time to start.

``python -IS relay.py SOCKET serve OPTION…``
"""

import os
import select
import socket
import sys


def main() -> None:
    for fd in (0, 1):
        os.set_blocking(fd, True)  # Node hands its children descriptors that do not block
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(sys.argv[1])
        link.sendall("\0".join([str(os.getpid()), *sys.argv[2:]]).encode() + b"\n")
        ways = {0: (0, link.fileno()), link.fileno(): (link.fileno(), 1)}
        while link.fileno() in ways:
            for ready in select.select(list(ways), [], [])[0]:
                source, target = ways[ready]
                data = os.read(source, 1 << 16)
                if not data:
                    del ways[ready]
                    if source == 0:
                        link.shutdown(socket.SHUT_WR)
                while data:
                    data = data[os.write(target, data) :]


if __name__ == "__main__":
    main()
