"""What a person would write without gptinit; each file is a script of its own."""
