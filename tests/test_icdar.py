"""The text files of competitions: each form is known by its lines, and no word is ever made of coordinates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm import TextInstances
from transformers_tcm.icdar import ILLEGIBLE, parse_icdar, quoted

QUAD = "60,36,150,36,150,70,60,70"
LTRB = "60,36,150,70"
CORNERS = [[60, 36], [150, 36], [150, 70], [60, 70]]
ARC = [[40 + 10 * i, 60 - abs(3 - i)] for i in range(7)] + [[100 - 10 * i, 80 - abs(3 - i)] for i in range(7)]


def line(points, *rest: str) -> str:
    return ",".join([*(str(value) for point in points for value in point), *rest]) + "\n"


def shapes(text: str) -> list[tuple[int, str | None]]:
    instances = TextInstances.from_icdar(text)
    return [(len(polygon), word) for polygon, word in zip(instances.polygons, instances.texts, strict=True)]


@pytest.mark.parametrize(
    "word", ["###", "### ", "\t###", '"###"', '"###" ', "'###'", "#####", "\u201c###\u201d", " ####"]
)
def test_every_spelling_of_do_not_care_does_not_count(word: str) -> None:
    for coordinates in (QUAD, LTRB, line(ARC).strip()):
        instances = TextInstances.from_icdar(f"{coordinates},{word}\n")
        assert instances.ignored.tolist() == [True]
        assert instances.texts == [ILLEGIBLE]


@pytest.mark.parametrize("separator", [",", ", ", ",\t", " , ", "\t,"])
def test_blanks_around_fields_belong_to_none_of_them(separator: str) -> None:
    for coordinates, word in ((QUAD, "OPEN"), (QUAD, "A, B"), (LTRB, "OPEN")):
        text = separator.join([*coordinates.split(","), word]) + " \r\n"
        assert shapes(text) == [(4, word)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('"OPEN"', "OPEN"),
        (r'"a \"b\" \\ c"', r'a "b" \ c'),
        ('" two blanks "', " two blanks "),
        ('"', '"'),
        ('5" pipe', '5" pipe'),
        ("####Caf\u00e9", "Caf\u00e9"),
        ('####"1,000"', "1,000"),
        ('""', None),
    ],
)
def test_quotes_are_taken_off_as_the_official_evaluation_does(written: str, read: str | None) -> None:
    assert shapes(f"{QUAD},{written}\n{QUAD},OPEN\n") == [(4, read), (4, "OPEN")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\ufeff", "\r\n\ufeff", "\n\n \n"])
def test_lines_end_as_on_any_system_and_files_may_be_joined(end: str) -> None:
    assert shapes(f"\ufeff{QUAD},A{end}{QUAD},B{end}") == [(4, "A"), (4, "B")]


def test_more_points_are_an_outline_and_not_a_word() -> None:
    assert shapes(line(ARC, "OPEN")) == [(14, "OPEN")]
    assert shapes(line(ARC)) == [(14, "")]
    assert shapes(line(ARC, "")) == [(14, "")]
    assert shapes(line(ARC, "####OPEN")) == [(14, "OPEN")]
    assert shapes(line(ARC, "2015")) == [(14, "2015")]
    assert shapes(line(ARC, "OPEN, 24 h")) == [(14, "OPEN, 24 h")]
    mixed = line(ARC[:3] + ARC[-3:], "SIX") + line(CORNERS, "FOUR") + line(ARC, "FOURTEEN")
    assert shapes(mixed) == [(6, "SIX"), (4, "FOUR"), (14, "FOURTEEN")]
    assert TextInstances.from_icdar(line(ARC, "OPEN")).polygons[0].tolist() == ARC


@pytest.mark.parametrize(
    "word", ["2015", "1,000", "3,05 EUR", "5,A", "nan", "inf", "1e400", "1_0,2_0", "\u0664\u0665", "12:30"]
)
def test_words_of_digits_stay_words(word: str) -> None:
    assert shapes(f"{QUAD},OPEN\n{QUAD},{word}\n") == [(4, "OPEN"), (4, word)]
    assert shapes(f"{QUAD},{word}\n") == [(4, word)]


def test_one_pair_too_many_is_settled_by_the_other_lines_or_an_error() -> None:
    five = [*CORNERS, [55, 53]]
    assert shapes(line(five) + line(ARC)) == [(5, ""), (14, "")]
    assert shapes(line(five) + line(CORNERS)) == [(5, ""), (4, None)]
    assert shapes(line(five, "A") + line(five, "B")) == [(5, "A"), (5, "B")]
    for text in (line(five), line(five, "SHOP")):
        with pytest.raises(ValueError, match=r"line 2: five points, or four and a word with a comma: put the word in"):
            TextInstances.from_icdar(line(CORNERS, "OPEN") + text)
    assert shapes(line(CORNERS, "OPEN") + line(CORNERS, '"55,53"')) == [(4, "OPEN"), (4, "55,53")]
    # Far from the outline, as prices are.
    assert shapes(line(np.add(CORNERS, 900), "OPEN") + line(np.add(CORNERS, 900), "12,50")) == [
        (4, "OPEN"),
        (4, "12,50"),
    ]


def test_script_columns_of_mlt_are_no_part_of_the_word() -> None:
    text = (
        f"{QUAD},Latin,OPEN\n{QUAD},Arabic,\u0645\u0631\u062d\u0628\u0627, \u064a\n{QUAD},None,###\n{QUAD},Symbols,\n"
    )
    instances = TextInstances.from_icdar(text)
    assert instances.texts == ["OPEN", "\u0645\u0631\u062d\u0628\u0627, \u064a", "###", None]
    assert instances.ignored.tolist() == [False, False, True, False]


def test_words_called_like_a_script_stay_words() -> None:
    assert shapes(f"{QUAD},Latin\n") == [(4, "Latin")]
    assert shapes(f"{QUAD},Latin,OPEN\n{QUAD},SHOP\n") == [(4, "Latin,OPEN"), (4, "SHOP")]


def test_the_difficulty_of_rctw_is_no_part_of_the_word() -> None:
    instances = TextInstances.from_icdar(f'{QUAD},0,"\u91d1"\n{QUAD},1,"\u955c"\n{QUAD},0,"###"\n')
    assert instances.texts == ["\u91d1", "\u955c", "###"]
    assert instances.ignored.tolist() == [False, True, True]
    assert shapes(f"{QUAD},0,A\n") == [(4, "0,A")]


@pytest.mark.parametrize(
    "text", [f'{LTRB},"OPEN"\n{LTRB},2013\n', '60, 36, 150, 70, "OPEN"\n60, 36, 150, 70, "2013"\n']
)
def test_boxes_are_four_numbers_in_front_of_every_word(text: str) -> None:
    instances = TextInstances.from_icdar(text)
    assert instances.texts == ["OPEN", "2013"]
    assert instances.polygons[0].tolist() == CORNERS


def test_blanks_may_separate_instead_of_commas() -> None:
    assert shapes('60 36 150 70 "OPEN, 24 h"\n60 36 150 70 "A"\n') == [(4, "OPEN, 24 h"), (4, "A")]
    assert shapes("60\t36\t150\t36\t150\t70\t60\t70\tOPEN\n") == [(4, "OPEN")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{LTRB},A\n150,36,60,70,B\n", "line 2: expected `left,top,right,bottom`"),
        (f"{QUAD},A\n{LTRB},B\n", "line 2: expected `x1,y1"),
        (f"{LTRB},A\n{QUAD},B\n", "line 1: expected `x1,y1"),
        ("60,36,150,36,150,70,OPEN", "line 1: expected `x1,y1"),
        # What other programs write: class and box in parts of the picture.
        ("0 0.3 0.5 0.4 0.7", "line 1: expected `x1,y1"),
        (f"{QUAD},A\n1,2,3,4,5,6,7,1e99999,B\n", "line 2: expected `x1,y1,…` of finite numbers"),
    ],
)
def test_what_is_neither_form_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextInstances.from_icdar(text)


def test_the_form_is_told() -> None:
    assert parse_icdar(f"{QUAD},A\n{QUAD},1,000\n").layout is None
    assert parse_icdar(line(ARC, "A")).layout == "outlines of 14 points"
    assert parse_icdar(f"{LTRB},A\n").layout == "boxes `left,top,right,bottom`"
    assert "script" in parse_icdar(f"{QUAD},Latin,A\n").layout


awkward = st.sampled_from(
    ["1,000", "55,53", "Latin,A", '0,"A"', "####", '"A"', '"', " A", "A\u00a0", "\\", "2,B", "\ufeffA"]
)


@given(
    st.lists(
        awkward | st.text(st.characters(exclude_characters="\n\r#", exclude_categories=["Cs"]), min_size=1), min_size=1
    )
)
def test_every_word_that_is_written_is_read_back(words: list[str]) -> None:
    words = [word for word in words if word != "####"]
    written = TextInstances([CORNERS] * len(words), texts=words).to_icdar()
    assert TextInstances.from_icdar(written).texts == words


@given(st.lists(st.text(alphabet='0123456789.,-+e #"\tA\r\ufeff', max_size=60), max_size=4))
def test_any_text_is_read_or_named(lines: list[str]) -> None:
    for read in parse_icdar("\n".join(lines)).lines:
        assert len(read.polygon) >= 4 or read.problem is not None
        assert read.text != ""


def test_quotes_are_put_only_where_they_are_needed() -> None:
    assert [quoted(word) for word in ("OPEN", "a, b", '5" pipe', "2015", "2,5 EUR", "1,000")] == [
        "OPEN",
        "a, b",
        '5" pipe',
        "2015",
        "2,5 EUR",
        '"1,000"',
    ]


@pytest.mark.parametrize("separator", [";", "; ", "\t", " ", "\uff0c"])
def test_other_separators_than_commas_are_known(separator: str) -> None:
    assert shapes(separator.join([*QUAD.split(","), "OPEN"])) == [(4, "OPEN")]
    assert shapes(f"{QUAD}\tOPEN, 24 h\n") == [(4, "OPEN, 24 h")]


@pytest.mark.parametrize("word", ["###\u200b", "\uff03\uff03\uff03", "###,", "### ;"])
def test_marks_that_look_like_do_not_care_do_not_count(word: str) -> None:
    assert TextInstances.from_icdar(f"{QUAD},{word}\n").ignored.tolist() == [True]


def test_quotes_doubled_as_in_csv_are_single_ones() -> None:
    assert shapes(f'{QUAD},"a ""b"" c"\n') == [(4, 'a "b" c')]


def test_boxes_may_have_columns_and_words_that_begin_with_numbers() -> None:
    assert shapes(f"{LTRB},Latin,OPEN\n{LTRB},None,###\n") == [(4, "OPEN"), (4, ILLEGIBLE)]
    assert shapes(f"{LTRB},1,50\n{LTRB},OPEN\n") == [(4, "1,50"), (4, "OPEN")]
    assert shapes(f"{LTRB},0.98,OPEN\n{LTRB},0.87,24 h\n") == [(4, "OPEN"), (4, "24 h")]


def test_scripts_beyond_mlt_and_words_without_one_are_understood() -> None:
    text = f"{QUAD},Cyrillic,\u041c\u0418\u0420\n{QUAD},Latin,OPEN\n{QUAD},###\n"
    assert shapes(text) == [(4, "\u041c\u0418\u0420"), (4, "OPEN"), (4, ILLEGIBLE)]


@pytest.mark.parametrize("column", ["0.98,{}", "{},0.98"])
def test_scores_of_results_are_no_part_of_the_word(column: str) -> None:
    text = "".join(f"{QUAD},{column.format(word)}\n" for word in ("OPEN", "SALE, NOW"))
    assert shapes(text) == [(4, "OPEN"), (4, "SALE, NOW")]
    assert "score" in parse_icdar(text).layout
    assert shapes(f"{QUAD},0.9812\n{QUAD},0.5\n") == [(4, None), (4, None)]


def test_difficulty_without_quotes_or_behind_the_word_is_understood() -> None:
    for text in (f"{QUAD},0,OPEN\n{QUAD},1,SALE\n", f"{QUAD},OPEN,0\n{QUAD},SALE,1\n"):
        instances = TextInstances.from_icdar(text)
        assert instances.texts == ["OPEN", "SALE"]
        assert instances.ignored.tolist() == [False, True]
    assert shapes(f"{QUAD},1,5 EUR\n{QUAD},0,99 EUR\n") == [(4, "1,5 EUR"), (4, "0,99 EUR")]


def test_files_joined_without_a_line_end_give_no_word_of_coordinates() -> None:
    assert shapes(f"{QUAD},A\ufeff{QUAD},B\ufeff\n") == [(4, "A"), (4, "B")]
    with pytest.raises(ValueError, match=r"line 1: a row of numbers in the word, as if two lines were joined"):
        TextInstances.from_icdar(f"{QUAD},A{QUAD},B\n")


def test_a_number_in_front_of_the_outline_is_an_error() -> None:
    for outline in (QUAD, "60,40,150,36,152,70,62,75", line(ARC).strip()):
        with pytest.raises(ValueError, match=r"line 1: a number such as an id stands in front of the outline"):
            TextInstances.from_icdar(f"7,{outline},OPEN\n")


def test_lines_of_numbers_between_words_are_written_so_that_they_are_read_back() -> None:
    words = ["1,2,3,4,5,6,7", "A,0", "0.123", "0,A", "12\t50", "Latin,A"]
    written = TextInstances([CORNERS] * len(words), texts=words).to_icdar()
    assert TextInstances.from_icdar(written).texts == words
