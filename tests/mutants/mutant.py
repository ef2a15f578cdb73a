"""What a mutant is, and how it is planted in the text of a module."""

from dataclasses import dataclass

OWN = "own"  # the source of a mutant that was made up here


class StaleMutant(Exception):
    """The text that a mutant replaces is not in its module exactly once, so it no longer says what it broke."""


@dataclass(frozen=True)
class Mutant:
    """One bug: `old` becomes `new` in src/imagegen/FILE.

    old: text that occurs exactly once in the file. story: what the bug is and how it shows, for a student.
    source: the thread that reports it or the paper that has it right, or `OWN`.
    tests: what is to catch it, as pytest's arguments.
    function: the function or method broken, as Class.method. bug: its number in the list of historic bugs, if any.
    equation: the label of the numbered equation that the mutant contradicts, if any: the tests that claim it fail.
    """

    name: str
    file: str
    function: str
    old: str
    new: str
    story: str
    source: str
    tests: tuple[str, ...]
    bug: int | None = None
    equation: str | None = None

    def plant(self, text: str) -> str:
        """Return the module's text with the bug in it.

        Raises: StaleMutant: `old` does not occur exactly once, or nothing changes.
        """
        if (count := text.count(self.old)) != 1:
            raise StaleMutant(
                f"{self.file} holds the text to replace {count} times, expected once: {self.old!r}"
            )
        if self.old == self.new:
            raise StaleMutant("it changes nothing")
        return text.replace(self.old, self.new)
