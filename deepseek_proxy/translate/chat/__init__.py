"""OpenAI's Chat Completions, which DeepSeek speaks too: requests in, streams and answers out."""
