"""What patterns and selections of patterns tell: pure functions on batched tensors."""
