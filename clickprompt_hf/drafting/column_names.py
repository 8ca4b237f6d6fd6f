# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What the name of a column suggests: ids, places, times, outcomes; and how the text calls the field."""

import re
import unicodedata


def _words(text: str) -> set[str]:
    return set(text.split())


ID_WORDS = _words(
    """
    id ids uid uuid guid key code zip zipcode postcode postal sku isbn ean asin hash ip iban index unnamed
    """
)
_ACRONYMS = _words("id uid uuid isbn asin sku ean ip url")
# What a table calls its users and its items, in English, German, French and Spanish, the likeliest words first.
WORDS_OF_ROLES = {
    "user": (
        *("user", "customer", "client", "visitor", "member", "reader", "patient"),
        *("benutzer", "nutzer", "kunde", "kunden", "kundin", "besucher", "mitglied", "leser"),
        *("utilisateur", "utilisatrice", "cliente", "visiteur", "membre", "lecteur", "abonne"),
        *("usuario", "usuaria", "visitante", "miembro", "lector", "paciente", "abonado"),
    ),
    "item": (
        *("item", "movie", "product", "book", "sku", "isbn", "anime", "article", "song", "track", "news", "ad"),
        *("artikel", "produkt", "film", "buch", "lied", "nachricht", "anzeige"),
        *("produit", "livre", "chanson", "annonce"),
        *("articulo", "producto", "pelicula", "libro", "cancion", "anuncio"),
    ),
}
# Users, items and events: numbers under such a name alone are ids, unlike those of `user_age`.
_ENTITY_WORDS = {word for words in WORDS_OF_ROLES.values() for word in words} | _words(
    """
    viewer listener player person subscriber buyer seller merchant vendor supplier driver rider passenger guest
    applicant candidate student teacher employee employer reviewer author artist actor doctor physician provider
    agent advertiser publisher household album game video show channel podcast app campaign creative banner site
    domain page listing property store shop restaurant hotel business venue company job vacancy course recipe query
    keyword session device account card policy loan contract claim order transaction invoice encounter visit
    admission booking reservation impression request event record row ticket tweet post review msno playlist brand
    model machine sensor station cust usr respondent participant panelist subject tenant borrower donor resident
    """
)
_NUMBER_WORDS = _words("number no nr num nbr nmbr numb ref reference")
# Numbers under such names may occur equally often because of how rows were collected or cut.
ORDER_WORDS = _words(
    """
    rank position pos place slot percentile quantile decile score age price step period lag horizon wave round trial
    turn page level index count year month week day hour minute second quarter date time t
    """
)
# Numbers under such names are codes of categories if they are few.
CATEGORY_WORDS = _words(
    """
    occupation profession category subcategory genre type class group segment cluster department division sector
    industry gender sex race ethnicity weekday dayofweek bucket region district country state city county province
    area
    """
)
_PLACE_WORDS = _words(
    """
    city town village country nation state province county region district location place borough suburb
    neighborhood neighbourhood municipality continent area residence origin destination birthplace hometown
    """
)
TIME_WORDS = _words("time timestamp ts unixtime date datetime day at on epoch when created updated")
_OUTCOME_WORDS = _words(
    """
    click clicks clicked conversion conversions converted purchase purchases purchased bought revenue checkout
    checkouts install installs installed payout gmv orders
    """
)
_DURATIONS = _words("time duration seconds secs sec ms millis minutes min length ratio pct")
_AGGREGATE_WORDS = _words(
    """
    past prev previous prior last history historical hist before earlier first avg mean average total sum num count
    cnt number rate ctr cvr days since user item daily weekly monthly lifetime annual company
    """
)
_ID_ENDINGS = re.compile(
    r".*(user|item|customer|client|product|patient|account|member|session|order|device|loan)id"
    r"|(user|cust|customer|client|patient|account|acct|member|person|employee|emp|policy|loan|order)(no|nr|num|nbr|number)"
    r"|(benutzer|nutzer|kunden|mitglieds?|artikel|produkt)(id|nr|nummer|kennung)"
)
_PERIOD = re.compile(r"\d+(d|h|w|m|y|days?|hours?|weeks?|months?)?")


def words_of(column: str) -> set[str]:
    """The words of a column's name, in lower case and without accents."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", column) if not unicodedata.combining(c))
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", plain)
    return set(re.split(r"[^a-z0-9]+", spaced.lower())) - {""}


def is_named_after(word: str, column: str) -> bool:
    """Whether a column is named after a word, as in `user_id`, `userId`, `User-ID`, `users` and `Benutzernummer`."""
    words = words_of(column)
    forms = {word, *(f"{word}{ending}" for ending in ("id", "nr", "nummer", "kennung"))}
    return bool(words & forms) or words == {f"{word}s"}


def suggests_ids(words: set[str]) -> bool:
    """Whether the words of a name suggest ids or codes."""
    names_entity = bool(words & _ENTITY_WORDS) and words <= _ENTITY_WORDS | _NUMBER_WORDS
    return bool(words & ID_WORDS) or any(map(_ID_ENDINGS.fullmatch, words)) or names_entity


def suggests_entities(words: set[str]) -> bool:
    """Whether the words of a name suggest ids of users, items or the like, of which other tables may say more."""
    return suggests_ids(words) and (bool(words & _ENTITY_WORDS) or any(map(_ID_ENDINGS.fullmatch, words)))


def suggests_places(words: set[str]) -> bool:
    """Whether the words of a name suggest places."""
    return bool(words & _PLACE_WORDS)


def suggests_outcome(words: set[str]) -> bool:
    """Whether the words of a name suggest an outcome of the impression, such as a purchase.

    Names of aggregates, such as `past_purchases` or `clicks_7d`, do not.
    """
    if words & _AGGREGATE_WORDS or any(map(_PERIOD.fullmatch, words)):
        return False
    is_duration = bool(words & {"dwell", "watch", "view", "play"} and words & _DURATIONS)
    return bool(words & _OUTCOME_WORDS) or words >= {"order", "id"} or is_duration


def display_name(column: str) -> str:
    """Make a field's name from a column's name: `"Loan amount"` from `loan_amount`, `"User ID"` from `userId`."""
    words = (
        re.sub(r"([a-z])([A-Z])", r"\1 \2", re.sub(r"(?<=[^\W_])[-.](?=[^\W_])", " ", column))
        .replace("_", " ")
        .split()
    )
    shown = [word.upper() if word.lower() in _ACRONYMS else word for word in words]
    return " ".join([shown[0][:1].upper() + shown[0][1:], *(w if w.isupper() else w.lower() for w in shown[1:])])
