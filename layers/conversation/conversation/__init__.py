"""What a conversation is, where it is kept, and how the caller behind it is identified."""
