"""Files that users give to each other, and how bytes go from peer to peer."""
