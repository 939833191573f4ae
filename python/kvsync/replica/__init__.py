"""One storage's replica: its log, what it knows, its history, and recovery after a crash."""
