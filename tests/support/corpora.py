"""Short programs in eleven languages and prose in twenty-two, which cleaning leaves as they are."""

PROGRAMS = {
    "Python": '''from dataclasses import dataclass, field


@dataclass
class Matrix:
    """A dense matrix; rows[0] is the first row."""

    rows: list[list[float]] = field(default_factory=list)

    def __getitem__(self, at: tuple[int, int]) -> float:
        return self.rows[at[0]][at[1]]


def transpose(m):
    if not m.rows:  # nothing to do ( )
        return Matrix([])
    return Matrix([list(row) for row in zip(*m.rows)])


print(f"{transpose(Matrix([[1, 2], [3, 4]]))!r}", end='')
total = {"a": [], 'b': ()}["a"] or [1][0]
''',
    "C": r"""#include <stdio.h>
#include <string.h>
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static int table[256];

int main (int argc, char *argv[])
{
    char name[] = "x", *p = &name[0];
    for (; *p; p++)
        table[(unsigned char) *p]++;
    if (argc > 1 && strcmp (argv[1], "-h") == 0)
        printf ("usage: %s [file]\n", argv[0]);
    return table['x'] | !table[0] & 0x1f;
}
""",
    "C++": """#include <map>
#include <vector>
template <typename T> struct Box { T value; };
std::map<std::string, std::vector<int>> index;
std::vector<std::vector<int>> grid{{1, 2}, {3, 4}};
[[nodiscard]] int at(int i) { return grid[i][0] << 2 >> 1; }
auto f = [](auto&& x) -> decltype(x) { return x; };
int main() { return a < b && c > d ? at(1) : index["k"][1]; }
""",
    "Java": """package org.example;
import java.util.*;
public final class Counter<T extends Comparable<T>> {
    private final Map<T, Integer> counts = new HashMap<>();
    public int[] sizes = new int[10];
    @Override public String toString() { return counts.toString() + sizes[1]; }
    void add(T item) { counts.merge(item, 1, Integer::sum); sizes[0]++; }
    static { System.out.println(" ready "); System.In.read(); }
}
""",
    "JavaScript": """const [first, ...rest] = document.querySelectorAll('ul > li');
rest.forEach((li, i) => { li.innerHTML = `<b>${i}</b>`; });
const o = { a: [], b: {}, c: () => {}, d: /[a-z]+(\\d{1,3})?/g };
if (o.a[0] === undefined || o['b'][1] !== null) { console.log("none", '' , ""); }
for (;;) { break; } // ( ; )
export default async function* walk() { yield* await o?.c?.(); }
""",
    "Rust": """use std::collections::HashMap;
fn parse(s: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut seen: HashMap<&str, Vec<u8>> = HashMap::new();
    let v: [u8; 4] = [0; 4];
    match s.split_once('|') { Some((a, _)) if !a.is_empty() => Ok(()), _ => Ok(()) }
}
#[derive(Debug, Clone)] struct Unit();
impl<'a> Iterator for Words<'a> { type Item = &'a str; }
""",
    "Go": """package main

import ("fmt"; "os")

type Pair[K comparable, V any] struct { Key K; Val V }

func main() {
    xs := []int{1, 2, 3}
    m := map[string][]byte{"a": {}, "b": []byte("x")}
    for i := range xs { fmt.Println(xs[i], m["a"], os.Args[1]) }
    ch := make(chan<- int); go func() { ch <- xs[0] }()
}
""",
    "Haskell": """module Main (main) where
import qualified Data.Map as M
data Tree a = Leaf | Node (Tree a) a (Tree a)
main :: IO ()
main = mapM_ print . filter even $ [x | x <- [1 .. 10], x /= 3]
fmap' f (a, b) = (f a, b) -- (,) <$> a
x |> f = f x
(!) = (M.!)
""",
    "Shell": r"""#!/bin/bash
set -euo pipefail
[[ -n ${1:-} ]] || { echo "usage: $0 FILE" >&2; exit 1; }
if [ -f "$1" ] && [[ "$1" == *.tar.gz ]]; then tar -xzf "$1" -C .; fi
find . -name '*.txt' -print0 | xargs -0 grep -rin -- "$PATTERN" || true
sed 's /a/b/' <<< "$(ls -la ..)" > /dev/null 2>&1
cp -r src/* . ; cd .
foo () { local a=(1 2 3); echo "${a[0]} ${#a[@]}" ; }
""",
    "SQL": """SELECT a.id, COUNT(*) AS n, '' AS empty, 'it''s' AS quoted
FROM "order" AS a LEFT JOIN b ON a.id = b.a_id AND b.tags[1] <> ''
WHERE a.x IN (1, 2, 3) AND a.y BETWEEN 0 AND 9 -- comment
GROUP BY 1 HAVING COUNT(*) > 1;
INSERT INTO t (a , b) VALUES (NULL, '[]'), ((SELECT 1), '{}');
""",
    "HTML": """<!DOCTYPE html>
<html lang="en"><head><title>A &amp; B</title></head>
<body class="x"><!-- a comment -->
<p>One<br>two <b>bold</b> &nbsp; &copy; 2020</p>
<ul><li><a href="#1">[1]</a></li><li>H<sub>2</sub>O</li></ul>
</body></html>
""",
}

