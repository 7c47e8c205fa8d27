"""Apparatus, redirects and disambiguation pages are known by the language that a record says."""

import pytest

from pipeline.cleaner.languages import LANGUAGES
from pipeline.cleaner.naming import canonical, fold, language
from pipeline.cleaner.rules import WIKI, WIKI_ANY_LANGUAGE
from pipeline.cleaner.steps import RawDocument, Rejection, apply_steps
from pipeline.cleaner.worker import cleaning_steps
from pipeline.sources.records import RejectedError, convert

# Two sections, how a redirect begins, and the end of the title of a disambiguation page.
SAMPLES = {
    "en": ("See also", "References", "#REDIRECT", "(disambiguation)"),
    "de": ("Einzelnachweise", "Weblinks", "#WEITERLEITUNG", "(Begriffsklärung)"),
    "fr": ("Articles connexes", "Notes et références", "#REDIRECTION", "(homonymie)"),
    "sv": ("Källor", "Externa länkar", "#OMDIRIGERING", "(olika betydelser)"),
    "nl": (
        "Zie ook",
        "Bronnen, noten en/of referenties",
        "#DOORVERWIJZING",
        "(doorverwijspagina)",
    ),
    "es": ("Véase también", "Enlaces externos", "#REDIRECCIÓN", "(desambiguación)"),
    "ru": ("Примечания", "См. также", "#ПЕРЕНАПРАВЛЕНИЕ", "(значения)"),
    "it": ("Note", "Voci correlate", "#RINVIA", "(disambigua)"),
    "pl": ("Przypisy", "Linki zewnętrzne", "#PATRZ", "(ujednoznacznienie)"),
    "zh": ("参考文献", "外部連結", "#重定向", "（消歧義）"),
    "ja": ("脚注", "関連項目", "＃転送", "（曖昧さ回避）"),
    "uk": ("Примітки", "Див. також", "#ПЕРЕНАПРАВЛЕННЯ", "(значення)"),
    "vi": ("Tham khảo", "Liên kết ngoài", "#đổi", "(định hướng)"),
    "ar": ("المراجع", "انظر أيضًا", "#تحويل", "(توضيح)"),
    "pt": ("Referências", "Ligações externas", "#REDIRECIONAMENTO", "(desambiguação)"),
    "fa": ("پانویس", "جستارهای وابسته", "#تغییر_مسیر", "(ابهام‌زدایی)"),
    "ca": ("Referències", "Vegeu també", "#REDIRECT", "(desambiguació)"),
    "id": ("Catatan kaki", "Pranala luar", "#ALIH", "(disambiguasi)"),
    "sr": ("Референце", "Spoljašnje veze", "#Преусмери", "(вишезначна одредница)"),
    "ko": ("각주", "같이 보기", "#넘겨주기", "(동음이의)"),
    "no": ("Referanser", "Eksterne lenker", "#OMDIRIGERING", "(andre betydninger)"),
    "tr": ("KAYNAKÇA", "Dış bağlantılar", "#YÖNLENDİRME", "(anlam ayrımı)"),
    "fi": ("Lähteet", "Aiheesta muualla", "#OHJAUS", "(täsmennyssivu)"),
    "cs": ("Reference", "Externí odkazy", "#PŘESMĚRUJ", "(rozcestník)"),
    "hu": ("Jegyzetek", "További információk", "#ÁTIRÁNYÍTÁS", "(egyértelműsítő lap)"),
    "ro": ("Note", "Legături externe", "#REDIRECTEAZA", "(dezambiguizare)"),
    "eu": ("Erreferentziak", "Kanpo estekak", "#BIRZUZENDU", "(argipena)"),
    "ms": ("Rujukan", "Pautan luar", "#LENCONG", "(nyahkekaburan)"),
    "eo": ("Referencoj", "Eksteraj ligiloj", "#ALIDIREKTU", "(apartigilo)"),
    "he": ("הערות שוליים", "קישורים חיצוניים", "#הפניה", "(פירושונים)"),
    "hy": ("Ծանոթագրություններ", "Տես նաև", "#ՎԵՐԱՀՂՈՒՄ", "(այլ կիրառումներ)"),
    "da": ("Referencer", "Eksterne henvisninger", "#REDIRECT", "(flertydig)"),
    "bg": ("Източници", "Външни препратки", "#виж", "(пояснение)"),
    "sk": ("Referencie", "Externé odkazy", "#presmeruj", "(rozlišovacia stránka)"),
}
LEAD = "The lead."


