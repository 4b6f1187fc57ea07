"""The servers that are measured: each can be started, reached and stopped."""
