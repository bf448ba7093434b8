"""Campaign of damaged, odd and valid input: what the library makes of files nobody picked."""