PROSE = {
    "English": (
        "The players' union met on 3 May 1998; it wasn't the first time (see above). \"Never "
        'again," she said, "or not soon." Prices rose by 4.5% - well over $1,000 - in the '
        "so-called golden '90s. Is it mother-in-law's? Yes: well-known, pre- and post-war "
        "houses (e.g. No. 10)."
    ),
    "Dutch": (
        "De winkel gaat 's morgens open en 's avonds dicht; hij woont in 's-Gravenhage. De "
        "landbouwproductie en -handel groeiden, zo'n 10%. 's Winters is het er koud, zei "
        "zij: „Zo'n winter!” Foto's, baby's en in- en uitvoer. A.M. de Jong schreef 't in "
        "1925."
    ),
    "German": (
        "Die Herstellung und -verarbeitung von Malz ist alt. Ein- und Ausfuhr, Vor- und "
        "Nachteile sowie -kosten wuchsen. „Das ist’s“, sagte sie, ‚und nun?‘ Im 19. "
        "Jahrhundert (ca. 1850) lebten hier rund 3.000 Menschen. Hans’ Haus steht z. B. in "
        "der Max-Planck-Straße 5."
    ),
    "French": (
        "L’été fut long ; l'hiver, non ! « Qu'est-ce que c'est ? » demanda-t-il. Au XIXe "
        "siècle (vers 1850), aujourd'hui comme hier, c'est-à-dire jusqu'à 1 000 habitants : "
        "environ 3,5 %. Y a-t-il des arcs-en-ciel à Saint-Jean-d'Angély ? M. Dupont "
        "l'affirme."
    ),
    "Spanish": (
        "¿Qué pasó? ¡Nadie lo sabe! En el siglo XIX (hacia 1850) vivían aquí unas 3.000 "
        "personas. «Es así», dijo él; “tal vez”, respondió ella. El teórico-práctico n.º 5 y "
        "la 2.ª edición, etc. Sr. Núñez, EE. UU., a. C. y d. C.: todo está aquí."
    ),
    "Italian": (
        "L'Italia dell'Ottocento non c'è più: un po' di tutto, dall'arte all'amore. "
        "«Cos'è?», chiese. Nel '68 e negli anni '90 (circa) vi abitavano 3.000 persone, cioè "
        "il 4,5%. E-mail, ex-ministro, sud-est: Sant'Agata de' Goti."
    ),
    "Portuguese": (
        "Disse-lhe que não; ver-se-á amanhã. Água d'Oeste, “aspas” e ‘aspas’: no século XIX "
        "(c. 1850) havia 3.000 habitantes, isto é, 4,5%. Guarda-chuva, pós-guerra e "
        "pré-história. Sr. João, n.º 5, 1.ª edição. Não é? É!"
    ),
    "Polish": (
        "„Źdźbło trawy” – tak to nazwał. W XIX w. (ok. 1850 r.) mieszkało tu 3000 osób, "
        "czyli 4,5%. Niebiesko-zielony, północno-wschodni; ul. 3 Maja, tzw. „rynek”. Czy to "
        "już? Tak, m.in. dziś!"
    ),
    "Russian": (
        "«Что это?» — спросил он. В XIX веке (ок. 1850 г.) здесь жило 3000 человек, т. е. "
        "4,5 %. Северо-восточный, кто-то, из-за; № 5. Ещё бы! А. С. Пушкин родился в 1799 "
        "году, и т. д."
    ),
    "Ukrainian": (
        "«Що це?» — запитав він. П'ять років тому, у XIX ст. (бл. 1850 р.), тут жило 3000 "
        "осіб. Північно-східний, будь-хто, з-за; об'єднання. № 5 — ще б пак! І. Я. Франко, "
        "1856 р. н."
    ),
    "Greek": (
        "«Τι είναι;» ρώτησε. Τον 19ο αι. (περ. 1850) ζούσαν εδώ 3.000 άνθρωποι, δηλ. 4,5%. "
        "Απ' όλα, γι' αυτό· μ.Χ. και π.Χ."
    ),
    "Turkish": (
        "İstanbul'da 19. yüzyılda (yaklaşık 1850) 3.000 kişi yaşardı, yani %4,5. “Nedir bu?” "
        "diye sordu; Türkiye'nin, Ankara'dan, 1990'larda. Gül-i ranâ, vb."
    ),
    "Finnish": (
        "Vaa'an ja raa'an välillä: n. 3 000 asukasta (v. 1850). ”Mitä nyt?” hän kysyi. Itä- "
        "ja länsipuoli, -vuotias, EU:n ja n:o 5. Linja-autoasema; esim. 4,5 %."
    ),
    "Chinese": (
        "他说：“这是什么？”——没有人知道。十九世纪（约1850年）这里有3,000人，即4.5%。《红楼梦"
        "》、『三國演義』等書……「真的嗎？」她問。北京（英語：Beijing）是首都；上海、天津亦然"
        "。"
    ),
    "Japanese": (
        "「これは何ですか？」と彼は尋ねた。19世紀（1850年頃）には3,000人が住んでいた。『源氏"
        "物語』は平安時代の作品で、紫式部が書いた。東京都（とうきょうと）・京都――人口は4.5％"
        "増えた……。"
    ),
    "Korean": (
        "“이것은 무엇입니까?” 그가 물었다. 19세기(1850년경)에는 3,000명이 살았다. "
        "《춘향전》, 〈아리랑〉 등. 서울특별시(서울特別市)는 대한민국의 수도이다. '예'라고 "
        "답했다."
    ),
    "Arabic": (
        "قال: «ما هذا؟» وفي القرن التاسع عشر (نحو 1850م) عاش هنا ٣٠٠٠ شخص، أي ٤٫٥٪. كتابٌ "
        "مفيدٌ؛ وُلِدَ في القاهرة، وتُوفّي فيها. «نعم!» قالت هي."
    ),
    "Persian": (
        "گفت: «این چیست؟» در سدهٔ نوزدهم (حدود ۱۸۵۰ م.) ۳٬۰۰۰ نفر در اینجا می‌زیستند. "
        "کتاب‌خانه‌ها و نمی‌خواهم؛ خانهٔ ما. «آری!»"
    ),
    "Hindi": (
        "उसने पूछा, “यह क्या है?” उन्नीसवीं सदी (लगभग 1850) में यहाँ 3,000 लोग रहते थे। "
        "क्षत्रिय, ज्ञान और श्री; डॉ॰ शर्मा ने कहा— ‘हाँ!’ र्\u200dय"
    ),
    "Vietnamese": (
        "Ông hỏi: “Cái gì đây?” Vào thế kỷ XIX (khoảng 1850), nơi đây có 3.000 người, tức "
        "4,5%. Tiếng Việt, Đà Nẵng – Huế; T.P. Hồ Chí Minh, v.v. Ừ, phải!"
    ),
    "Hebrew": (
        'הוא שאל: "מה זה?" במאה ה-19 (בערך 1850) חיו כאן 3,000 איש, כלומר 4.5%. צה"ל, '
        'ארה"ב וד"ר כהן; ב-1948, ג\'ירפה וצ\'ק. "כן!" אמרה.'
    ),
    "Thai": (
        "เขาถามว่า “นี่คืออะไร?” ในคริสต์ศตวรรษที่ 19 (ราว พ.ศ. 2393) มีคนอยู่ 3,000 คน ฯลฯ เด็กๆ และ ๑๒๓"
    ),
}
