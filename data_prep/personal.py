"""The kinds of personal data: one row for each, with what it looks like and the standard that its values are held to.

Patterns see text at half width (`data_prep.privacy`). A row is added to `KINDS` and nowhere else.
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

RIGHT = "(?![0-9A-Za-z])(?![-.][0-9])"
NO_AMOUNT = "(?! ?(?:元|美元|万|亿|股|吨|%))"
LABEL = "[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?"
DOMAIN = rf"(?:{LABEL}\.)+[A-Za-z]{{2,24}}(?![0-9A-Za-z])"
LOCAL = "(?<![0-9A-Za-z._%+-])[0-9A-Za-z_](?:[0-9A-Za-z._%+-]{0,62}[0-9A-Za-z_+-])?"
NO_DOMAINS = frozenset(["png", "jpg", "jpeg", "gif", "svg", "webp", "local", "localdomain", "internal", "service"])
"""Ends of file names such as `logo@2x.png`, and of names that no mail reaches (RFC 6762, appendix G)."""
REGION_CN = re.compile(
    "(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5])(?:0[1-9]|[1-6][0-9]|70|90)(?!00)[0-9]{2}|(?:71|8[1-3])0000"
)
"""GB/T 2260-2007: provinces; cities 01 to 20 and 51 to 70, prefectures 21 to 50, counties of a province 90; counties."""
MOBILE_CN = (
    "(?:3[0-9]|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8[0-9]|9[0-35-9])"
    rf"(?:[0-9]{{8}}|[0-9]{{4}}[- ][0-9]{{4}}|[- ][0-9]{{4}}[- ]?[0-9]{{4}}|\.[0-9]{{4}}\.[0-9]{{4}}){NO_AMOUNT}"
)
"""What follows the 1 of a mobile number."""
PLUS_86 = "[+08 ]{0,3}6[-() ]{0,3}"
AREA_CN = "(?:10|2[0-57-9]|[3-9][0-9]{2})"
LANDLINE_CN = f"[2-8][0-9]{{2,3}}[- ]?[0-9]{{4}}(?:(?:-|转)[0-9]{{1,6}})?{NO_AMOUNT}"
AREA_US, LINE_US = "(?!11|9)[0-9]{2}", "[2-9](?!11)[0-9]{2}[-. ][0-9]{4}"
COUNTRY = (
    "(?:7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-69][0-9]|3[578][0-9]|42[013]|5[09][0-9]"
    "|6[7-9][0-9]|85[02356]|88[06]|9[679][0-9])"
)
"""Codes of ITU-T E.164 (list of November 2016) but 1, whose numbers have a form of their own."""
FREE = frozenset(("800", "833", "844", "855", "866", "877", "888", "400"))
"""Numbers of firms that the caller does not pay for: seven of North America, and the Chinese 400."""
ISSUERS = re.compile("62[0-9]{14,17}|4[0-9]{15}|(?:5[1-5]|2[3-6]|22[3-9]|27[01])[0-9]{12,14}|3[47][0-9]{13}")
"""UnionPay, Visa, Mastercard (5, and most of 2221 to 2720), American Express: first digits and lengths."""

CARD = re.compile("(?i:card|account|visa|master|amex|unionpay)|卡|账号|账户|帐号|银联")
PROSE = re.compile("^(?!.*(?i:mobile|cell|wechat|chin))(?=.*[A-Za-z] .*[A-Za-z])[^一-鿿]*$")
"""An English sentence that speaks of nothing Chinese."""
VERSION = re.compile("(?i:versions?|ver|release|rev|revision|build|section|clause|版本号?|第)[^0-9A-Za-z\n]{0,4}$")
NETWORK = re.compile(r"(?:(?i:ip\b|address|host|server|dns|gateway|ping)|地址|主机|服务器|网关)[^0-9\n]{0,16}$")


class Shape(NamedTuple):
    """What a value looks like: group 1 of the pattern, which is searched where one of `needs` stands, in lower case."""

    pattern: re.Pattern[str]
    needs: tuple[str, ...] = ()


class Kind(NamedTuple):
    """A row of `KINDS`: the mark that masks it, what it looks like, and the test of a value."""

    mark: str
    shapes: tuple[Shape, ...]
    holds: Callable[[str, str], bool]
    """Of the value at half width, and the text before it on its line."""


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1:2017, annex B).

    >>> luhn("79927398713"), luhn("79927398710")
    (True, False)
    """
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + doubled) % 10 == 0


def check_character(digits: str) -> str:
    """Return the 18th character of an identity number (GB 11643-1999, section 4; ISO 7064 MOD 11-2).

    >>> check_character("11010519491231002")  # the example of the standard
    'X'
    """
    return "10X98765432"[sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(digits)) % 11]


def _digits(value: str) -> str:
    return "".join(character for character in value if character.isdigit())