def cleaned(name: str, *sections: tuple[str, str], lead: str = LEAD, **fields: object) -> str:
    """The text of an article, or the reason why it is none."""
    parts = [{"type": "paragraph", "value": lead}] + [
        {"type": "section", "name": title, "has_parts": [{"type": "paragraph", "value": text}]}
        for title, text in sections
    ]
    record = convert({"name": name, "sections": parts, **fields})
    rules = WIKI if canonical(record.language) == "en" else WIKI_ANY_LANGUAGE
    try:
        document = apply_steps(cleaning_steps(0, {}), RawDocument("", "", "", rules, record))
    except RejectedError as error:
        return error.reason
    return document.reason if isinstance(document, Rejection) else document.text


def said(code: str) -> dict[str, object]:
    return {"in_language": {"identifier": code}}


def test_every_language_of_the_table_has_a_sample() -> None:
    assert SAMPLES.keys() == LANGUAGES.keys()
    assert len(SAMPLES) >= 30


@pytest.mark.parametrize("code", SAMPLES)
def test_sections_that_hold_no_prose_are_left_out(code: str) -> None:
    first, second, *_ = SAMPLES[code]
    for title in (first, second, f"{second.upper()}:"):
        kept = ("Geography", "Mountains.")
        text = cleaned("A", kept, (title, "Smith 2000."), kept, **said(code))
        assert text == "A\n\nThe lead.\n\nGeography\n\nMountains.\n\nGeography\n\nMountains.", title


@pytest.mark.parametrize("code", SAMPLES)
def test_redirects_and_disambiguation_pages_are_no_articles(code: str) -> None:
    *_, redirect, ending = SAMPLES[code]
    assert cleaned("A", lead=f"{redirect} [[B]]", **said(code)) == "redirect"
    assert cleaned("A", lead=f"{redirect.lower()} B", **said(code)) == "redirect"
    assert cleaned("A", lead="#REDIRECT B", **said(code)) == "redirect"
    assert cleaned(f"A {ending}", **said(code)) == "disambiguation"
    for mark in language(code).descriptions:
        assert cleaned("A", description=mark, **said(code)) == "disambiguation"


@pytest.mark.parametrize("code", SAMPLES)
def test_a_record_without_a_language_is_judged_by_what_means_the_same_everywhere(
    code: str,
) -> None:
    *_, redirect, ending = SAMPLES[code]
    assert cleaned("A", lead=f"{redirect} B") == "redirect"
    assert cleaned(f"A {ending}") == "disambiguation"


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("en", "Fonts"),  # Catalan for sources
        ("en", "Note"),  # Italian for references
        ("en", "Annexes"),
        ("es", "Literatura"),
        ("", "Fonts"),
        ("", "Literatura"),
        ("fr", "Sources du Nil"),
        ("xx", "References"),
        ("xx", "Weblinks"),
    ],
)
def test_sections_of_that_name_in_another_language_stay(code: str, title: str) -> None:
    fields = said(code) if code else {}
    assert cleaned("A", (title, "Prose."), **fields).endswith(f"{title}\n\nProse.")


@pytest.mark.parametrize("code", ["de", "ru", "pl", "no", "cs"])
def test_a_section_on_literature_within_another_is_prose(code: str) -> None:
    name = LANGUAGES[code].literature
    inner = {"type": "section", "name": name, "has_parts": [{"type": "paragraph", "value": "P."}]}
    parts = [
        {"type": "paragraph", "value": LEAD},
        {"type": "section", "name": "Kultur", "has_parts": [inner]},
        inner,
    ]
    record = convert({"name": "A", "sections": parts, **said(code)})
    document = apply_steps(cleaning_steps(0, {}), RawDocument("", "", "", WIKI, record))
    assert not isinstance(document, Rejection)
    assert document.text == f"A\n\nThe lead.\n\nKultur\n\n{name}\n\nP."


