import base64
import io
import struct
from email.message import EmailMessage, Message
from pathlib import Path

import pytest

from ingest.parse.document import Context, ParsedDocument
from ingest.parse.header import words
from ingest.parse.mail import from_message
from ingest.parse.outlook import as_mime, unpacked_rtf
from ingest.parse.signed import signed_content
from ingest.parse.table import parse
from rag.errors import ParseError

SHARED = Path(__file__).parents[2].parent / "shared" / "files"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample files are not there")


@pytest.fixture
def read(tmp_path):
    """Write content to a file of the given name and parse it."""

    def _read(name: str, content: str | bytes, **limits: int) -> ParsedDocument:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return parse(path, context(tmp_path, **limits))

    return _read


def context(tmp_path: Path, **limits: int) -> Context:
    spool = tmp_path / f"spool{len(list(tmp_path.iterdir()))}"
    spool.mkdir()
    return Context(spool, **limits)


def mail(**headers: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in {
        "Subject": "Lunch",
        "From": "Ann <ann@example.org>",
        "To": "bob@example.org",
        **headers,
    }.items():
        message[name] = value
    return message


def contents(parsed: ParsedDocument) -> dict[str, bytes]:
    return {member.name: member.path.read_bytes() for member in parsed.members}


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2, "big")
    return bytes([tag]) + length + body


def envelope(content: bytes, kind: str = "2a864886f70d010702") -> bytes:
    """A PKCS #7 structure without signers; `kind` is its object identifier: signed data."""
    holder = der(0xA0, der(0x04, content)) if content else b""
    signed = der(0x30, der(0x02, b"\x01"), der(0x31), der(0x30, der(0x06, b"\x2a"), holder), der(0x31))
    return der(0x30, der(0x06, bytes.fromhex(kind)), der(0xA0, signed))


def test_a_message_has_its_headers_body_and_attachments(read):
    message = mail(Cc="Cy <cy@example.org>", Date="Fri, 16 Dec 2022 17:04:16 -0500")
    message.set_content("Soup at noon.\n\nBring a spoon.")
    message.add_attachment(b"a,b\n1,2\n", maintype="text", subtype="csv", filename="menu.csv")
    parsed = read("x.eml", message.as_bytes())
    assert parsed.title == "Lunch"
    assert parsed.text.split("\n\n") == [
        "Lunch",
        "From: Ann <ann@example.org>\nTo: bob@example.org\nCc: Cy <cy@example.org>\n"
        "Date: Fri, 16 Dec 2022 17:04:16 -0500",
        "Soup at noon.",
        "Bring a spoon.",
        "Attachments: menu.csv",
    ]
    assert all(block.headings == ("Lunch",) for block in parsed.blocks)
    assert contents(parsed) == {"menu.csv": b"a,b\n1,2\n"}
    assert parsed.members[0].path.name == "menu.csv"


def test_html_is_read_where_plain_text_is_missing_or_says_less(read):
    page = "<h2>Menu</h2><p>Soup, bread and a long list of other dishes.</p>"
    only = mail()
    only.set_content(page, subtype="html")
    both = mail()
    both.set_content("Please use a program that shows HTML.")
    both.add_alternative(page, subtype="html")
    for message in (only, both):
        parsed = read("x.eml", message.as_bytes())
        assert "long list of other dishes" in parsed.text
        assert "Please use" not in parsed.text
        assert parsed.blocks[-1].headings == ("Lunch", "Menu")


def test_plain_text_is_preferred_and_said_once(read):
    message = mail()
    message.set_content("Soup at noon, as always.")
    message.add_alternative("<p>Soup at <b>noon</b>, as always.</p>", subtype="html")
    assert read("x.eml", message.as_bytes()).text.count("Soup") == 1


def test_attachments_within_the_html_alternative_are_kept(read):
    message = mail()
    message.set_content("See the picture.")
    message.add_alternative("<p>See the picture.</p><img src='cid:1'>", subtype="html")
    message.get_payload()[1].add_related(b"\x89PNG", maintype="image", subtype="png", cid="<1>")
    assert contents(read("x.eml", message.as_bytes())) == {"attachment.png": b"\x89PNG"}


