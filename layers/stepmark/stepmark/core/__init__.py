"""What a workflow is, and what comes next for it. No I/O here, and no store, thread or clock."""
