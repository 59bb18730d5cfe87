"""Card products: what PRODUCT_DEFINE says of every card that is created from one."""

from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    """A card is plastic or only a number."""

    VIRTUAL = "VIRTUAL"
    PHYSICAL = "PHYSICAL"


class ActivationMethod(StrEnum):
    """What an ACTIVATE has to prove (domain.md 8)."""

    CVV = "CVV"
    LAST4 = "LAST4"
    NOTHING = "NOTHING"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductTerms:
    """The flags of a product. A card keeps those of its creation (domain.md 8).

    `auto_renew_days` counts days before the end of the expiry month; `bin` is the leading digits
    of every card number that the platform makes.
    """

    form: Form
    scheme: str
    activation_method: ActivationMethod = ActivationMethod.NOTHING
    implicit_activation: bool = False
    auto_renew: bool = False
    auto_renew_days: int = 30
    transactions: bool = True
    dynamic_cvv2: bool = False
    validity_months: int = 36
    bin: str = "40000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A card product of one issuer."""

    issuer_id: str
    card_product_id: str
    terms: ProductTerms