def test_a_forwarded_message_is_a_member_that_can_be_read(read):
    inner = mail(Subject="Grüße / from: afar")
    inner.set_content("Wörter")
    outer = mail(Subject="Fwd")
    outer.set_content("See below.")
    outer.add_attachment(inner)
    (name, data), *_ = contents(read("x.eml", outer.as_bytes())).items()
    assert name == "Grüße _ from_ afar.eml"
    again = read("inner.eml", data)
    assert (again.title, "Wörter" in again.text) == ("Grüße / from: afar", True)


@pytest.mark.parametrize("encoding", ["base64", "BASE64 ", "quoted-printable;", "Quoted-Printable"])
def test_odd_spellings_of_transfer_encodings_are_understood(read, encoding):
    body = base64.b64encode("Käse".encode()).decode() if "base" in encoding.lower() else "K=C3=A4se"
    text = f"Subject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n{body}\n"
    assert read("x.eml", text).text.endswith("Käse")


@pytest.mark.parametrize(
    ("charset", "codec"),
    [("iso-2022-jp", "iso-2022-jp"), ("windows-1251", "cp1251"), ("x-nonsense", "utf-8"), ("utf-7", "utf-7")],
)
def test_declared_encodings_are_honoured(read, charset, codec):
    said = "こんにちは" if codec == "iso-2022-jp" else "Привет, мир"
    head = f"Subject: x\nContent-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: 8bit\n\n"
    assert said in read("x.eml", head.encode() + said.encode(codec)).text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("=?utf-8?B?R3LDvMOf?= =?utf-8?Q?e_an_alle?=", "Grüße an alle"),
        ("=?UTF-8?Q?caf=C3?= =?UTF-8?Q?=A9?=", "café"),
        ("Re: =?iso-8859-1?q?sm=F6rg=E5s?=\n  bord", "Re: smörgås bord"),
        ("=?iso-2022-jp?B?GyRCJDMbKEI=?=", "こ"),
        ("=?unknown?Q?abc?= =?utf-8?B?!!?=", "abc"),
        ("=?iso-2022-nonsense?Q?abc?=", "abc"),
        ("plain = ?not a word?=", "plain = ?not a word?="),
    ],
)
def test_headers_are_decoded_whatever_is_wrong_with_them(raw, shown):
    assert words(raw) == shown


def test_headers_with_raw_bytes_are_read(read):
    assert read("x.eml", "Subject: Größe\n\nText".encode("latin-1")).title == "Größe"


def test_flowed_lines_are_joined_as_mail_programs_show_them(read):
    head = "Subject: x\nContent-Type: text/plain; format=flowed\n\n"
    text = "One long \nparagraph.\n> quoted \n> lines\nNext.\n-- \nAnn\n"
    assert read("x.eml", head + text).text.endswith("One long paragraph.\n> quoted\n> lines\nNext.\n--\nAnn")


def test_a_delivery_report_says_why(read):
    text = (
        "Subject: Undelivered\nContent-Type: multipart/report; boundary=b\n\n--b\n\nIt failed.\n--b\n"
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx\n\n"
        "Final-Recipient: x@y\nStatus: 5.1.1\n--b--\n"
    )
    parsed = read("x.eml", text)
    assert "It failed." in parsed.text
    assert "Final-Recipient: x@y\nStatus: 5.1.1" in parsed.text


def test_a_message_cut_off_in_its_middle_keeps_what_is_there(read):
    text = "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nHalf a sente"
    assert read("x.eml", text).text.endswith("Half a sente")
    assert "no boundary" in read("x.eml", "Subject: x\nContent-Type: multipart/mixed\n\nno boundary").text


