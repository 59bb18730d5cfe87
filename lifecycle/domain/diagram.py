"""The state diagram of the documentation, drawn from the machine.

Mermaid text, so that the page needs no picture and a change of the machine shows in its diff.
"""

from lifecycle.domain.cards import TERMINAL, State
from lifecycle.domain.machine import TABLE, Trigger

_NOTE = (
    "A card counts as EXPIRED",
    "as soon as its expiry month is over,",
    "whatever state is stored.",
)


def state_diagram() -> str:
    """A Mermaid `stateDiagram-v2`: one arrow for each pair of states, with its triggers.

    Conditions are not shown: `machine.py` has them, row by row.
    """
    arrows: dict[tuple[State | None, State], list[Trigger]] = {}
    for source in (None, *State):
        for trigger in Trigger:
            for branch in TABLE.get((source, trigger), ()):
                triggers = arrows.setdefault((source, branch.dest), [])
                if trigger not in triggers:
                    triggers.append(trigger)
    lines = [
        "stateDiagram-v2",
        *(
            f"    {source or '[*]'} --> {dest} : {', '.join(triggers)}"
            for (source, dest), triggers in arrows.items()
        ),
        *(f"    {state} --> [*]" for state in State if state in TERMINAL),
        "    note right of EXPIRED",
        *(f"        {line}" for line in _NOTE),
        "    end note",
    ]
    return "\n".join(lines) + "\n"