def _email(value: str, _before: str) -> bool:
    """RFC 5321, 4.1.2 and 4.5.3.1: dot-atoms of at most 64 characters before the sign. `git@` is a service, no person."""
    local, _, domain = value.replace(" at ", "@").partition("@")
    return local != "git" and domain.rpartition(".")[2].lower() not in NO_DOMAINS


def _id_cn(value: str, _before: str) -> bool:
    """GB 11643-1999, section 4: a region, a date of birth from 1900 on, and the check character.

    The form of 15 digits of before 1999 has no century and no check; its shape asks for words that announce it.
    """
    number = value.replace(" ", "").replace("-", "").upper()
    born = number[6:14] if len(number) == 18 else f"19{number[6:12]}"
    try:
        date(int(born[:4]), int(born[4:6]), int(born[6:]))
    except ValueError:
        return False
    return bool(REGION_CN.match(number)) and (len(number) == 15 or check_character(number[:17]) == number[17])


def _bank_card(value: str, before: str) -> bool:
    """ISO/IEC 7812-1: an issuer with its length, and the check digit.

    Digits in one run need a word for a card before them, but for the nineteen of a Chinese debit card.
    """
    digits = _digits(value)
    if not ISSUERS.fullmatch(digits) or len(set(digits)) < 3 or not luhn(digits):
        return False
    return digits != value or bool(CARD.search(before)) or (digits.startswith("62") and len(digits) == 19)


def _ip(value: str, before: str) -> bool:
    """RFC 791 and RFC 4291: addresses of one machine, private ones (RFC 1918) too.

    Not of this host, of groups or of none (RFC 1122, 3.2.1.3; RFC 5771), nor what follows a word for a version or a
    section. Numbers as small as theirs need a word for a machine, but for 10.0.0.1 and its like.
    """
    if ":" in value:
        try:
            return bool(IPv6Address(value).packed) and sum(map(bool, value.split(":"))) > 1
        except AddressValueError:
            return False
    octets = value.split(".")
    if any(int(octet) > 255 or (octet[0] == "0" and octet != "0") for octet in octets):
        return False
    if int(octets[0]) in {0, 127} or int(octets[0]) >= 224 or VERSION.search(before):
        return False
    small = len(octets[0]) < 3 and sum(len(octet) > 1 for octet in octets) < 3
    return not small or (octets[0] == "10" and "0" in octets[1:]) or bool(NETWORK.search(before))


def _ssn_us(value: str, _before: str) -> bool:
    """Social Security Administration, POMS RM 10201.035: no area 000, 666 or 9xx, no group 00, no serial 0000."""
    digits = _digits(value)
    return digits[:3] not in {"000", "666"} and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def _phone_cn(value: str, before: str) -> bool:
    """Numbering plan of the Ministry of Industry and Information Technology, 2017: eleven digits, 13x to 19x.

    In an English sentence, 1 and a free area code in one run of eleven digits are a number of North America.
    """
    free = len(value) == 11 and value.isdigit() and value[1:4] in FREE and value[4] > "1"
    return not (free and PROSE.search(before))


def _landline_cn(value: str, _before: str) -> bool:
    """The same plan: an area of two digits and eight of the subscriber, or of three and seven or eight."""
    digits = re.sub("^(?:0?0?86)?0?", "", _digits(re.split("转|-[0-9]{1,6}$", value)[0]))
    return len(digits) == 10 or (len(digits) == 11 and digits[0] not in "12")


def _phone(value: str, _before: str) -> bool:
    """ITU-T E.164: seven to fifteen digits. North American numbers: no area N00 or N11 (NANPA), none free of charge."""
    digits = _digits(value)
    national = digits[1:] if len(digits) == 11 and digits[0] == "1" else digits
    firm = national[:3] in FREE or national[1:3] in {"00", "11"}
    return 7 <= len(digits) <= 15 and len(set(digits)) > 2 and not (len(national) == 10 and firm)


def _varied(value: str, _before: str) -> bool:
    """Only the words of its shape say what it is: 45 CFR 164.514(b)(2)(i)(H) for medical record numbers, ICAO Doc
    9303-4, 4.2.2, for the nine characters of a passport number."""
    return len(set(_digits(value))) > 1


def _alone(first: str, rest: str) -> Shape:
    """A number that is no part of a longer one, of a decimal, a word or a hyphenated code.

    The look-behinds stand after the first character, for the speed that `_number_gate` tells of.
    """
    return Shape(re.compile(f"({first}(?<![0-9A-Za-z]{first})(?<![0-9][-.]{first}){rest}){RIGHT}"))


def _announced(words: str, link: str, number: str) -> Shape:
    """A number that follows one of some words over a link; the words in lower case, `_` for a space within one."""
    needs = tuple(word.replace("_", " ") for word in words.split())
    return Shape(re.compile(f"(?i:(?<![a-z](?=[a-z]))(?:{'|'.join(needs)})){link}({number}){RIGHT}"), needs)


