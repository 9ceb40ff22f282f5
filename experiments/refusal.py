"""The one way in which a command refuses its input."""


class Refusal(Exception):
    """Something that the user can put right; its text is one sentence for the terminal."""