def test_signatures_are_no_documents_but_what_was_signed_is(read):
    head = "Subject: x\nContent-Type: multipart/signed; boundary=b; protocol=p\n\n"
    body = "--b\n\nSigned words.\n--b\nContent-Type: application/pgp-signature; name=s.asc\n\nxxx\n--b--\n"
    parsed = read("x.eml", head + body)
    assert (parsed.text, parsed.members) == ("x\n\nSigned words.", ())


def test_an_opaque_signed_message_is_opened(read):
    inner = b"Content-Type: text/plain; charset=utf-8\r\n\r\nSigned body, caf\xc3\xa9.\r\n"
    encoded = base64.encodebytes(envelope(inner)).decode()
    head = "Subject: x\nContent-Type: application/pkcs7-mime\nContent-Transfer-Encoding: base64\n\n"
    assert read("x.eml", head + encoded).text == "x\n\nSigned body, café."
    assert read("x.p7m", envelope(inner)).text == "Signed body, café."


def test_signed_files_are_members_under_their_own_name(read):
    assert contents(read("invoice.xml.p7m", envelope(b"<a>1</a>"))) == {"invoice.xml": b"<a>1</a>"}


def test_envelopes_in_parts_of_unknown_length_are_read():
    parts = b"\x24\x80" + der(0x04, b"first ") + der(0x04, b"second") + b"\x00\x00"
    inner = b"\x30\x80" + der(0x06, b"\x2a") + b"\xa0\x80" + parts + b"\x00\x00\x00\x00"
    signed = b"\x30\x80" + der(0x02, b"\x01") + der(0x31) + inner + b"\x00\x00"
    oid = der(0x06, bytes.fromhex("2a864886f70d010702"))
    assert signed_content(b"\x30\x80" + oid + b"\xa0\x80" + signed + b"\x00\x00\x00\x00") == b"first second"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (envelope(b"x", "2a864886f70d010703"), "encrypted"),
        (envelope(b""), "signature alone"),
        (envelope(b"x", "2a864886f70d010701"), "no signed message"),
        (envelope(b"some content")[:-9], "damaged"),
        (b"\x30", "damaged"),
    ],
)
def test_envelopes_that_hold_nothing_to_read_say_why(read, data, reason):
    with pytest.raises(ParseError, match=reason):
        read("x.p7m", data)


@pytest.mark.parametrize(
    "text",
    [
        "Subject: x\nContent-Type: multipart/encrypted; boundary=b\n\n--b\n\nx\n--b--\n",
        "Subject: x\n\n-----BEGIN PGP MESSAGE-----\n\nabc\n-----END PGP MESSAGE-----\n",
    ],
)
def test_pgp_messages_say_that_they_are_encrypted(read, text):
    with pytest.raises(ParseError, match=r"encrypted \(PGP\); decrypt it"):
        read("x.eml", text)


def test_attachment_names_cannot_lead_anywhere(read, tmp_path):
    message = mail()
    message.set_content("x")
    for name in (
        "../../etc/passwd",
        "C:\\temp\\a.txt",
        "nul.txt",
        "/abs.txt",
        "a" * 300 + ".pdf",
        "=?utf-8?Q?=C3=BC.txt?=",
    ):
        message.add_attachment(b"1", maintype="application", subtype="octet-stream", filename=name)
    message.add_attachment(b"2", maintype="application", subtype="octet-stream", filename="abs.txt")
    parsed = read("x.eml", message.as_bytes())
    names = [member.name for member in parsed.members]
    assert names == ["passwd", "a.txt", "_nul.txt", "abs.txt", "a" * 116 + ".pdf", "ü.txt", "abs (2).txt"]
    assert all(tmp_path in member.path.resolve().parents for member in parsed.members)


def test_attachments_too_large_together_are_refused(read):
    message = mail()
    message.set_content("x")
    for _ in range(3):
        message.add_attachment(bytes(600), maintype="application", subtype="zip", filename="a.zip")
    with pytest.raises(ParseError, match="unpacks to more than"):
        read("x.eml", message.as_bytes(), max_unpacked=1500)


