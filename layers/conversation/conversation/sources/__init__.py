"""The companies that may know the caller: one module for each, and what they have in common."""
