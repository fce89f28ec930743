"""What a pretraining starts from, what it costs, and what to say of it before it runs."""
