"""Names of people for a population: several scripts, a few common names and many rare ones.

Family names follow a law like Zipf's, as they do in registers: one patient in eighty is a Smith, one in two thousand a
Thornström. Every name is as a modality writes it (PS3.5 §6.2.1): ``alphabetic=ideographic=phonetic``.
"""

import random
from itertools import accumulate
from typing import NamedTuple


def _listed(names: str) -> list[str]:
    return names.split()


_COMMON = _listed(
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Wilson Anderson Thomas "
    "Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark Ramirez Lewis Robinson Walker Young "
    "Smiley Smithson Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Köhler Günther Dubois "
    "Lefèvre Moreau Fournier Girard Núñez Ibáñez Peña O'Brien Novák Dvořák Horváth Kovács Åkesson Öberg Nyström Silva "
    "Gonçalves Magalhães"
)
_BEGINNINGS = _listed(
    "Ander Berg Brad Carl Dal Eber Fair Gold Hart Jans Kels Lind Mor Nor Ost Pet Rich Sand Thorn Under Wil York Ash "
    "Birk Cran Dor Ell Frost Gran Hol"
)
_ENDINGS = _listed("son man berg field ton ley well ström feld wood sen court worth dale holm ford ner wick")
_GIVEN = _listed(
    "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan Joseph "
    "Jessica Thomas Sarah Karl José María Zoë Anaïs François Jürgen Søren Renée Chloë Hélène Noël Ana João Luís Inês "
    "Emma Olivia Noah Liam Sophie Lukas Hannah"
)

_JAPANESE = (
    ("Sato", "佐藤", "さとう"),
    ("Suzuki", "鈴木", "すずき"),
    ("Takahashi", "高橋", "たかはし"),
    ("Tanaka", "田中", "たなか"),
    ("Watanabe", "渡辺", "わたなべ"),
    ("Ito", "伊藤", "いとう"),
    ("Yamamoto", "山本", "やまもと"),
    ("Nakamura", "中村", "なかむら"),
    ("Kobayashi", "小林", "こばやし"),
    ("Yamada", "山田", "やまだ"),
)
_JAPANESE_GIVEN = (
    ("Tarou", "太郎", "たろう"),
    ("Hanako", "花子", "はなこ"),
    ("Ichirou", "一郎", "いちろう"),
    ("Yuki", "雪", "ゆき"),
    ("Kenji", "健二", "けんじ"),
)
_KOREAN = (
    ("Kim", "金", "김"),
    ("Lee", "李", "이"),
    ("Park", "朴", "박"),
    ("Choi", "崔", "최"),
    ("Jung", "鄭", "정"),
)
_KOREAN_GIVEN = (
    ("Gildong", "吉洞", "길동"),
    ("Minjun", "敏俊", "민준"),
    ("Seoyeon", "瑞姸", "서연"),
    ("Jiwoo", "智宇", "지우"),
)
_CHINESE = (
    ("Wang", "王"),
    ("Li", "李"),
    ("Zhang", "张"),
    ("Liu", "刘"),
    ("Chen", "陈"),
    ("Yang", "杨"),
    ("Huang", "黄"),
)
_CHINESE_GIVEN = (("XiaoDong", "小东"), ("Wei", "伟"), ("Fang", "芳"), ("Min", "敏"), ("Jing", "静"))
_RUSSIAN = _listed("Иванов Смирнов Кузнецов Попов Васильев Петров Соколов Михайлов Новиков Фёдоров")
_RUSSIAN_GIVEN = _listed("Александр Дмитрий Мария Анна Сергей Ольга Алексей Наталья")
_GREEK = _listed("Παπαδόπουλος Γεωργίου Δημητρίου Νικολάου Αντωνίου Βασιλείου")
_GREEK_GIVEN = _listed("Γιώργος Μαρία Κώστας Ελένη Νίκος Αικατερίνη")
_ARABIC = _listed("محمد الأحمد حسن عبدالله الخطيب منصور")
_ARABIC_GIVEN = _listed("علي فاطمة خالد مريم يوسف")
_TITLES = ("", "", "", "", "Dr.", "Prof.")


_LATIN = _COMMON + [beginning + ending for beginning in _BEGINNINGS for ending in _ENDINGS]
_LATIN_WEIGHTS = list(accumulate(1 / (rank + 15) for rank in range(1, len(_LATIN) + 1)))
_SCRIPTS = ("latin", "japanese", "korean", "chinese", "russian", "greek", "arabic")
_SHARES = list(accumulate((80, 5, 3, 4, 4, 2, 2)))


class Patient(NamedTuple):
    """Who is examined. ``name`` has its groups and components as DICOM writes them; dates are ``YYYYMMDD``."""

    id: str
    name: str
    birth_date: str
    sex: str


def name(rng: random.Random) -> str:
    """A patient's name, in one of several scripts."""
    (script,) = rng.choices(_SCRIPTS, cum_weights=_SHARES)
    match script:
        case "japanese":
            return _grouped(rng.choice(_JAPANESE), rng.choice(_JAPANESE_GIVEN))
        case "korean":
            return _grouped(rng.choice(_KOREAN), rng.choice(_KOREAN_GIVEN))
        case "chinese":
            return _grouped(rng.choice(_CHINESE), rng.choice(_CHINESE_GIVEN))
        case "russian":
            return f"{rng.choice(_RUSSIAN)}^{rng.choice(_RUSSIAN_GIVEN)}"
        case "greek":
            return f"{rng.choice(_GREEK)}^{rng.choice(_GREEK_GIVEN)}"
        case "arabic":
            return f"{rng.choice(_ARABIC)}^{rng.choice(_ARABIC_GIVEN)}"
        case _:
            middle = f"^{rng.choice(_GIVEN)}" if rng.random() < 0.3 else ""
            return f"{_family(rng)}^{rng.choice(_GIVEN)}{middle}"


def _family(rng: random.Random) -> str:
    return rng.choices(_LATIN, cum_weights=_LATIN_WEIGHTS)[0]


def _grouped(family: tuple[str, ...], given: tuple[str, ...]) -> str:
    return "=".join(f"{one}^{other}" for one, other in zip(family, given, strict=True))


def patient(rng: random.Random, number: int) -> Patient:
    """Patient ``number``; a few have no date of birth."""
    year = 1930 + int(90 * rng.random() ** 0.8)
    birth_date = "" if rng.random() < 0.04 else f"{year}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}"
    # The three ways in which merged hospitals number their patients.
    number_text = (f"H{number:08d}", f"{number:010d}", f"MRN-{number:07d}-{number % 97:02d}")[number % 3]
    return Patient(number_text, name(rng), birth_date, rng.choice("MF"))


def physicians(rng: random.Random, count: int) -> list[str]:
    """That many referring physicians."""
    return [
        f"{_family(rng)}^{rng.choice(_GIVEN)}^^{rng.choice(_TITLES)}".rstrip("^")  #
        for _ in range(count)
    ]
