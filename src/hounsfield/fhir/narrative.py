"""What a narrative may hold: a ``div`` of harmless XHTML (FHIR R4 §2.20.0.1, invariants txt-1 and txt-2)."""

from html.entities import name2codepoint
from xml.parsers import expat

_XHTML = "http://www.w3.org/1999/xhtml"
_TAGS = """
    a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i img
    li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var
"""
_ATTRIBUTES = """
    abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign char charoff charset cite
    class colspan compact coords dir frame headers height href hreflang hspace id lang longdesc name nowrap rel rev
    rowspan rules scope shape span src start style summary tabindex title type valign value vspace width
"""
_ALLOWED_TAGS = frozenset(_TAGS.split())
_ALLOWED_ATTRIBUTES = frozenset(_ATTRIBUTES.split())
_SCRIPT = "javascript:"


class _Refused(Exception):
    pass


class _Reader:
    """Follows the parser; raises _Refused with a sentence at the first fault."""

    def __init__(self) -> None:
        self.depth = 0
        self.shows_something = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, tag = name.rpartition(" ")
        if namespace != _XHTML or tag not in _ALLOWED_TAGS:
            raise _Refused("must hold only basic XHTML elements, in the XHTML namespace")
        if self.depth == 0 and tag != "div":
            raise _Refused("must be a div element")
        for attribute, value in attributes.items():
            plain = attribute.removeprefix("http://www.w3.org/XML/1998/namespace ")
            if plain not in _ALLOWED_ATTRIBUTES or value.strip().lower().startswith(_SCRIPT):
                raise _Refused("must not hold scripts or other active attributes")
        self.shows_something |= tag == "img"
        self.depth += 1

    def end(self, name: str) -> None:
        self.depth -= 1

    def data(self, text: str) -> None:
        self.shows_something |= not text.isspace()

    def entity(self, name: str, is_parameter_entity: bool) -> None:
        if name not in name2codepoint:
            raise _Refused("must be well-formed XHTML")
        self.shows_something = True

    def doctype(self, *arguments: object) -> None:
        raise _Refused("must not declare a document type")


def check_narrative(text: str) -> str | None:
    """What is wrong with the XHTML of a narrative, or None."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    # A foreign DTD that is never loaded makes expat skip the entities of HTML instead of refusing them.
    parser.UseForeignDTD(True)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.SkippedEntityHandler = reader.entity
    parser.EntityDeclHandler = reader.doctype
    if "<!DOCTYPE" in text:
        return "must not declare a document type"
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError:
        return "must be well-formed XHTML"
    except _Refused as refused:
        return str(refused)
    return None if reader.shows_something else "must show some text or an image"
