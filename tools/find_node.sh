#!/bin/sh
# Succeeds if Node is on this machine, and new enough for the tests with clients.
node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null
