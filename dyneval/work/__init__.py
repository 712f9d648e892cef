"""How work is done: executors, batches in halves, work ahead in threads, processes that end in order."""
