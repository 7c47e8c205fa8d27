"""Pairs of English sentences, one right and one wrong, which differ as little as can be.

Each paradigm has frames and rows of words, all written for this project. In a frame `{0}` is the
first word of a row, and `[right|wrong]` is where the two sentences differ. Where the language
allows it, a paradigm has a second frame in which the same words are right and wrong the other way
round, so that neither the words alone nor the length of a sentence give the answer away. The
phenomena are those of BLiMP (Warstadt et al. 2020, arXiv:1912.00582) and some of school grammar;
no sentence is taken from there.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, TypedDict

_CHOICE = re.compile(r"\[([^|\]]*)\|([^|\]]*)\]")


class Pair(TypedDict):
    """A row, in the shape of BLiMP; `pair_id` counts from 0 within its paradigm."""

    good: str
    bad: str
    paradigm: str
    phenomenon: str
    pair_id: int


class Paradigm(NamedTuple):
    """Sentences of one build; words of a row are divided by commas, rows by semicolons."""

    phenomenon: str
    name: str
    frames: tuple[str, ...]
    words: str

    def pairs(self) -> Iterator[Pair]:
        """Every row in every frame, row by row."""
        rows = [[word.strip() for word in row.split(",")] for row in self.words.split(";")]
        sentences = [frame.format(*row) for row in rows for frame in self.frames]
        for number, sentence in enumerate(sentences):
            good, bad = _CHOICE.sub(r"\1", sentence), _CHOICE.sub(r"\2", sentence)
            yield Pair(
                good=good,
                bad=bad,
                paradigm=self.name,
                phenomenon=self.phenomenon,
                pair_id=number,
            )


def grammar_pairs() -> list[Pair]:
    """All pairs, paradigm by paradigm."""
    return [pair for paradigm in PARADIGMS for pair in paradigm.pairs()]


PARADIGMS = (
    Paradigm(
        "subject_verb_agreement",
        "agreement_simple",
        ("The {0} [{2}|{3}] every day.", "The {1} [{3}|{2}] every day."),
        "boy, boys, sings, sing; girl, girls, runs, run; dog, dogs, barks, bark;"
        "man, men, works, work; woman, women, dances, dance; child, children, plays, play;"
        "bird, birds, flies, fly; friend, friends, calls, call; king, kings, rides, ride;"
        "teacher, teachers, walks, walk",
    ),
    Paradigm(
        "subject_verb_agreement",
        "agreement_of_be",
        (
            *("The {0} [is|are] {2}.", "The {1} [are|is] {2}."),
            *("The {0} [was|were] {2} yesterday.", "The {1} [were|was] {2} yesterday."),
        ),
        "dog, dogs, hungry; girl, girls, happy; man, men, tired; house, houses, cold;"
        "door, doors, open; child, children, sick",
    ),
    Paradigm(
        "subject_verb_agreement",
        "agreement_across_phrase",
        ("The {0} near the {3} [is|are] {4}.", "The {1} near the {2} [are|is] {4}."),
        "tree, trees, house, houses, old; boy, boys, dog, dogs, happy;"
        "chair, chairs, door, doors, white; man, men, horse, horses, tired;"
        "shop, shops, school, schools, closed; cat, cats, bird, birds, hungry;"
        "garden, gardens, river, rivers, beautiful; car, cars, bus, buses, red;"
        "box, boxes, bed, beds, heavy; woman, women, window, windows, sad",
    ),
    Paradigm(
        "subject_verb_agreement",
        "agreement_across_relative_clause",
        ("The {0} that the {3} {4} [is|are] {5}.", "The {1} that the {2} {4} [are|is] {5}."),
        "boy, boys, girl, girls, saw, tall; dog, dogs, man, men, found, small;"
        "book, books, child, children, wanted, new; cake, cakes, mother, mothers, made, good;"
        "song, songs, king, kings, liked, old; toy, toys, baby, babies, lost, red;"
        "picture, pictures, teacher, teachers, painted, beautiful;"
        "horse, horses, woman, women, bought, strong;"
        "letter, letters, friend, friends, wrote, long;"
        "bag, bags, worker, workers, carried, heavy",
    ),
    Paradigm(
        "subject_verb_agreement",
        "agreement_in_questions",
        ("[Does|Do] the {0} like the {2}?", "[Do|Does] the {1} like the {2}?"),
        "boy, boys, music; girl, girls, story; dog, dogs, water; child, children, cake;"
        "man, men, house; woman, women, picture; cat, cats, fish; teacher, teachers, book",
    ),
    Paradigm(
        "existential_there",
        "there_is_and_are",
        ("There [is|are] a {0} in the {2}.", "There [are|is] two {1} in the {2}."),
        "cat, cats, garden; book, books, bag; man, men, car; child, children, room;"
        "horse, horses, field; table, tables, kitchen; tree, trees, park; bed, beds, house",
    ),
    Paradigm(
        "anaphor_agreement",
        "anaphor_gender",
        ("The {0} saw [himself|herself] in the {2}.", "The {1} saw [herself|himself] in the {2}."),
        "king, queen, mirror; man, woman, water; boy, girl, picture; father, mother, window;"
        "brother, sister, film; prince, princess, river; uncle, aunt, photo; son, daughter, glass",
    ),
    Paradigm(
        "anaphor_agreement",
        "anaphor_number",
        ("The {0} {2} [himself|themselves].", "The {1} {2} [themselves|himself]."),
        "boy, boys, hurt; man, men, helped; king, kings, loved; father, fathers, washed;"
        "brother, brothers, dressed; prince, princes, blamed; uncle, uncles, saved;"
        "son, sons, enjoyed",
    ),
    Paradigm(
        "anaphor_agreement",
        "anaphor_across_relative_clause",
        (
            "The {0} that the {3} {4} {5} [herself|themselves].",
            "The {1} that the {2} {4} {5} [themselves|himself].",
            "The {2} that the {1} {4} {5} [himself|themselves].",
            "The {3} that the {0} {4} {5} [themselves|herself].",
        ),
        "girl, girls, boy, boys, knew, hurt; woman, women, man, men, met, helped;"
        "queen, queens, king, kings, loved, blamed;"
        "mother, mothers, father, fathers, called, saved;"
        "sister, sisters, brother, brothers, followed, washed",
    ),
    Paradigm(
        "determiner_noun_agreement",
        "determiner_noun",
        (
            *("She likes [this|these] {0}.", "She likes [these|this] {1}."),
            *("He wants that [{0}|{1}].", "He wants those [{1}|{0}]."),
        ),
        "book, books; toy, toys; house, houses; picture, pictures; horse, horses; cake, cakes",
    ),
    Paradigm(
        "determiner_noun_agreement",
        "determiner_adjective_noun",
        ("[This|These] {2} {0} came from the {3}.", "[These|This] {2} {1} came from the {3}."),
        "letter, letters, long, city; apple, apples, red, garden; stone, stones, black, river;"
        "child, children, young, village; man, men, strange, north; box, boxes, heavy, shop;"
        "bird, birds, small, forest; woman, women, old, island",
    ),
    Paradigm(
        "irregular_forms",
        "past_and_perfect",
        ("She [{0}|{1}] the {2} yesterday.", "She has [{1}|{0}] the {2}."),
        "broke, broken, cup; took, taken, money; wrote, written, letter; ate, eaten, cake;"
        "saw, seen, film; drew, drawn, picture; chose, chosen, dress; stole, stolen, horse;"
        "wore, worn, coat; threw, thrown, ball",
    ),
    Paradigm(
        "irregular_forms",
        "past_and_passive",
        ("The {3} [{0}|{1}] the {2}.", "The {2} was [{1}|{0}] by the {3}."),
        "broke, broken, window, boy; wrote, written, book, teacher; ate, eaten, fish, cat;"
        "took, taken, bag, man; chose, chosen, ring, queen; drew, drawn, map, child;"
        "stole, stolen, car, woman; tore, torn, paper, dog; threw, thrown, stone, girl",
    ),
    Paradigm(
        "negative_polarity",
        "ever_below_no",
        (
            "[No|The] {0} that [the|no] {1} knew has ever {2}.",
            "[No|The] {1} that [the|no] {0} knew has ever {2}.",
        ),
        "boy, girl, seen the sea; man, woman, been to the city; king, queen, lost the crown;"
        "child, teacher, told a lie; farmer, doctor, bought a car",
    ),
    Paradigm(
        "negative_polarity",
        "either_and_too",
        (
            "The {0} did not {2}, and the {1} did not {2} [either|too].",
            "The {0} {3}, and the {1} {3} [too|either].",
        ),
        "boy, girl, come, came; man, woman, laugh, laughed; king, queen, sleep, slept;"
        "dog, cat, eat, ate; father, mother, answer, answered; brother, sister, cry, cried;"
        "teacher, child, sing, sang; uncle, aunt, wait, waited",
    ),
    Paradigm(
        "negative_polarity",
        "neither_and_so",
        (
            "The {0} cannot {2}, and [neither|so] can the {1}.",
            "The {0} can {2}, and [so|neither] can the {1}.",
        ),
        "boy, girl, swim; man, woman, drive; king, queen, ride; dog, cat, jump;"
        "father, mother, cook; brother, sister, dance; teacher, child, draw; bird, bee, fly",
    ),
    Paradigm(
        "filler_gap",
        "what_and_that",
        ("She knows [what|that] the {0} {1}.", "She knows [that|what] the {0} {1} a {2}."),
        "boy, made, cake; girl, bought, dress; man, found, key; woman, wanted, dog;"
        "king, built, house; child, needed, pen; teacher, brought, book; cat, caught, bird;"
        "worker, carried, box; farmer, took, horse",
    ),
    Paradigm(
        "island_effects",
        "adjunct_island",
        ("Who did {0} {2} [{4} {3} {1}|{1} {4} {3}]?",),
        "Anna, Tom, see, calling, before; John, Mary, meet, helping, after;"
        "Peter, Lucy, thank, leaving, before; Sara, Jack, visit, finding, after;"
        "Ben, Lily, follow, meeting, before; Mary, Peter, call, seeing, after;"
        "Jack, Anna, help, visiting, before; Lucy, John, ask, thanking, after;"
        "Tom, Sara, find, following, before; Lily, Ben, hear, asking, after",
    ),
    Paradigm(
        "island_effects",
        "coordinate_structure",
        ("What did the {0} [and the {1} {2}|{2} and the {1}]?",),
        "boy, girl, eat; man, woman, buy; king, queen, want; cat, dog, find; teacher, child, read;"
        "father, mother, make; brother, sister, see; farmer, worker, build; uncle, aunt, bring;"
        "prince, princess, need",
    ),
    Paradigm(
        "island_effects",
        "left_branch",
        ("{3} [{0} did the {1} {2}|did the {1} {2} {0}]?",),
        "book, girl, read, Whose; house, man, buy, Which; song, woman, sing, Which;"
        "car, boy, take, Whose; dog, child, find, Whose; letter, king, write, Which;"
        "cake, teacher, make, Which; horse, farmer, want, Whose; door, queen, open, Which;"
        "friend, mother, call, Whose",
    ),
    Paradigm(
        "argument_structure",
        "with_and_without_object",
        ("{0} [{1}|{2}] the {3}.", "{0} [{2}|{1}] near the {4}."),
        "He, carried, slept, box, river; She, found, smiled, key, door;"
        "He, took, arrived, money, house; She, made, laughed, cake, window;"
        "He, wanted, appeared, horse, castle; She, brought, waited, book, school;"
        "He, caught, slept, ball, tree; She, used, arrived, wagon, barn;"
        "She, held, smiled, flower, garden; He, liked, waited, bone, fire",
    ),
    Paradigm(
        "argument_structure",
        "tell_and_say",
        ("The {0} [told|said] the {1} the {2}.", "The {0} [said|told] that the {1} was {3}."),
        "girl, boy, truth, tired; man, woman, story, sick; king, queen, news, happy;"
        "child, teacher, secret, old; mother, father, plan, right; doctor, farmer, price, strong;"
        "sister, brother, name, hungry; uncle, aunt, reason, angry",
    ),
    Paradigm(
        "quantifiers",
        "many_and_much",
        ("There were not [many|much] {0} in the {2}.", "There was not [much|many] {1} in the {2}."),
        "books, paper, room; trees, grass, field; apples, bread, kitchen; cups, milk, house;"
        "boats, water, harbor; people, snow, street; toys, sand, box; children, noise, school",
    ),
    Paradigm(
        "quantifiers",
        "every_and_all",
        ("[Every|All] {0} in the {2} was {3}.", "[All|Every] {1} in the {2} were {3}."),
        "boy, boys, room, happy; girl, girls, school, tired; tree, trees, garden, green;"
        "man, men, village, rich; child, children, house, sick; window, windows, tower, open;"
        "woman, women, city, free; horse, horses, field, brown",
    ),
    Paradigm(
        "auxiliaries",
        "can_and_is",
        ("The {0} can [{1}|{2}] very well.", "The {0} is [{2}|{1}] very well."),
        "boy, sing, singing; girl, dance, dancing; bird, fly, flying; man, cook, cooking;"
        "horse, jump, jumping; child, draw, drawing; woman, write, writing; dog, swim, swimming;"
        "teacher, speak, speaking; cat, climb, climbing",
    ),
    Paradigm(
        "auxiliaries",
        "did_and_has",
        ("The {0} did not [{1}|{2}] the {3}.", "The {0} has not [{2}|{1}] the {3}."),
        "boy, take, taken, bag; cat, eat, eaten, fish; girl, see, seen, moon;"
        "king, write, written, letter; child, break, broken, cup; man, hear, heard, music;"
        "mother, make, made, bread; woman, buy, bought, dress; farmer, lose, lost, sheep;"
        "dog, bring, brought, stick",
    ),
    Paradigm(
        "pronoun_case",
        "subject_and_object",
        ("[{0}|{1}] saw the {4}.", "The {4} saw [{3}|{2}]."),
        "He, Him, he, him, teacher; She, Her, she, her, doctor; They, Them, they, them, king;"
        "We, Us, we, us, farmer; I, Me, I, me, child; He, Him, he, him, horse;"
        "She, Her, she, her, boy; They, Them, they, them, dog; We, Us, we, us, queen;"
        "I, Me, I, me, bird",
    ),
    Paradigm(
        "pronoun_case",
        "behind_preposition_and_in_clause",
        ("The {0} came with [{2}|{1}].", "The {0} came when [{1}|{2}] called."),
        "girl, he, him; boy, she, her; man, they, them; woman, we, us; child, I, me;"
        "dog, he, him; cat, she, her; king, they, them; teacher, we, us; doctor, I, me",
    ),
    Paradigm(
        "possessives",
        "my_and_mine",
        ("This is [{0}|{1}] {2}.", "This {2} is [{1}|{0}]."),
        "my, mine, house; her, hers, book; their, theirs, car; our, ours, garden;"
        "your, yours, chair; my, mine, dog; her, hers, cup; their, theirs, room; our, ours, boat;"
        "your, yours, key",
    ),
    Paradigm(
        "comparison",
        "than_and_as",
        ("The {0} is [{2}|{1}] than the {3}.", "The {0} is as [{1}|{2}] as the {3}."),
        "tree, tall, taller, house; horse, fast, faster, dog; river, long, longer, road;"
        "man, old, older, woman; stone, heavy, heavier, chair; soup, warm, warmer, milk;"
        "cat, small, smaller, sheep; bread, cheap, cheaper, meat; boy, young, younger, girl;"
        "king, rich, richer, farmer",
    ),
    Paradigm(
        "articles",
        "a_and_an",
        ("She saw [a|an] {0}.", "She saw [an|a] {1}."),
        "cat, apple; dog, egg; horse, island; house, elephant; boat, old man;"
        "river, empty street; tree, angry king; bird, orange; car, open door; boy, artist",
    ),
    Paradigm(
        "word_order",
        "question",
        ("{0} [did the {1}|the {1} did] {2}?",),
        "Where, boy, go; Why, girl, cry; When, man, leave; Where, king, live; Why, dog, bark;"
        "When, train, arrive; How, woman, escape; Where, bird, sleep; Why, teacher, laugh;"
        "How, child, win",
    ),
    Paradigm(
        "word_order",
        "adjective",
        ("The [{0} {1}|{1} {0}] was in the {2}.",),
        "red, ball, box; old, man, garden; little, girl, house; black, cat, kitchen;"
        "big, dog, street; new, book, bag; young, king, castle; white, horse, field;"
        "green, apple, basket; tall, woman, shop",
    ),
    Paradigm(
        "word_order",
        "adverb",
        ("The {0} [{1} {2}|{2} {1}] the {3}.",),
        "boy, never, eats, fish; girl, always, sings, song; man, often, drives, car;"
        "woman, never, opens, window; dog, always, finds, ball; child, often, wants, cake;"
        "king, never, wears, crown; teacher, always, brings, book; cat, often, catches, bird;"
        "farmer, never, sells, horse",
    ),
    Paradigm(
        "tense",
        "yesterday_and_tomorrow",
        ("The {0} [{1}|will {2}] the {3} yesterday.", "The {0} [will {2}|{1}] the {3} tomorrow."),
        "boy, bought, buy, book; girl, saw, see, film; man, sold, sell, car;"
        "woman, made, make, cake; king, met, meet, queen; child, found, find, toy;"
        "teacher, wrote, write, letter; farmer, took, take, sheep; mother, washed, wash, dress;"
        "doctor, called, call, nurse",
    ),
    Paradigm(
        "verb_complements",
        "infinitive_and_gerund",
        ("The {0} [{3}|{4}] to {1}.", "The {0} [{4}|{3}] {2}."),
        "boy, sing, singing, decided, enjoyed; girl, dance, dancing, hoped, kept;"
        "man, work, working, agreed, avoided; woman, write, writing, decided, enjoyed;"
        "child, play, playing, hoped, kept; king, fight, fighting, agreed, avoided;"
        "teacher, read, reading, decided, enjoyed; dog, run, running, hoped, kept;"
        "queen, travel, traveling, agreed, enjoyed; farmer, talk, talking, decided, avoided",
    ),
    Paradigm(
        "relative_pronouns",
        "who_and_which",
        ("The {0} [who|which] {1} was {2}.", "The {3} [which|who] {4} was {5}."),
        "man, came, tall, book, fell, new; girl, sang, happy, car, stopped, red;"
        "boy, called, young, house, burned, old; teacher, laughed, kind, box, arrived, heavy;"
        "woman, waited, tired, cup, broke, white; doctor, came, rich, train, left, late;"
        "child, cried, hungry, tree, fell, tall; nurse, smiled, strong, letter, arrived, long",
    ),
)
"""The paradigms in their order; `phenomenon` joins those that test the same rule."""
