"""The words that generated data is made of."""

FIRST_NAMES = [
    "John", "Maria", "Andreas", "Eleni", "Omar", "Fatima", "Yuki", "Kenji", "Anna", "Peter",
    "Sofia", "Λευτέρης", "Ουρανία", "عبدالله", "نورة", "花子", "Zoë", "Jürgen", "Siobhán", "Noël",
]  # fmt: skip
LAST_NAMES = [
    "Smith", "Papadopoulos", "Georgiou", "Al-Sabah", "Haddad", "Tanaka", "Sato", "O'Connor",
    "Müller", "García", "Kyriakou", "Ιωάννου", "山本", "Novák", "D'Angelo", "Brown",
]  # fmt: skip
TRADES = ["Trading", "Telecom", "Foods", "Marine", "Fitness", "Cloud", "Energy", "Estates"]
STREETS = ["Oak Street", "Makariou Avenue", "Gulf Road", "Elia Papakyriakou", "明治通り", "Ermou"]
PLACES = [
    {"town": "Nicosia", "county": "Egkomi", "country": "CYP", "currency": "EUR"},
    {"town": "Limassol", "county": "", "country": "CYP", "currency": "EUR"},
    {"town": "Αθήνα", "county": "Αττική", "country": "GRC", "currency": "EUR"},
    {"town": "Old Forge", "county": "New York", "country": "USA", "currency": "USD"},
    {"town": "Kuwait City", "county": "Al Asimah", "country": "KWT", "currency": "KWD"},
    {"town": "東京", "county": "", "country": "JPN", "currency": "JPY"},
]
USERS = ["John Doe", "Maria Ioannou", "Omar Haddad", "Aiko Sato", "Peter Brown", "Zoe Kyriakou"]
TEAMS = ["Support", "Sales", "Field Service", "Collections"]
CLASSIFICATIONS = ["Delivery Purchase", "Residential", "Business", "VIP", "Staff"]
TAGS = [
    ("VIP", "#0000FF"), ("Maintenance", "FR547F"), ("Follow-up", "#FFAA00"),
    ("Churn risk", "#CC0000"), ("New", "#00CC66"), ("Επείγον", "#AA00AA"),
]  # fmt: skip
ACTIVITY_TYPES = [
    ("site visit", "876FD5"), ("phone call", "3FA7D6"), ("demo", "59CD90"),
    ("installation", "FAC05E"), ("debt reminder", "EE6352"), ("contract review", "9B9B9B"),
]  # fmt: skip
ERRANDS = [
    "Call customer", "Schedule demo", "Visit site", "Install router", "Remind of invoice",
    "Approve offers", "Review contract", "Replace meter", "Collect payment", "Εγκατάσταση",
]  # fmt: skip
DESCRIPTIONS = [
    None, "", "We need to call the customer to arrange a demo", "Gate code 1234;\nring twice",
    'Customer said: "after 4pm"', "Require 4 approvals for an offer", "Trailing blanks   ",
]  # fmt: skip
# Free text as people enter it, one key with several habits of writing values.
CUSTOM_FIELDS: list[tuple[str, list[str | None]]] = [
    ("back_office", ["Back Office", "0001-12345", "0001-12345 ", ""]),
    ("credit_score", ["5", "5.0", "712", None]),
    ("meter_reading", ["5232130.0", "0", "-1.5"]),
    ("vip level ", ["gold", "gold ", "SILVER"]),
    ("Περιοχή", ["Λευκωσία", "Λεμεσός"]),
    ("الحي", ["السالمية"]),
    ("合意", ["true", "false"]),
]
