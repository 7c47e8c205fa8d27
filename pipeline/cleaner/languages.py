"""What an encyclopedia calls its own parts, by language.

The languages are the thirty Wikipedias with most articles (2025), leaving out those that bots
wrote for the greater part (ceb, war, arz, ce, tt, zh-min-nan, cy, uz, azb), and the four behind
them (hy, da, bg, sk). Redirect words are the magic words of MediaWiki
(`languages/messages/Messages*.php`); section names those that pywikibot knows and articles use;
descriptions those of Wikidata for disambiguation pages. How they are looked up is in
`pipeline.cleaner.naming`.
"""

from typing import NamedTuple


class Names(NamedTuple):
    """The names of one language, separated by `|`.

    `sections` hold no prose of the article; `literature` is such a section only of the article
    itself, since "Culture" has a section of that name too. `title` stands in parentheses behind
    the title of a disambiguation page, `leads` ends its first sentence, `markers` are templates
    and categories that only such pages have (beside those named like the title), and
    `description` is what Wikidata says of them. REDIRECT redirects in every language.
    """

    sections: str
    literature: str = ""
    redirects: str = ""
    title: str = ""
    leads: str = ""
    markers: str = ""
    description: str = ""


LANGUAGES: dict[str, Names] = {
    "en": Names(
        "References|Notes|Footnotes|Citations|Notes and references|References and notes|"
        "Explanatory notes|General references|Works cited|Sources|Further reading|"
        "External links|External link|See also|Bibliography|General and cited references|"
        "Notes and citations|Citations and references|References and sources|Endnotes",
        literature="Literature",
        title="disambiguation",
        leads="may refer to|can refer to|could refer to|might refer to|may also refer to|"
        "can also refer to|may stand for|can stand for|could stand for|might stand for",
        markers="Disambig|Dab|Hndis|Geodis|Disambiguation pages|All disambiguation pages",
        description="Topics referred to by the same term|Wikimedia disambiguation page",
    ),
    "de": Names(
        "Einzelnachweise|Weblinks|Weblink|Siehe auch|Quellen|Quellenangaben|Anmerkungen|Belege|"
        "Fußnoten|Endnoten|Nachweise|Anmerkungen und Einzelnachweise|Einzelnachweise und "
        "Anmerkungen|Literatur und Quellen|Quellen und Literatur|Weiterführende Literatur|"
        "Literatur und Weblinks|Externe Links|Bibliographie|Bibliografie",
        literature="Literatur",
        redirects="WEITERLEITUNG",
        title="Begriffsklärung",
        leads="steht für|bezeichnet|ist der Name von|ist der Familienname|ist der Name folgender",
        description="Wikimedia-Begriffsklärungsseite",
    ),
    "fr": Names(
        "Références|Référence|Notes et références|Notes|Note|Voir aussi|Liens externes|"
        "Lien externe|Bibliographie|Annexes|Articles connexes|Article connexe|Sources|Source|"
        "Notes et sources|Sources et bibliographie|Bibliographie et sources|Pour approfondir|"
        "Pour en savoir plus|Notes, sources et références|Bibliographie sommaire",
        redirects="REDIRECTION",
        title="homonymie",
        leads="peut désigner|peut faire référence à|désigne|peut se référer à|peut correspondre à",
        description="page d'homonymie de Wikimedia",
    ),
    "sv": Names(
        "Referenser|Källor|Källa|Noter|Fotnoter|Externa länkar|Extern länk|Se även|"
        "Vidare läsning|Källhänvisningar|Tryckta källor|Webbkällor|Allmänna källor|"
        "Noter och referenser|Källor och referenser|Övriga källor",
        literature="Litteratur",
        redirects="OMDIRIGERING",
        title="olika betydelser",
        leads="kan syfta på|kan avse|kan betyda",
        markers="Förgrening|Gren|Grensida|Förgreningssidor",
        description="Wikimedia-förgreningssida|förgreningssida inom Wikimedia|grensida",
    ),
    "nl": Names(
        "Zie ook|Externe links|Externe link|Externe verwijzingen|Externe verwijzing|Bronnen|"
        "Bron|Literatuur|Referenties|Noten|Voetnoten|Voetnoot|Bronvermelding|Bronvermeldingen|"
        "Bronnen, noten en/of referenties|Bronnen, noten en referenties|Bronnen en referenties|"
        "Bronnen en noten|Noten en referenties|Referenties en noten|Verder lezen|Weblinks|"
        "Literatuur en bronnen|Bibliografie",
        redirects="DOORVERWIJZING",
        title="doorverwijspagina",
        leads="kan verwijzen naar|kan betrekking hebben op|kan de volgende betekenissen hebben",
        markers="Dp|Wikipedia:Doorverwijspagina",
        description="Wikimedia-doorverwijspagina",
    ),
    "es": Names(
        "Referencias|Notas|Notas y referencias|Referencias y notas|Véase también|"
        "Enlaces externos|Enlace externo|Bibliografía|Fuentes|Lecturas adicionales|"
        "Lectura adicional|Otras lecturas|Para saber más|Notas al pie|Bibliografía adicional|"
        "Bibliografía recomendada|Lecturas recomendadas|Referencias bibliográficas",
        redirects="REDIRECCIÓN|REDIRECCION",
        title="desambiguación",
        leads="puede referirse a|puede hacer referencia a|puede estar referido a",
        markers="Wikipedia:Desambiguación",
        description="página de desambiguación de Wikimedia",
    ),
    "ru": Names(
        "Примечания|Сноски|Источники|Ссылки|См. также|Смотри также|Смотрите также|"
        "Внешние ссылки|Комментарии|Дополнительная литература|Использованная литература|"
        "Примечания и ссылки|Литература и источники|Источники и литература|Библиография|"
        "Литература и ссылки|Ссылки и литература|Рекомендуемая литература",
        literature="Литература",
        redirects="перенаправление|перенапр",
        title="значения",
        leads="может означать|может обозначать|может относиться к|многозначный термин",
        markers="Неоднозначность|Многозначность|Многозначные термины",
        description="страница значений в проекте Викимедиа",
    ),
    "it": Names(
        "Note|Bibliografia|Voci correlate|Altri progetti|Collegamenti esterni|Vedi anche|"
        "Riferimenti|Fonti|Annotazioni|Note bibliografiche|Letture di approfondimento|"
        "Riferimenti bibliografici|Collegamento esterno|Note e riferimenti",
        redirects="RINVIA|RINVIO|RIMANDO",
        title="disambigua",
        leads="può riferirsi a|può indicare|può significare|può fare riferimento a",
        description="pagina di disambiguazione di un progetto Wikimedia",
    ),
    "pl": Names(
        "Przypisy|Bibliografia|Linki zewnętrzne|Zobacz też|Zobacz także|Uwagi|Źródła|"
        "Literatura przedmiotu|Literatura dodatkowa|Przypisy i uwagi|Uwagi i przypisy|"
        "Literatura uzupełniająca",
        literature="Literatura",
        redirects="PATRZ|PRZEKIERUJ|TAM",
        title="ujednoznacznienie",
        leads="może odnosić się do|może oznaczać|może dotyczyć",
        markers="Disambig|Strony ujednoznaczniające",
        description="strona ujednoznaczniająca w projekcie Wikimedia|strona ujednoznaczniająca",
    ),
    "zh": Names(
        "参考文献|參考文獻|参考资料|參考資料|外部链接|外部連結|外部连接|外部連接|外部连结|参见|參見|"
        "参看|參看|注释|註釋|注釋|脚注|腳註|注解|註解|资料来源|資料來源|延伸阅读|延伸閱讀|相关条目|"
        "相關條目|参考|參考|参考书目|參考書目|扩展阅读|擴展閱讀|参照|參照|注脚|註腳|引注|引用文献|"
        "引用文獻|相關連結|相关链接|參考來源|参考来源|内部链接|內部連結|注释与参考文献",
        redirects="重定向|重新導向",
        title="消歧义|消歧義",
        leads="可以指|可能指|可能是指|可指|可以是指",
        markers="Disambig",
        description="维基媒体消歧义页|維基媒體消歧義頁",
    ),
    "ja": Names(
        "脚注|注釈|出典|参考文献|関連項目|外部リンク|関連文献|参考資料|脚注欄|脚注・出典|註|注|註釈|"
        "参照|参考|注釈・出典|出典・脚注|関連書籍|引用文献|参考図書|関連リンク|脚注・参考文献",
        redirects="転送|リダイレクト",
        title="曖昧さ回避",
        leads="以下のものを指す|次のものを指す|以下の意味がある|以下を指す",
        markers="Aimai|Disambig",
        description="ウィキメディアの曖昧さ回避ページ",
    ),
    "uk": Names(
        "Примітки|Виноски|Джерела|Посилання|Див. також|Дивіться також|Додаткова література|"
        "Зовнішні посилання|Джерела та література|Література та джерела|Джерела і література|"
        "Література і джерела|Коментарі|Бібліографія|Джерела й література|Див також",
        literature="Література",
        redirects="ПЕРЕНАПРАВЛЕННЯ|ПЕРЕНАПР|перенаправление",
        title="значення",
        leads="може означати|може позначати|може стосуватися|багатозначний термін",
        markers="Неоднозначність|Багатозначні геопункти|Багатозначні терміни",
        description="сторінка значень у проекті Вікімедіа|сторінка значень в проекті Вікімедіа",
    ),
    "vi": Names(
        "Tham khảo|Chú thích|Liên kết ngoài|Xem thêm|Ghi chú|Đọc thêm|Nguồn|Nguồn tham khảo|"
        "Tài liệu tham khảo|Thư mục|Thư mục tham khảo|Tham chiếu|Chú giải|Chú thích và tham khảo",
        redirects="đổi",
        title="định hướng",
        leads="có thể đề cập đến|có thể chỉ|có thể nói đến",
        markers="Trang định hướng",
        description="trang định hướng Wikimedia",
    ),
    "ar": Names(
        "مراجع|المراجع|مصادر|المصادر|مراجع ومصادر|مصادر ومراجع|المراجع والمصادر|المصادر والمراجع|"
        "وصلات خارجية|روابط خارجية|انظر أيضا|اقرأ أيضا|طالع أيضا|ملاحظات|هوامش|الهوامش|"
        "قراءة متعمقة|قراءات إضافية|معلومات المراجع|ملاحظات ومراجع|هوامش ومراجع",
        redirects="تحويل",
        title="توضيح",
        leads="قد تشير إلى|قد يشير إلى|يمكن أن تشير إلى|يمكن أن يشير إلى",
        markers="صفحات توضيح",
        description="صفحة توضيح لويكيميديا",
    ),
    "pt": Names(
        "Referências|Notas|Notas e referências|Referências e notas|Referências bibliográficas|"
        "Ver também|Veja também|Ligações externas|Ligação externa|Links externos|Bibliografia|"
        "Fontes|Leitura adicional|Leituras adicionais|Leitura complementar|Notas de rodapé|"
        "Bibliografia complementar|Para ler mais|Leituras recomendadas",
        redirects="REDIRECIONAMENTO",
        title="desambiguação",
        leads="pode referir-se a|pode se referir a|pode referir-se|pode significar",
        description="página de desambiguação da Wikimedia|página de desambiguação de um projeto "
        "da Wikimedia",
    ),
    "fa": Names(
        "منابع|منبع|پانویس|پانویس‌ها|پیوند به بیرون|جستارهای وابسته|یادداشت‌ها|یادداشت|"
        "برای مطالعهٔ بیشتر|مطالعهٔ بیشتر|پیوندهای بیرونی|کتاب‌شناسی|ارجاعات|جستارهای مرتبط|"
        "همچنین ببینید|پانویس و منابع|منابع و پانویس",
        redirects="تغییر مسیر|تغییرمسیر",
        title="ابهام‌زدایی",
        leads="ممکن است به موارد زیر اشاره کند|می‌تواند به موارد زیر اشاره کند",
        markers="صفحه‌های ابهام‌زدایی",
        description="یک صفحهٔ ابهام‌زدایی در ویکی‌پدیا|یک صفحهٔ ابهام‌زدایی در ویکی‌مدیا",
    ),
    "ca": Names(
        "Referències|Notes|Notes i referències|Referències i notes|Vegeu també|Enllaços externs|"
        "Enllaç extern|Bibliografia|Bibliografia complementària|Bibliografia addicional|Fonts|"
        "Enllaços|Per a més informació|Lectures addicionals|Lectures recomanades",
        title="desambiguació",
        leads="pot referir-se a|pot fer referència a",
        markers="Pàgines de desambiguació",
        description="pàgina de desambiguació de Wikimedia",
    ),
    "id": Names(
        "Referensi|Catatan|Catatan kaki|Pranala luar|Lihat pula|Lihat juga|Bacaan lanjutan|"
        "Bacaan lebih lanjut|Bacaan tambahan|Daftar pustaka|Rujukan|Sumber|Kepustakaan|"
        "Bibliografi|Pustaka|Catatan dan referensi|Catatan kaki dan referensi|Daftar referensi",
        redirects="ALIH",
        title="disambiguasi|disambig",
        leads="dapat mengacu pada|dapat merujuk pada|bisa merujuk pada|dapat merujuk kepada",
        description="halaman disambiguasi Wikimedia|halaman disambiguasi",
    ),
    "sr": Names(
        "Референце|Извори|Напомене|Спољашње везе|Спољне везе|Види још|Видети још|Даље читање|"
        "Додатна литература|Белешке|Фусноте|Библиографија|Извори и литература|"
        "Reference|Izvori|Napomene|Spoljašnje veze|Spoljne veze|Vidi još|Vidi također|"
        "Dodatna literatura|Beleške|Bilješke|Fusnote|Bibliografija|Vanjske veze|Vanjske poveznice|"
        "Povezano|Također pogledati|Također pogledajte",
        literature="Литература|Literatura",
        redirects="Преусмери|Преусмјери|PREUSMERI|PREUSMJERI",
        title="вишезначна одредница|višeznačna odrednica",
        leads="може да се односи на|може означавати|može se odnositi na|može značiti",
        description="вишезначна одредница на Викимедији|čvor stranica na Wikimediji",
    ),
    "ko": Names(
        "각주|주석|참고 문헌|참고문헌|같이 보기|함께 보기|외부 링크|외부링크|출처|참고 자료|"
        "참고자료|각주 및 참고 문헌|주석 및 참고 자료|더 읽어보기|더 읽을거리|내용주|참조주|"
        "관련 항목|관련 문헌|인용 문헌|바깥 고리|바깥고리|각주와 참고 문헌",
        redirects="넘겨주기",
        title="동음이의",
        leads="다음을 가리킨다|다음을 뜻한다|다음 뜻이 있다|다음을 말한다|다음 사람을 가리킨다",
        markers="동음이의어 문서",
        description="위키미디어 동음이의어 문서",
    ),
    "no": Names(
        "Referanser|Eksterne lenker|Ekstern lenke|Se også|Kilder|Kilde|Noter|Fotnoter|"
        "Videre lesning|Kilder og referanser|Noter og referanser|Referanser og noter|"
        "Eksterne lenkjer|Sjå òg|Sjå også|Kjelder|Referansar|Noter og kilder|Type fotnoter",
        literature="Litteratur",
        redirects="OMDIRIGERING|OMDIRIGER",
        title="andre betydninger|andre tydingar|flertydig",
        leads="kan referere til|kan vise til|kan bety",
        markers="Pekere|Pekerside|Fleirtydingssider",
        description="Wikimedia-pekerside|Wikimedia-fleirtydingsside",
    ),
    "tr": Names(
        "Kaynakça|Kaynaklar|Referanslar|Notlar|Ayrıca bakınız|Dış bağlantılar|Dış bağlantı|"
        "Dipnotlar|Dipnot|Konuyla ilgili yayınlar|Ek okuma|Bibliyografya|Genel kaynaklar|"
        "Daha fazla okuma|İlave okumalar|Notlar ve kaynaklar|Kaynak|"
        "Konuyla ilgili eserler|Ayrıca bkz",
        redirects="YÖNLENDİRME|YÖNLENDİR",
        title="anlam ayrımı",
        leads="şu anlamlara gelebilir|aşağıdaki anlamlara gelebilir|şunlardan biri olabilir",
        markers="Anlam ayrım",
        description="Vikimedya anlam ayrımı sayfası|Wikimedia anlam ayrımı sayfası",
    ),
    "fi": Names(
        "Lähteet|Viitteet|Aiheesta muualla|Kirjallisuutta|Katso myös|Huomautukset|"
        "Viitteet ja lähteet|Lähteet ja viitteet|Ulkoiset linkit|Linkkejä|Lähde|Viite",
        literature="Kirjallisuus",
        redirects="OHJAUS|UUDELLEENOHJAUS",
        title="täsmennyssivu",
        leads="voi tarkoittaa|voi viitata",
        markers="Täsmennyssivut",
        description="Wikimedia-täsmennyssivu",
    ),
    "cs": Names(
        "Reference|Poznámky|Externí odkazy|Související články|Další literatura|Odkazy|Zdroje|"
        "Poznámky a reference|Reference a poznámky|Doporučená literatura|Použitá literatura|"
        "Literatura a prameny|Prameny a literatura|Zdroje a literatura",
        literature="Literatura",
        redirects="PŘESMĚRUJ|presmeruj",
        title="rozcestník",
        leads="může znamenat|může označovat|má více významů",
        markers="Rozcestníky|Wikipedie:Rozcestníky",
        description="rozcestník na projektech Wikimedia",
    ),
    "hu": Names(
        "Jegyzetek|Források|További információk|Kapcsolódó szócikkek|Külső hivatkozások|"
        "Lásd még|Hivatkozások|Megjegyzések|Források és jegyzetek|Jegyzetek és források|"
        "Ajánlott irodalom|További irodalom|Felhasznált irodalom|Szakirodalom|Lábjegyzetek|"
        "Külső linkek|Bibliográfia|Fordítás|Forrás",
        literature="Irodalom",
        redirects="ÁTIRÁNYÍTÁS",
        title="egyértelműsítő lap",
        leads="az alábbiakat jelentheti|a következőket jelentheti|az alábbi dolgokra utalhat",
        markers="Egyért|Egyértelműsítő lapok",
        description="Wikimédia-egyértelműsítőlap|egyértelműsítő lap",
    ),
    "ro": Names(
        "Note|Referințe|Note și referințe|Referințe și note|Bibliografie|Legături externe|"
        "Vezi și|Lectură suplimentară|Lecturi suplimentare|Surse|Note explicative|"
        "Bibliografie suplimentară|Note bibliografice|Legături|A se vedea și",
        redirects="REDIRECTEAZA",
        title="dezambiguizare",
        leads="se poate referi la|poate însemna|poate desemna",
        description="pagină de dezambiguizare Wikimedia",
    ),
    "eu": Names(
        "Erreferentziak|Oharrak|Ikus, gainera|Ikus gainera|Ikus ere|Kanpo estekak|Kanpo loturak|"
        "Bibliografia|Oharrak eta erreferentziak|Erreferentziak eta oharrak|Iturriak|"
        "Irakurketa gehigarria|Oin-oharrak|Kanpo esteka",
        redirects="BIRZUZENDU",
        title="argipena",
        leads="esan nahi izan dezake|honako hau izan daiteke|honakoa izan daiteke",
        markers="Argipen|Argipen orriak",
        description="Wikimediako argipen orri|Wikimediako argipen orria",
    ),
    "ms": Names(
        "Rujukan|Nota|Pautan luar|Lihat juga|Lihat pula|Bacaan lanjut|Bacaan lanjutan|Nota kaki|"
        "Sumber|Bibliografi|Catatan|Catatan kaki|Bahan bacaan|Bacaan tambahan|Nota dan rujukan",
        redirects="LENCONG",
        title="nyahkekaburan",
        leads="boleh merujuk kepada|mungkin merujuk kepada|boleh bermaksud",
        description="laman nyahkekaburan",
    ),
    "eo": Names(
        "Referencoj|Notoj|Eksteraj ligiloj|Ekstera ligilo|Vidu ankaŭ|Bibliografio|Fontoj|"
        "Piednotoj|Notoj kaj referencoj|Referencoj kaj notoj|Por plia legado|Eksteraj ligoj",
        literature="Literaturo",
        redirects="ALIDIREKTI|ALIDIREKTU|AL",
        title="apartigilo",
        leads="povas signifi|povas rilati al",
        markers="Apartigiloj",
        description="Vikimedia apartigilo",
    ),
    "he": Names(
        "הערות שוליים|קישורים חיצוניים|ראו גם|ראה גם|לקריאה נוספת|מקורות|ביאורים|ביבליוגרפיה|"
        "הערות|הערות שוליים ומקורות|קישור חיצוני",
        redirects="הפניה",
        title="פירושונים",
        leads="האם התכוונתם ל|האם הכוונה ל|עשוי להתייחס ל",
        markers="פירוש נוסף",
        description="דף פירושונים",
    ),
    "hy": Names(
        "Ծանոթագրություններ|Ծանոթագրություն|Արտաքին հղումներ|Տես նաև|Աղբյուրներ|Աղբյուր|"
        "Նշումներ|Հղումներ|Օգտագործված գրականություն|Մատենագիտություն|"
        "Ծանոթագրություններ և հղումներ|Տե՛ս նաև",
        literature="Գրականություն",
        redirects="ՎԵՐԱՀՂՈՒՄ",
        title="այլ կիրառումներ",
        leads="կարող է նշանակել|կարող է վերաբերել",
        markers="Բազմիմաստություն",
        description="Վիքիմեդիայի նախագծի բազմիմաստության փարատման էջ",
    ),
    "da": Names(
        "Referencer|Noter|Kilder|Kilde|Eksterne henvisninger|Ekstern henvisning|Se også|"
        "Fodnoter|Eksterne links|Yderligere læsning|Videre læsning|Kilder og henvisninger|"
        "Noter og referencer|Referencer og noter|Kildehenvisninger|Henvisninger|Kilder og noter",
        literature="Litteratur",
        title="flertydig",
        leads="kan henvise til|har flere betydninger|kan betyde|kan referere til",
        markers="Flertydig",
        description="Wikimedia-flertydigside|Wikipedia-flertydigside",
    ),
    "bg": Names(
        "Източници|Бележки|Външни препратки|Вижте също|Бележки и източници|"
        "Източници и бележки|Външни връзки|Виж още|Вижте още|Допълнителна литература|"
        "За допълнително четене|Библиография|Препратки|Вж. също|Бележки под линия|Виж също",
        literature="Литература",
        redirects="виж|пренасочване",
        title="пояснение",
        leads="може да се отнася за|може да се отнася до|може да означава",
        markers="Пояснителна страница|Пояснителни страници",
        description="Уикимедия пояснителна страница",
    ),
    "sk": Names(
        "Referencie|Poznámky|Externé odkazy|Pozri aj|Zdroje|Zdroj|Iné projekty|"
        "Ďalšia literatúra|Poznámky a referencie|Referencie a poznámky|Odkazy|"
        "Použitá literatúra|Súvisiace články|Odporúčaná literatúra",
        literature="Literatúra",
        redirects="presmeruj|PŘESMĚRUJ",
        title="rozlišovacia stránka",
        leads="môže označovať|môže znamenať",
        markers="Rozlišovacie stránky|Disambig",
        description="rozlišovacia stránka|rozlišovacia stránka projektov Wikimedia",
    ),
}  # fmt: skip
