"""A text is read in the encoding it is in, or refused whole: never half of it, never harmed."""

import codecs
import gzip
import json
from pathlib import Path
from threading import Event

import pytest

from pipeline.cleaner import stage
from pipeline.events import Finished, Warned
from pipeline.inspection.pages import HeldPage, RowsPage, open_page
from pipeline.options.config import CleanupOptions, Config
from pipeline.rehearsal.sample_files import cut_out
from pipeline.sources.documents import Document, cleaned_files, read_cleaned
from pipeline.sources.encodings import encoding_of
from pipeline.sources.items import as_input
from pipeline.sources.lines import Damage
from pipeline.sources.raw import read_items
from utils.artefacts import read_manifest
from utils.errors import HatcheryError

GERMAN = (
    "Die Größe der Brücke über den Fluß überraschte die Gäste. Während des Frühstücks hörten wir, "
    "daß die Straße nach Köln gesperrt würde. Das Mädchen aß Äpfel, und Öl war überall verschüttet."
)
FRENCH = (
    "L’été dernier, nous avons passé nos vacances près de la forêt. Le garçon était très fatigué "
    "après cette journée où il avait dû marcher jusqu’à la gare, là-bas, de l’autre côté."
)
POLISH = (
    "Wczoraj wieczorem poszliśmy na długi spacer wzdłuż rzeki, żeby zobaczyć zachód słońca. "
    "Później ktoś zadzwonił do drzwi i okazało się, że to był listonosz. Dzieci bawiły się na łące."
)
RUSSIAN = (
    "Вчера вечером мы долго гуляли по набережной и говорили о том, что будет дальше. Дети играли "
    "во дворе, пока не стемнело. Потом все пошли домой."
)
GREEK = (
    "Το καλοκαίρι πήγαμε διακοπές στο νησί και μείναμε σε ένα μικρό σπίτι κοντά στη θάλασσα. Τα "
    "παιδιά έπαιζαν όλη μέρα στην παραλία."
)
TURKISH = (
    "Dün akşam uzun süre sahilde yürüdük ve gelecekte ne olacağını konuştuk. Çocuklar hava "
    "kararana kadar bahçede oynadılar. Şemsiyeyi unuttuğum için ıslandım."
)
HEBREW = "אתמול בערב הלכנו לטייל על החוף ודיברנו על מה שיקרה בעתיד. הילדים שיחקו בחצר עד שהחשיך."
JAPANESE = (
    "昨日の夕方、私たちは海岸を長い間散歩して、これからどうなるかについて話しました。"
    "子供たちは暗くなるまで庭で遊んでいました。それからみんな家に帰りました。"
)
CHINESE = "昨天晚上我们在海边散步了很久，谈论了以后会发生什么事情。孩子们在院子里玩到天黑。"
TRADITIONAL = "昨天晚上我們在海邊散步了很久，談論了以後會發生什麼事情。孩子們在院子裡玩到天黑。"
KOREAN = "어제 저녁에 우리는 바닷가를 오랫동안 산책하면서 앞으로 무슨 일이 일어날지 이야기했습니다."
THAI = "เมื่อวานตอนเย็นเราเดินเล่นริมทะเลเป็นเวลานานและพูดคุยเกี่ยวกับสิ่งที่จะเกิดขึ้น เด็กๆ เล่นในสนามจนมืด"
ENGLISH = (
    "It was a bright cold day in April, and the clocks were striking thirteen. Winston walked "
    "slowly through the doors of the building, though not quickly enough to keep out the dust. "
)
QUOTED = ENGLISH * 6 + "He didn’t say “no”. " + ENGLISH * 6
ARABIC = (
    "ذهبنا مساء أمس في نزهة طويلة على الشاطئ وتحدثنا عن المستقبل. كان الأطفال يلعبون في الفناء."
)

