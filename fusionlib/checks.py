"""The one way to refuse an argument: where a condition holds, an error of one sentence."""


def refuse(condition: object, sentence: str, error: type[Exception] = ValueError) -> None:
    """Raise an error where a condition holds.

    Parameters
    ----------
    condition : truth value
        What must not be.
    sentence : str
        Where, what was expected, what came.
    error : type of exception
    """
    if condition:
        raise error(sentence)
