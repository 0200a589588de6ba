"""What the gateway costs, next to nginx that only passes bytes through, on this machine.

`python -m benchmarks` (or `make bench`) starts a fake DeepSeek (`upstream`), a target (`targets`) and a load
generator (`load`), each a process of its own, measures the target (`meter`) and prints a table (`report`).
Every token carries the time at which it was sent, so that the reader can tell how long it took.

On two cores or more the target has one for itself. Whatever is compared is measured in the same round, in
turn: figures of different rounds, let alone machines, say little.
"""
