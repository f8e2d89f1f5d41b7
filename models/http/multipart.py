"""A form with one file in it (multipart/form-data), streamed to disk as it comes. It knows no route and no purpose.

Starlette's own form would keep a file in memory or in the system's temporary folder, which may be memory too; here the
bytes go where the file will stay, and the disk is written to in a thread.
Format: RFC 7578; names are percent-encoded as the WHATWG's form encoding does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.atomic import IncomingFile
from models.errors import Invalid, TooLarge
from models.http.payloads import run_in_thread

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks
    from starlette.requests import Request

_PIECE = 2**20
_MOST_FIELDS = 32
_LONGEST_FIELD = 64 * 1024


@dataclass(frozen=True)
class Form:
    """The fields beside the file, and the name under which the client sent the file."""

    fields: Mapping[str, str]
    filename: str


async def receive_form(request: "Request", field: str, incoming: IncomingFile) -> Form:
    """Reads a form to its end, and writes its file into `incoming`.

    Args:
        field: the name of the form's field that is the file.

    Raises:
        Invalid: it is no such form, is cut off, or has no file or two. TooLarge, NoSpace: as `incoming` says.
    """
    from python_multipart.exceptions import MultipartParseError
    from python_multipart.multipart import MultipartParser, parse_options_header

    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Invalid(f"Send a form, multipart/form-data, with the file as {field!r}.", param=field)
    # The gateway bounds bodies before it knows that this one goes to disk; the page does not.
    if lift_limit := getattr(request.state, "lift_limit", None):
        lift_limit()
    reading = _Reading(field)
    try:
        parser = MultipartParser(options[b"boundary"], reading.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            if reading.waiting >= _PIECE:
                await run_in_thread(incoming.write, reading.taken())
    except MultipartParseError as error:
        raise Invalid(f"The form cannot be read: {error}.", param=field) from None
    if not reading.ended:
        raise Invalid("The form is cut off before its end.", param=field)
    if reading.filename is None:
        raise Invalid(f"The form has no file: send it as {field!r}.", param=field)
    if reading.waiting:
        await run_in_thread(incoming.write, reading.taken())
    return Form({name: value.decode("utf-8", "replace") for name, value in reading.fields.items()}, reading.filename)


class _Reading:
    """What the parser has met so far. Its calls come in the order of the form's bytes."""

    def __init__(self, field: str) -> None:
        self.fields: dict[str, bytearray] = {}
        self.filename: str | None = None
        self.ended = False
        self.waiting = 0
        self._field = field
        self._pieces: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._into: bytearray | None = None

    def callbacks(self) -> "MultipartCallbacks":
        """The functions that the parser calls."""
        return {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_end": self._ends,
        }

    def taken(self) -> bytes:
        """The file's bytes that nobody has taken yet."""
        data = b"".join(self._pieces)
        self._pieces, self.waiting = [], 0
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
                raise Invalid(f"The form has two files as {self._field!r}: send one.", param=self._field)
            self.filename = _decoded(options.get(b"filename", b"")) or self._field
            self._into = None
            return
        if len(self.fields) >= _MOST_FIELDS:
            raise Invalid("The form has too many fields.")
        self._into = self.fields[name] = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._into is None:
            self._pieces.append(data[start:end])
            self.waiting += end - start
        elif len(self._into) + end - start > _LONGEST_FIELD:
            raise TooLarge(f"A field of the form is over {_LONGEST_FIELD} bytes.")
        else:
            self._into += data[start:end]

    def _ends(self) -> None:
        self.ended = True


def _decoded(text: bytes) -> str:
    for quoted, plain in ((b"%22", b'"'), (b"%0D", b"\r"), (b"%0A", b"\n")):
        text = text.replace(quoted, plain)
    return text.decode("utf-8", "replace")