ENCODED = [
    (GERMAN, "cp1252", "windows-1252"),
    (GERMAN, "latin-1", "windows-1252"),
    (FRENCH, "cp1252", "windows-1252"),
    (FRENCH, "mac-roman", "mac-roman"),
    (QUOTED, "cp1252", "windows-1252"),
    (QUOTED, "mac-roman", "mac-roman"),
    (POLISH, "cp1250", "windows-1250"),
    (POLISH, "iso8859-2", "iso-8859-2"),
    (RUSSIAN, "cp1251", "windows-1251"),
    (RUSSIAN, "koi8-r", "koi8-r"),
    (RUSSIAN, "cp866", "cp866"),
    (RUSSIAN, "iso8859-5", "iso-8859-5"),
    (GREEK, "cp1253", ""),
    (TURKISH, "cp1254", "windows-1254"),
    (HEBREW, "cp1255", ""),
    (ARABIC, "cp1256", "windows-1256"),
    (JAPANESE, "cp932", ""),
    (JAPANESE, "euc_jp", ""),
    (JAPANESE, "iso2022_jp", "iso2022_jp_2"),
    (CHINESE, "gb18030", "gb18030"),
    (TRADITIONAL, "big5", ""),
    (KOREAN, "euc_kr", "cp949"),
    (THAI, "cp874", "cp874"),
    (GERMAN, "utf-16-le", "utf-16-le"),
    (ENGLISH, "utf-16-be", "utf-16-be"),
    (RUSSIAN, "utf-16-le", "utf-16-le"),
    (CHINESE, "utf-16-be", "utf-16-be"),
    (KOREAN, "utf-16-le", "utf-16-le"),
    (ENGLISH, "utf-32-le", "utf-32-le"),
    (JAPANESE, "utf-32-be", "utf-32-be"),
]
"""Texts, the encoding they are in, and what the program calls it (empty: several names do)."""
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def write(path: str | Path, data: bytes) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def clean(*inputs: Path, workers: int = 1, output: str = "out") -> list:
    options = CleanupOptions(
        source="files",
        input=list(inputs),
        workers=workers,
        min_words=0,
        output=Path(output),
        force=True,
    )
    return list(stage.run(Config(), options, Event()))


def documents(output: str = "out") -> list[Document]:
    return [d for file in cleaned_files(Path(output)) for d in read_cleaned(file)]


@pytest.mark.parametrize(("text", "encoding", "shown"), ENCODED)
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.txt.gz"])
def test_a_text_is_read_in_its_encoding_which_is_named(
    workspace: Path, text: str, encoding: str, shown: str, name: str
) -> None:
    data = f"{text}\r\n\r\n{text}\r\n".encode(encoding)
    [*_, last] = clean(write(f"in/{name}", gzip.compress(data) if name.endswith("gz") else data))
    assert isinstance(last, Finished)
    assert [d.text for d in documents()] == [f"{text.strip()}\n\n{text}".strip()]
    [said] = last.summary["decoded_files"]
    assert said == shown or not shown
    assert last.summary["decoded"] == f"{said}: 1 file ({name})"
    manifest = read_manifest(Path("out"))
    assert manifest is not None
    assert manifest.facts["decoded_files"] == {said: {"files": 1, "names": [name]}}


@pytest.mark.parametrize("encoding", MARKS)
@pytest.mark.parametrize("name", ["a.txt", "a.py", "a.md", "a.jsonl", "a.json", "b.json", "c.json"])
def test_a_byte_order_mark_is_no_character_of_the_text(
    workspace: Path, encoding: str, name: str
) -> None:
    text = "x = 'é'\n" * 30
    row = json.dumps({"text": text}, ensure_ascii=False)
    content = {"a.jsonl": row, "a.json": f'\n{row}\n{row[:-2]} 2"}}\n', "b.json": f"[{row}]"}
    data = content.get(name, row if name == "c.json" else text).encode(encoding)
    clean(write(f"in/{name}", MARKS[encoding] + data))
    assert documents()[0].text.rstrip() == text.rstrip()


