"""The two themes: one accent, the yolk of an egg, on charcoal and on shell."""

from textual.theme import Theme

_QUIET = {
    "block-cursor-text-style": "none",
    "footer-background": "transparent",
    "footer-item-background": "transparent",
    "footer-description-background": "transparent",
    "footer-key-background": "transparent",
    "border-blurred": "$surface-lighten-1",
}

DARK = Theme(
    name="hatchery-dark",
    primary="#f0b44c",
    secondary="#8fb7d9",
    accent="#f0b44c",
    warning="#e6894f",
    error="#e5606a",
    success="#86c07c",
    foreground="#d9d6ce",
    background="#15171a",
    surface="#1b1e22",
    panel="#24282e",
    dark=True,
    variables=_QUIET
    | {
        "footer-key-foreground": "#f0b44c",
        "footer-description-foreground": "#9a978f",
        "block-cursor-background": "#3a3426",
        "block-cursor-foreground": "#f6d9a0",
        "block-cursor-blurred-background": "#26282b",
        "border": "#4a4f57",
        "border-blurred": "#343941",
        "scrollbar": "#343941",
        "scrollbar-background": "#1b1e22",
    },
)

LIGHT = Theme(
    name="hatchery-light",
    primary="#9a5b00",
    secondary="#2f6690",
    accent="#9a5b00",
    warning="#b04a12",
    error="#b3202c",
    success="#34752b",
    foreground="#2b2a27",
    background="#faf7f0",
    surface="#f3eee3",
    panel="#e9e2d3",
    dark=False,
    variables=_QUIET
    | {
        "footer-key-foreground": "#9a5b00",
        "footer-description-foreground": "#6d685d",
        "block-cursor-background": "#f3ddb0",
        "block-cursor-foreground": "#4a2c00",
        "block-cursor-blurred-background": "#ece5d6",
        "border": "#b9b09c",
        "border-blurred": "#d6cdba",
        "scrollbar": "#d6cdba",
        "scrollbar-background": "#f3eee3",
    },
)
