"""What peers say to each other: messages, advertisements, chat, control."""
