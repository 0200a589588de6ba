"""What requests share while they run: leases, queues, counters, rates and marks."""
