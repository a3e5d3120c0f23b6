"""What a program declares: tasks, their context, their payload, their verdicts."""