def test_messages_of_a_mailbox_are_members(read):
    one, two = mail(Subject="One"), mail(Subject="Two")
    one.set_content("First.\n\nFrom here on, nothing.\n")
    two.set_content("Second.")
    lines = b"".join(b"From a@b Thu Jan  1 00:00:00 2015\n" + message.as_bytes() + b"\n" for message in (one, two))
    parsed = read("x.mbox", lines)
    assert parsed.text == "Ann <ann@example.org> | One\nAnn <ann@example.org> | Two"
    assert [member.name for member in parsed.members] == ["00001 One.eml", "00002 Two.eml"]
    assert "From here on" in read("1.eml", parsed.members[0].path.read_bytes()).text
    with pytest.raises(ParseError, match="no messages"):
        read("y.mbox", "Just text.")


def test_apple_mail_files_are_read_to_their_end_and_no_further(read):
    body = "Subject: x\n\nText.\n"
    assert read("x.emlx", f"{len(body)}   \n{body}<?xml version='1.0'?><plist/>").text == "x\n\nText."


class Container:
    """An OLE container of nested dicts: folders are dicts, streams are bytes."""

    def __init__(self, folders: dict) -> None:
        self.folders = folders

    def _at(self, path: list[str]) -> object:
        found: object = self.folders
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def exists(self, path: list[str]) -> bool:
        return self._at(path) is not None

    def openstream(self, path: list[str]) -> io.BytesIO:
        return io.BytesIO(self._at(path))

    def listdir(self, streams: bool, storages: bool) -> list[list[str]]:
        def walk(folder: dict, path: list[str]) -> list[list[str]]:
            inner = [(name, value) for name, value in folder.items() if isinstance(value, dict)]
            return [found for name, value in inner for found in ([*path, name], *walk(value, [*path, name]))]

        return walk(self.folders, [])


def storage(header: int, fixed: dict[int, int] | None = None, **streams: object) -> dict:
    """Properties: `S0037="text"` is Unicode, `A0037=b"text"` is 8-bit, `B1013=b""` is binary; `fixed` holds numbers."""
    kinds = {"S": "001F", "A": "001E", "B": "0102", "D": "000D"}
    entries = b"".join(struct.pack("<IIQ", tag, 6, value) for tag, value in (fixed or {}).items())
    folder: dict = {"__properties_version1.0": bytes(header) + entries}
    for name, value in streams.items():
        data = value.encode("utf-16-le") if isinstance(value, str) else value
        folder[f"__substg1.0_{name[1:]}{kinds[name[0]]}" if name[0] in kinds else name] = data
    return folder


def outlook(**folders: dict) -> dict:
    body = storage(32, {0x3FFD0003: 1251, 0x00390040: 133_163_000_000_000_000}, S0037="Обед", S1000="Суп в полдень.")
    people = {
        "__recip_version1.0_#00000000": storage(
            8, {0x0C150003: 1}, A3001="Боб".encode("cp1251"), S39FE="bob@example.org"
        ),
        "__recip_version1.0_#00000001": storage(8, {0x0C150003: 2}, S3001="Cy", S3003="/O=EXCHANGE/CN=CY"),
    }
    sender = storage(0, S0C1A="Ann", S5D01="ann@example.org")
    del sender["__properties_version1.0"]
    return {**body, **sender, **people, **folders}


