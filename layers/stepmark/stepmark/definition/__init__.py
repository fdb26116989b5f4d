"""What a definition is written in: statements, handlers, retries, and the class of a state."""
