"""What the notebooks ask, a module a question: they put methods, trainings and metrics together."""
