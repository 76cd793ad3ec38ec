"""What a person looks at: summaries, figures."""
