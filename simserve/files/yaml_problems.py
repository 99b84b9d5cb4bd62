"""What is wrong with a text that is not YAML, in our words: parsers say what they were doing, not what to fix."""

from __future__ import annotations

_PROBLEMS = (
    ("cannot start any token", "a character that needs quotes stands at the beginning of a value"),
    ("mapping values are not allowed", "a second ':' in a line needs quotes, or a line is indented too far"),
    ("expected ',' or ']'", "a list that begins with '[' is not closed with ']', or a comma is missing"),
    ("expected ',' or '}'", "a mapping that begins with '{' is not closed with '}', or a comma is missing"),
    ("expected ':'", "a line has no ':' after its key"),
    ("expected '-' indicator", "a line of a list does not begin with '-' in the same column"),
    ("expected key", "a line is not indented like the lines around it, or has no ':' after its key"),
    ("block sequence entries are not allowed", "'-' begins a list only on a line of its own"),
    ("block mapping", "a line is not indented like the lines around it"),
    ("expected <block end>", "a line is not indented like the lines around it"),
    ("undefined alias", "'*' refers to a name that no '&' gives; text that begins with '*' needs quotes"),
    ("duplicate anchor", "the same '&' name is given twice"),
    ("alphabetic or numeric character", "'&' and '*' name anchors; text that begins with them needs quotes"),
    ("unexpected end of stream", "a quote is not closed"),
    ("document indicator", "a quote is not closed"),
    ("unknown escape", "a backslash in double quotes begins an escape; use single quotes, or write it twice"),
    ("hexdecimal", "an escape in double quotes is cut short"),
    ("control characters are not allowed", "a control character"),
    ("special characters are not allowed", "a control character"),
    ("tab character", "a tab where spaces are needed"),
    ("tag", "'!' begins a tag; text that begins with it needs quotes"),
    ("directive", "'%' begins a directive; text that begins with it needs quotes"),
    ("version", "'%' begins a directive; text that begins with it needs quotes"),
    ("indentation indicator", "'|' or '>' is followed by something else than a line break"),
    ("comment or line break", "'|' or '>' is followed by something else than a line break"),
    ("document start", "a line is not indented like the lines around it, or a bracket is left over"),
)
"""A piece of what a parser says -> what to fix. The first that fits is taken."""


def in_words(said: str) -> str:
    """The problem that a YAML parser reports, in words of our own."""
    return next((words for piece, words in _PROBLEMS if piece in said), "the text cannot be understood from here on")
