"""What a conversation is, where it is kept, and how the caller behind it is identified."""

from conversation import cold_start as _cold_start

_cold_start.begin()
