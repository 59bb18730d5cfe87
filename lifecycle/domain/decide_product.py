"""PRODUCT_DEFINE: a definition is taken whole, what it leaves out has its default (design.md 3).

Defining a known product again changes it for the cards that are created later; its form and
scheme stay what they are.
"""

from typing import Any

from lifecycle.domain.commands import CommandName, DefineProduct
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Judged, Refusal, judge
from lifecycle.domain.operations import Context, Decision, OperationKind
from lifecycle.domain.products import ActivationMethod, Form, Product, ProductTerms
from lifecycle.domain.refusals import is_stale, refused, succeeded


def decide_product(product: Product | None, command: DefineProduct, context: Context) -> Decision:
    """Decide a PRODUCT_DEFINE; `product` is None when the issuer has not defined it yet."""
    kind = OperationKind.PRODUCT_DEFINE
    judged = judge(command, CommandName.PRODUCT_DEFINE, context.start_time_ms)
    refusal = _refusal(product, command, judged, context)
    if refusal is not None:
        return refused(kind, judged, refusal, product)

    terms = _terms(command)
    if product is not None and product.terms == terms:
        return succeeded(kind, judged, product)
    after = Product(
        issuer_id=command.issuer_id, card_product_id=command.card_product_id, terms=terms
    )
    return succeeded(kind, judged, after)


def _refusal(
    product: Product | None, command: DefineProduct, judged: Judged, context: Context
) -> Refusal | None:
    """The first that applies, in the order of design.md 5, "Which error"."""
    if judged.refusal is not None:
        return judged.refusal
    if command.reason_code is not None:
        return Refusal(ErrorCode.INVALID_REASON)
    if is_stale(judged, context):
        return Refusal(ErrorCode.STALE_COMMAND)
    if product is not None and command.form != product.terms.form:
        return Refusal(ErrorCode.FIELD_INVALID_VALUE, "form")
    if product is not None and command.scheme != product.terms.scheme:
        return Refusal(ErrorCode.FIELD_INVALID_VALUE, "scheme")
    return None


def _terms(command: DefineProduct) -> ProductTerms:
    """The terms of a command whose fields are valid; absent ones are left to their defaults."""
    method = command.activation_method
    months = command.validity_months
    days = command.auto_renew_days
    chosen: dict[str, Any] = {
        "activation_method": None if method is None else ActivationMethod(method),
        "implicit_activation": command.implicit_activation,
        "auto_renew": command.auto_renew,
        "auto_renew_days": None if days is None else int(days),
        "transactions": command.transactions,
        "dynamic_cvv2": command.dynamic_cvv2,
        "validity_months": None if months is None else int(months),
        "bin": command.bin,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    return ProductTerms(form=Form(command.form), scheme=command.scheme, **given)
