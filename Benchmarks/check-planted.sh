#!/bin/sh
# Makes the library worse on purpose, once for each regression that a threshold guards against, and fails if a
# threshold does not notice. Builds nothing; run check.sh before.
set -eu
cd "$(dirname "$0")"
program="$(swift build -c release --show-bin-path)/fault-benchmarks"
output=$(mktemp)
trap 'rm -f "$output"' EXIT
missed=0

# Arguments: the planted regression, the command, and the failure that the command has to report.
expect() {
  plant=$1 command=$2 found=$3
  for attempt in 1 2 3; do
    status=0
    # shellcheck disable=SC2086
    "$program" $command --thresholds thresholds.json --plant-regression "$plant" > "$output" 2>&1 || status=$?
    if [ "$status" = 1 ] && grep -q "^FAILED: $found" "$output"; then
      echo "caught  $plant: $found"
      return
    fi
    # A measurement that differs from itself shows nothing, so it is made again.
    grep -q "the machine is NOT quiet" "$output" || break
  done
  echo "MISSED  $plant: $found (exit code $status, $attempt attempts)"
  cat "$output"
  missed=1
}

expect memory memory "memory"
expect append "append --quick" "append: computed"
expect allocations "allocations --faults 2000" "allocations"
for row in sigbus sigbus-sigsegv-sequential sigbus-sigsegv-random event-loop-pinned random-automatic threads-4 threads-8
do
  expect latency "speed --quick --retries 0 --rounds 3 --row $row" "speed: $row:"
done
for row in sigsegv-sequential sigsegv-random event-loop-unpinned file populate threads-4-event-loop \
  threads-8-event-loop; do
  expect delay "speed --quick --retries 0 --rounds 3 --row $row" "speed: $row:"
done
for row in sequential-sigbus sequential-event-loop threads-4-wide threads-8-wide; do
  expect widening "speed --quick --retries 0 --rounds 3 --row $row" "speed: $row:"
done
for row in event-loop-unpinned event-loop-busy; do
  expect placement "speed --quick --retries 0 --rounds 3 --row $row" "speed: $row:"
done
idle_driver=$(cat /sys/devices/system/cpu/cpuidle/current_driver 2> /dev/null || echo none)
if [ -w /dev/cpu_dma_latency ] && [ "$idle_driver" != none ]; then
  expect placement "speed --quick --retries 0 --rounds 3 --row cpus-awake" "speed: cpus-awake:"
fi
for row in sleeper sleeper-unpinned; do
  expect blocking "speed --quick --retries 0 --rounds 3 --row $row" "speed: $row:"
done
exit "$missed"