SAYS = r"(?:(?i: ?number| no\b| id)|号码?|编号)?[^0-9A-Za-z\n]{0,6}?(?:(?i:is|was|no)[. :]{1,2})?"
FAR = r"[^0-9\n]{0,24}?"
CALL = "telephone telefax tel phone facsimile fax 电话 手机 传真 座机 联系方式"
RECORD = "medical_record health_record mrn patient_id 病历 病案 住院 门诊 就诊卡 就诊 诊疗卡 患者 病人"
IPV6 = "(?:[23][0-9A-Fa-f]{3}|[Ff][CDcd][0-9A-Fa-f]{2}|[Ff][Ee][89ABab][0-9A-Fa-f])"

KINDS: dict[str, Kind] = {
    "email": Kind(
        "[EMAIL]",
        (
            Shape(re.compile(f"({LOCAL}@{DOMAIN})"), ("@",)),
            Shape(re.compile(f"(?<=<)({LOCAL} at {DOMAIN})(?=>)"), (" at ",)),
        ),
        _email,
    ),
    "id_cn": Kind(
        "[ID]",
        (
            _alone("[1-8]", "[0-9]{5}[- ]?(?:19|20)[0-9]{2}[- ]?[01][0-9][0-3][0-9][- ]?[0-9]{3}[0-9Xx]"),
            _announced("身份证 证件 identity id_card id_number id_no", FAR, "[1-8][0-9]{14}"),
        ),
        _id_cn,
    ),
    "bank_card": Kind(
        "[CARD]",
        (
            _alone("[2-6]", "[0-9]{3}([ -]?)[0-9]{4}\\2[0-9]{4}\\2[0-9]{4}(?:\\2[0-9]{1,3})?"),
            _alone("3", "[47][0-9]{2}([ -]?)[0-9]{6}\\2[0-9]{5}"),
        ),
        _bank_card,
    ),
    "ip": Kind(
        "[IP]",
        (
            Shape(
                re.compile(r"([0-9](?<![0-9A-Za-z.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3})(?![0-9A-Za-z])(?!\.[0-9])"), (".",)
            ),
            Shape(
                re.compile(
                    rf"(?<![0-9A-Za-z])(?<![0-9A-Fa-f:]:)({IPV6}(?::[0-9A-Fa-f]{{0,4}}){{2,7}})(?![0-9A-Za-z:])"
                ),
                (":",),
            ),
        ),
        _ip,
    ),
    "ssn_us": Kind(
        "[ID]",
        (
            _alone("[0-8]", "[0-9]{2}-[0-9]{2}-[0-9]{4}"),
            _announced("ssn social_security", FAR, "[0-8][0-9]{2}[- ]?[0-9]{2}[- ]?[0-9]{4}"),
        ),
        _ssn_us,
    ),
    "phone_cn": Kind("[PHONE]", (_alone("[+(08]", f"{PLUS_86}1{MOBILE_CN}"), _alone("1", MOBILE_CN)), _phone_cn),
    "phone_cn_landline": Kind(
        "[PHONE]",
        (
            _alone("[+(08]", f"{PLUS_86}0?{AREA_CN}[-) ]{{1,3}}{LANDLINE_CN}"),
            _alone("0", f"{AREA_CN}-{LANDLINE_CN}"),
            _alone(r"\(", rf"0{AREA_CN}\)[- ]?{LANDLINE_CN}"),
            _announced(CALL, SAYS, f"0{AREA_CN}[- ]?{LANDLINE_CN}"),
        ),
        _landline_cn,
    ),
    "phone": Kind(
        "[PHONE]",
        (
            _alone(
                r"\+",
                rf"(?:1(?:[-. (]{{0,2}}[0-9]){{3}}\)?(?:[-. ]?[0-9]){{7}}|{COUNTRY}(?:[-. ()]{{0,2}}[0-9]){{6,12}})",
            ),
            _alone("[(12-9]", rf"(?:(?<=1)[-. ]\(?[2-9]|(?<=\()[2-9]|(?<=[2-9])){AREA_US}\)?[-. ]{{1,2}}{LINE_US}"),
            _announced(CALL, SAYS, rf"(?:\(?[0-9]{{1,8}}\)?(?:[-. ][0-9]{{1,8}}){{1,4}}|[0-9]{{7,12}}){NO_AMOUNT}"),
        ),
        _phone,
    ),
    "mrn": Kind("[MRN]", (_announced(RECORD, SAYS, "[A-Za-z]{0,4}-?[0-9]{6,12}"),), _varied),
    "passport": Kind("[ID]", (_announced("passport 护照", FAR, "[A-Za-z]{0,2}[0-9]{7,9}"),), _varied),
}
"""The kinds, the more certain first: where two findings overlap, the earlier row has it."""
