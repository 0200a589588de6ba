"""What the gateway remembers between requests. DeepSeek itself keeps no state."""
