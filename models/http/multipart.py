"""A multipart/form-data body with one file, streamed to disk.

Starlette's form parser would buffer the file in memory or the system's temporary folder; here a thread writes it where
it will stay. Format: RFC 7578, with names percent-encoded as in the WHATWG's form encoding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import Invalid, TooLarge
from models.files.atomic import IncomingFile
from models.http.payloads import run_in_thread

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks
    from starlette.requests import Request

_BUFFER_SIZE = 2**20
_MOST_FIELDS = 32
_LONGEST_FIELD = 64 * 1024


@dataclass(frozen=True)
class Form:
    """The form's other fields, and the client's name for the file."""

    fields: Mapping[str, str]
    filename: str


async def receive_form(request: "Request", field: str, incoming: IncomingFile) -> Form:
    """Reads the whole form and writes its file into `incoming`.

    Args:
        field: the name of the field with the file.

    Raises:
        Invalid: it is no such form, is cut off, or does not have exactly one file. TooLarge, NoSpace: from `incoming`.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Invalid(f"Send multipart/form-data with the file as {field!r}.", param=field)
    # The gateway limits bodies before it knows that this one goes to disk; the page does not.
    if lift_limit := getattr(request.state, "lift_limit", None):
        lift_limit()
    parts = _FormParts(field)
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            if parts.buffered >= _BUFFER_SIZE:
                await run_in_thread(incoming.write, parts.take())
    except FormParserError as error:
        raise Invalid(f"The form cannot be read: {error}.", param=field) from None
    if not parts.ended:
        raise Invalid("The form is cut off before its end.", param=field)
    if parts.filename is None:
        raise Invalid(f"The form has no file: send it as {field!r}.", param=field)
    if parts.buffered:
        await run_in_thread(incoming.write, parts.take())
    return Form({name: value.decode("utf-8", "replace") for name, value in parts.fields.items()}, parts.filename)


class _FormParts:
    """The parts parsed so far. The parser calls the callbacks in the order of the bytes."""

    def __init__(self, field: str) -> None:
        self.fields: dict[str, bytearray] = {}
        self.filename: str | None = None
        self.ended = False
        self.buffered = 0
        self._count = 0
        self._field = field
        self._pieces: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._into: bytearray | None = None

    def callbacks(self) -> "MultipartCallbacks":
        """The parser's callbacks."""
        return {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_end": self._ends,
        }

    def take(self) -> bytes:
        """Removes and returns the buffered bytes of the file."""
        data = b"".join(self._pieces)
        self._pieces, self.buffered = [], 0
        return data

    def _part_begins(self) -> None:
        self._headers, self._name, self._value = {}, b"", b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _headers_end(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = _decoded(options.get(b"name", b""))
        if name == self._field:
            if self.filename is not None:
                raise Invalid(f"The form has two files as {self._field!r}: send only one.", param=self._field)
            self.filename = _decoded(options.get(b"filename", b"")) or self._field
            self._into = None
            return
        # Fields are counted, not names: each one costs time, and a form may repeat a name.
        self._count += 1
        if self._count > _MOST_FIELDS:
            raise Invalid("The form has too many fields.")
        self._into = self.fields[name] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._into is None:
            self._pieces.append(data[start:end])
            self.buffered += end - start
        elif len(self._into) + end - start > _LONGEST_FIELD:
            raise TooLarge(f"A field of the form has more than {_LONGEST_FIELD} bytes.")
        else:
            self._into += data[start:end]

    def _ends(self) -> None:
        self.ended = True


def _decoded(text: bytes) -> str:
    for quoted, plain in ((b"%22", b'"'), (b"%0D", b"\r"), (b"%0A", b"\n")):
        text = text.replace(quoted, plain)
    return text.decode("utf-8", "replace")