@pytest.mark.parametrize(
    ("lead", "code", "reason"),
    [
        ("A may refer to:", "en", "disambiguation"),
        ("A may refer to one of these people:", "en", "disambiguation"),
        ("A steht für:", "de", "disambiguation"),
        ("A peut désigner :", "fr", "disambiguation"),
        ("A può riferirsi a:", "it", "disambiguation"),
        ("A kan syfta på", "sv", "disambiguation"),
        ("A kan verwijzen naar:", "nl", "disambiguation"),
        ("A puede referirse a:", "es", "disambiguation"),
        ("A może oznaczać:", "pl", "disambiguation"),
        ("A 可以指：", "zh", "disambiguation"),
        ("A désigne notamment :", "fr", "disambiguation"),
        ("Als Gruppe bezeichnet man eine Menge:", "de", ""),
        ("Le nombre désigne ici ce qui suit :", "fr", ""),
        ("A steht für Stärke. Das ist so.", "de", ""),
        ("Die Form A bezeichnet einen Kreis, der rund ist.", "de", ""),
        ("This may refer to him, or not.", "en", ""),
        ("REDIRECT B", "en", "redirect"),
        ("WEITERLEITUNG B", "de", "redirect"),
        ("Redirect is a word.", "en", ""),
        ("Weiterleitung ist ein Begriff.", "de", ""),
        ("重定向是一种页面。", "zh", ""),
        ("#重定向巴黎", "zh", "redirect"),
        ("#REDIRECTORS are people.", "en", ""),
        ("TAM – przedsiębiorstwo z Mariboru.", "pl", ""),
        ("AL estas mallongigo.", "eo", ""),
        ("#TAM is a tag in English.", "en", ""),
    ],
)
def test_a_first_sentence_is_judged_in_its_language(lead: str, code: str, reason: str) -> None:
    assert cleaned("A", lead=lead, **said(code)) == (reason or f"A\n\n{lead}")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"templates": [{"name": "Template:Disambiguation"}]}, "disambiguation"),
        ({"categories": [{"name": "Category:Disambiguation pages"}]}, "disambiguation"),
        ({"templates": [{"name": "Vorlage:Begriffsklärung"}], **said("de")}, "disambiguation"),
        ({"categories": ["Catégorie:Homonymie"], **said("fr")}, "disambiguation"),
        ({"categories": [{"name": "Category:Word-sense disambiguation"}]}, ""),
        ({"templates": [{"name": "Template:Infobox"}, {"x": 1}, 3, None]}, ""),
        ({"templates": "Disambiguation", "categories": {"name": "Homonymie"}}, ""),
    ],
)
def test_templates_and_categories_mark_disambiguation_pages(fields: dict, reason: str) -> None:
    assert cleaned("A", **fields) == (reason or f"A\n\n{LEAD}")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"in_language": {"identifier": "nl"}, "url": "https://en.wikipedia.org/wiki/A"}, "nl"),
        ({"inLanguage": {"identifier": "pt-BR"}}, "pt"),
        ({"in_language": "zh_Hant"}, "zh"),
        ({"in_language": {"name": "Dutch"}, "is_part_of": {"identifier": "nowiki"}}, "no"),
        ({"isPartOf": {"identifier": "simplewiki"}}, "en"),
        ({"is_part_of": "dewiktionary"}, "de"),
        ({"is_part_of": {"identifier": "zh_yuewiki"}}, "zh-yue"),
        ({"is_part_of": {"identifier": "commonswiki"}}, ""),
        ({"is_part_of": 7, "in_language": [3]}, ""),
        ({"url": "https://sr.m.wikipedia.org/wiki/A"}, "sr"),
        ({"url": "http://fr.wikivoyage.org/wiki/A"}, "fr"),
        ({"url": "https://www.wikipedia.org/"}, ""),
        ({"url": "https://example.org/en.wikipedia.org"}, ""),
    ],
)
def test_a_record_says_its_language_in_several_ways(fields: dict, code: str) -> None:
    assert canonical(convert({"name": "A", **fields}).language) == code


def test_names_are_compared_without_case_signs_and_marks() -> None:
    for one, other in [
        ("DIŞ BAĞLANTILAR", "Dış bağlantılar"),
        ("انظر أيضًا", "انظر أيضا"),
        ("Vezi şi", "Vezi și"),
        ("Տե՛ս նաև:", "Տես նաև"),
        ("پانویس‌ها", "پانویسها"),
        ("Notes  and\u00a0references", "notes and references"),
    ]:
        assert fold(one) == fold(other)