@pytest.mark.parametrize("encoding", ["cp1251", "utf-16-le", "utf-16", "cp1252", "gb18030"])
@pytest.mark.parametrize("form", ["jsonl", "json", "array", "jsonl.gz"])
def test_rows_in_other_encodings_are_read(workspace: Path, encoding: str, form: str) -> None:
    text = {"cp1251": RUSSIAN, "gb18030": CHINESE}.get(encoding, FRENCH)
    values = [{"text": f"{number} {text}"} for number in range(40)]
    lines = [json.dumps(value, ensure_ascii=False) for value in values]
    data = (f"[{','.join(lines)}]" if form == "array" else "\n".join(lines)).encode(encoding)
    name = "a.json" if form == "array" else f"a.{form}"
    path = write(f"in/{name}", gzip.compress(data) if form.endswith("gz") else data)
    clean(path)
    assert [d.text for d in documents()] == [value["text"] for value in values]
    page = open_page(as_input(path, name))
    assert isinstance(page, HeldPage)
    [sample] = cut_out(as_input(path, name), Path("sample") / name, 3)
    taken = [item for item in read_items(as_input(sample, "s")) if not isinstance(item, Damage)]
    assert json.loads(taken[0].content)["text"] == values[0]["text"]


def test_rows_in_utf8_are_still_leafed_through_in_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps({"text": FRENCH}).encode() + b"\n")
    assert isinstance(open_page(as_input(path, "a")), RowsPage)


def test_a_row_that_is_not_utf8_costs_only_itself(workspace: Path) -> None:
    rows = [json.dumps({"text": f"{n} {FRENCH}"}, ensure_ascii=False).encode() for n in range(5)]
    rows[2] = rows[2].replace("é".encode(), b"\xe9")
    [*_, last] = clean(write("in/a.jsonl", b"\n".join(rows)))
    assert last.summary["rejected"] == {"not_utf8": 1}
    assert len(documents()) == 4


REFUSED = {
    "thin": "Děti si hrály".encode("cp1250"),
    "undefined": f"{GERMAN}\n".encode("cp1252") * 9000 + b"\x81 the end",
    "random": bytes(range(256)) * 40,
    "pdf": b"%PDF-1.7\n" + ENGLISH.encode() * 50,
    "zip": b"PK\x03\x04" + b"\x14\0\0\0\x08\0" * 30,
    "gzip": gzip.compress(ENGLISH.encode() * 20),
    "nuls": ENGLISH.encode() * 200 + b"\0" * 3000,
    "mark_alone": codecs.BOM_UTF16_LE + bytes(range(256)) * 9,
    "appended": ENGLISH.encode() * 2000 + (ENGLISH * 20).encode("utf-16-le"),
    "appended_to": (ENGLISH * 2000).encode("utf-16") + ENGLISH.encode() * 20,
    "cut_japanese": (JAPANESE + "\n").encode("cp932") * 4000 + b"\x82",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_in_no_encoding_to_its_end_is_refused_whole(workspace: Path, data: bytes) -> None:
    bad = write("in/bad.txt", data)
    write("in/good.txt", ENGLISH.encode())
    *events, last = clean(Path("in"))
    assert isinstance(last, Finished)
    [(reason, count)] = last.summary["rejected"].items()
    assert (reason in ("binary", "unknown_encoding"), count) == (True, 1)
    assert [d.id for d in documents()] == ["good.txt"]
    assert any(isinstance(e, Warned) and "1 file is in no encoding" in e.message for e in events)
    with pytest.raises(HatcheryError) as error:
        clean(bad, output="alone")
    assert "save these files as UTF-8" in error.value.remedy


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (REFUSED["undefined"], "looks like windows-1252, but byte 0x81"),
        (REFUSED["pdf"], "it is a PDF"),
        (REFUSED["gzip"], "its name should end in .gz"),
        (REFUSED["appended_to"], "begins as utf-16-le and goes on as something else"),
        (REFUSED["appended"], "part of it is UTF-16"),
    ],
)
def test_a_refusal_names_what_is_suspected(tmp_path: Path, data: bytes, named: str) -> None:
    [item] = read_items(as_input(write(tmp_path / "a.txt", data), "a.txt"))
    assert isinstance(item, Damage)
    assert named in item.detail


