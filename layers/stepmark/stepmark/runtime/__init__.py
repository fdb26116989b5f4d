"""What runs workflows: the engine, its sessions, leases, threads, and the worker."""
