"""What the fields of commands and replies may hold, as regular expressions over the whole text.

One home for what the domain judges, the wire checks, the schemas print and the reference shows; all
of ASCII alone. Sources: design.md 3, domain.md 1 and 5; where both are silent it says so.
"""

ISSUER_ID = "[A-Za-z0-9_-]{10}"
CARD_ID = "[A-Za-z0-9_-]{1,48}"
CONSUMER_ID = "[A-Za-z0-9_-]{1,64}"
CARD_PRODUCT_ID = "[A-Za-z0-9_-]{1,48}"
COMMAND_ID = "[A-Za-z0-9_.:-]{1,64}"
OPERATION_ID = "[A-Za-z0-9_-]{1,64}"
REQUESTOR_ID = "[A-Za-z0-9_.-]{1,64}"  # our choice: the characters of every id of a requestor
CORRELATION_ID = "[A-Za-z0-9_. -]{1,64}"
REASON = "[a-zA-Z0-9 ]{1,64}"
REASON_CODE = "[A-Z0-9_]{1,64}"
NAME = "[a-zA-Z. -]{0,26}"
STATUS_REASON = "[a-zA-Z]{0,2}"
EXPIRY = "(0[1-9]|1[0-2])[0-9]{2}"
SCHEME = "[A-Z][A-Z0-9_]{0,31}"
BIN = "[0-9]{6,11}"
DISTRIBUTION_CHANNEL = "[A-Za-z0-9_-]{1,64}"  # our choice: the seed's list of channels is lost