def test_ascii_for_a_long_way_decides_nothing(tmp_path: Path) -> None:
    data = ENGLISH.encode() * 9000 + f"\n\n{GERMAN}\n".encode("cp1252") * 40
    items = list(read_items(as_input(write(tmp_path / "a.txt", data), "a.txt")))
    text = b"".join(item.content for item in items if isinstance(item.content, bytes))
    assert text == data.decode("cp1252").encode()


def test_utf8_with_a_damaged_place_is_still_utf8(tmp_path: Path) -> None:
    pieces = [f"{FRENCH} {number}\n\n".encode() * 200 for number in range(3)]
    pieces[1] = pieces[1][:500] + b"\xff" + pieces[1][500:]
    items = list(read_items(as_input(write(tmp_path / "a.txt", b"".join(pieces)), "a.txt")))
    assert b"".join(item.content for item in items) == b"".join(pieces)


def test_a_lone_half_of_a_pair_in_utf16_becomes_a_replacement_character(tmp_path: Path) -> None:
    data = codecs.BOM_UTF16_LE + (ENGLISH * 30 + "\ud83d" + ENGLISH).encode(
        "utf-16-le", "surrogatepass"
    )
    [item] = read_items(as_input(write(tmp_path / "a.txt", data), "a.txt"))
    assert item.content == (ENGLISH * 30 + "\ufffd" + ENGLISH).encode()


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("latin-1", "latin-1"), ("cp1251", "cp1251"), ("shift_jis", "cp932"), ("euc-kr", "euc_kr")],
)
def test_a_program_says_its_encoding_itself(tmp_path: Path, declared: str, encoding: str) -> None:
    word = {"cp1251": "да", "cp932": "はい", "euc_kr": "네"}.get(encoding, "été")
    text = f"#!/usr/bin/python\n# -*- coding: {declared} -*-\nanswer = '{word}'\n"
    path = write(tmp_path / "a.py", text.encode(encoding))
    [item] = read_items(as_input(path, "a.py"))
    assert item.content == text.encode()


@pytest.mark.parametrize("declared", ["rot13", "base64", "undefined", "nonsense", "idna", "\xe9"])
def test_a_declaration_that_means_no_encoding_is_not_followed(
    tmp_path: Path, declared: str
) -> None:
    text = f"# -*- coding: {declared} -*-\nanswer = '{GERMAN}'\n"
    [item] = read_items(as_input(write(tmp_path / "a.py", text.encode("cp1252")), "a.py"))
    assert item.content == text.encode()


@pytest.mark.slow
def test_the_number_of_workers_and_a_rerun_change_nothing(workspace: Path) -> None:
    for number, (text, encoding, _) in enumerate(ENCODED):
        write(f"in/{number:02d}.txt", (f"{text} {number}.\n\n" * 20).encode(encoding))
        write(f"in/{number:02d}.jsonl", json.dumps({"text": f"{number} {text}"}).encode())
    clean(Path("in"), output="one")
    clean(Path("in"), workers=4, output="four")
    one, four = read_manifest(Path("one")), read_manifest(Path("four"))
    assert one is not None
    assert four is not None
    assert one.fingerprint == four.fingerprint
    assert one.facts == four.facts
    options = CleanupOptions(source="files", input=[Path("in")], min_words=0, output=Path("one"))
    *_, last = stage.run(Config(), options, Event())
    assert isinstance(last, Finished)
    assert last.skipped


def test_what_was_read_before_encodings_were_known_is_read_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("in/a.txt", GERMAN.encode("cp1252"))
    options = CleanupOptions(source="files", input=[path], min_words=0, output=Path("out"))
    with monkeypatch.context() as before:
        before.setattr(stage.raw, "VERSION", 1)
        list(stage.run(Config(), options, Event()))
    *_, last = stage.run(Config(), options, Event())
    assert isinstance(last, Finished)
    assert not last.skipped


@pytest.mark.parametrize("size", [*range(12), 100, 1000])
def test_no_bytes_at_all_make_it_fail(size: int) -> None:
    for byte in range(256):
        for whole in (True, False):
            found = encoding_of(bytes([byte]) * size, whole=whole)
            assert found.doubt or codecs.lookup(found.name)
