#!/bin/sh
# Builds the benchmarks and holds the library to thresholds.json. Fails if one of the thresholds does not hold.
# Arguments go to `fault-benchmarks all`: --quick for continuous integration, --json, --row NAME.
set -eu
cd "$(dirname "$0")"
swift build -c release --product fault-benchmarks >&2
exec "$(swift build -c release --show-bin-path)/fault-benchmarks" all --thresholds thresholds.json "$@"