def test_outlook_messages_become_mail(tmp_path):
    attached = storage(8, {0x37050003: 1}, S3707="menu.txt", B3701=b"Soup", S370E="text/plain")
    inner = storage(24, S0037="Inner", S1000="Inner words.")
    embedded = storage(8, {0x37050003: 5}, S3001="Inner") | {"__substg1.0_3701000D": inner}
    folders = {"__attach_version1.0_#00000000": attached, "__attach_version1.0_#00000001": embedded}
    parsed = from_message(as_mime(Container(outlook(**folders))), "x", context(tmp_path))
    assert parsed.title == "Обед"
    shown = "From: Ann <ann@example.org>\nTo: Боб <bob@example.org>\nCc: Cy\nDate: Fri, 23 Dec 2022 "
    assert shown in parsed.text
    assert "Суп в полдень." in parsed.text
    assert list(contents(parsed)) == ["menu.txt", "Inner.eml"]
    inside = parse(parsed.members[1].path, context(tmp_path))
    assert (inside.title, inside.text) == ("Inner", "Inner\n\nInner words.")
    again = from_message(as_mime(Container(outlook(**folders))), "x", context(tmp_path))
    assert contents(again) == contents(parsed)


def test_outlook_html_and_rtf_bodies_are_read(tmp_path):
    html = storage(32, {0x3FDE0003: 1252}, S0037="H", B1013="<p>Käse</p>".encode("cp1252"))
    assert from_message(as_mime(Container(html)), "x", context(tmp_path)).text == "H\n\nKäse"
    rtf = b"{\\rtf1\\ansi Rich {\\b text}.\\par}"
    packed = struct.pack("<III", len(rtf) + 12, len(rtf), 0x414C454D) + bytes(4) + rtf
    parsed = from_message(as_mime(Container(storage(32, S0037="R", B1009=packed))), "x", context(tmp_path))
    assert parsed.text == "R\n\nRich text."


def test_packed_rtf_is_unpacked():
    """The example of [MS-OXRTFCP] 3.1.1."""
    packed = "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
    assert unpacked_rtf(bytes.fromhex(packed)) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"
    assert unpacked_rtf(b"nonsense") == b""


def test_secured_outlook_messages_are_opened_or_refused(tmp_path):
    def secured(data: bytes) -> Message:
        attached = storage(8, {0x37050003: 1}, B3701=data)
        message = storage(32, S001A="IPM.Note.SMIME", S0037="S") | {"__attach_version1.0_#00000000": attached}
        return as_mime(Container(message))

    parsed = from_message(secured(envelope(b"Content-Type: text/plain\r\n\r\nHello")), "x", context(tmp_path))
    assert parsed.text == "S\n\nHello"
    with pytest.raises(ParseError, match="encrypted"):
        from_message(secured(envelope(b"x", "2a864886f70d010703")), "x", context(tmp_path))


@needs_shared
@pytest.mark.parametrize(
    ("name", "title", "said", "members"),
    [
        ("eml/email-no-utf8-2008-07-16.062410.eml", "RE: שלום", "אני שותף לצערך על הציון", []),
        ("eml/email-no-html-content-1.eml", "[GitHub] Subscribed to 63 nf-core repositories", "nf-core/rnaseq", []),
        ("eml/email-replace-mime-encodings-error-2.eml", "RE: Random Expo Expo 2023", "“ Yes we’re", []),
        ("eml/email-inline-content-disposition.eml", "Testing Inline", "This is a test of inline", ["t.txt"]),
        ("eml/mime-no-body.eml", "Image Only Email", "Attachments: image.jpg", ["image.jpg"]),
        ("eml/mime-no-subject.eml", "mime-no-subject", "without a subject", []),
        ("eml/signed-doc.p7s", "signed-doc", "This is a test", []),
        ("eml/test-invalid-date.eml", "Test invalid date format", "Date: INVALID-DATE-FORMAT", []),
        ("fake-email-attachment.msg", "Fake email with attachment", "Little to no content", ["fake-attachment.txt"]),
    ],
)
def test_real_messages(tmp_path, name, title, said, members):
    parsed = parse(SHARED / name, context(tmp_path))
    assert parsed.title == title
    assert said in parsed.text
    assert [member.name for member in parsed.members] == members


@needs_shared
@pytest.mark.parametrize("name", ["eml/fake-encrypted.eml", "fake-encrypted.msg"])
def test_real_encrypted_messages(tmp_path, name):
    with pytest.raises(ParseError, match="encrypted"):
        parse(SHARED / name, context(tmp_path))
