"""Whether changes carry over from one context to others."""
