"""User-supplied strings escaped for LaTeX, in commands that need no package, and what pdflatex cannot set."""

from __future__ import annotations

import unicodedata

from ablate.report.text import one_line

LONGEST_UNBROKEN = 12  # characters of a word that fit into the narrowest column

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ϵ": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ϑ": "vartheta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "µ": "mu", "ν": "nu",
    "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "ς": "varsigma", "τ": "tau", "υ": "upsilon", "φ": "varphi",
    "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "∆": "Delta", "Θ": "Theta",
    "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Υ": "Upsilon", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_SYMBOLS = {
    "±": "pm", "∓": "mp", "×": "times", "÷": "div", "·": "cdot", "∙": "bullet", "•": "bullet", "≤": "leq", "≥": "geq",
    "≪": "ll", "≫": "gg", "≠": "neq", "≈": "approx", "≡": "equiv", "∼": "sim", "∝": "propto", "∞": "infty",
    "←": "leftarrow", "→": "rightarrow", "↑": "uparrow", "↓": "downarrow", "↔": "leftrightarrow", "⇒": "Rightarrow",
    "⇐": "Leftarrow", "⇔": "Leftrightarrow", "∂": "partial", "∇": "nabla", "∑": "sum", "∏": "prod", "∫": "int",
    "∈": "in", "∉": "notin", "∅": "emptyset", "∪": "cup", "∩": "cap", "⊂": "subset", "∀": "forall", "∃": "exists",
    "∧": "wedge", "∨": "vee", "¬": "neg", "⊕": "oplus", "⊗": "otimes", "⊙": "odot", "ℓ": "ell", "†": "dagger",
    "‡": "ddagger", "√": "surd", "…": "ldots", "⟨": "langle", "⟩": "rangle",
}  # fmt: skip
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))
_CAPITALS = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))  # Greek ones that look like Latin ones
_COMMANDS = {
    **{character: rf"$\{name}$" for character, name in (_GREEK | _SYMBOLS).items()},
    **{character: f"$^{{{raised}}}$" for character, raised in _RAISED.items()},
    **{character: f"$_{{{lowered}}}$" for character, lowered in _LOWERED.items()},
    **{character: rf"$\mathrm{{{latin}}}$" for character, latin in _CAPITALS.items()},
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\`{}",
    "°": r"$^{\circ}$",
    "½": r"$\frac12$",
    "¼": r"$\frac14$",
    "¾": r"$\frac34$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\copyright{}",
    "£": r"\pounds{}",
}
_LETTERS = "ßæÆœŒøØłŁı¡¿"  # beside accented ones, what every font of LaTeX has
_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"


def latex_escape(text: object) -> str:
    """The text as LaTeX that shows it literally; what `beyond_pdflatex` finds is left as it is."""
    plain = unicodedata.normalize("NFC", one_line(text))
    return "".join(_COMMANDS.get(character, character) for character in plain)


def latex_breakable(text: object) -> str:
    """As `latex_escape`; a narrow column may break a word of over 12 characters at marks, and after 12 others."""
    return " ".join(_broken(word) if len(word) > LONGEST_UNBROKEN else latex_escape(word) for word in _words(text))


def _broken(word: str) -> str:
    shown, since = "", 0
    for number, character in enumerate(word, start=1):
        shown, since = shown + _COMMANDS.get(character, character), since + 1
        if number < len(word) and (character in "_-./=:,+" or since == LONGEST_UNBROKEN):
            shown, since = rf"{shown}\allowbreak{{}}", 0
    return shown


def _words(text: object) -> list[str]:
    return unicodedata.normalize("NFC", one_line(text)).split(" ")


def beyond_pdflatex(text: object) -> str:
    """The characters that pdflatex, reading UTF-8, has no way for; XeLaTeX and LuaLaTeX take them from a font."""
    plain = unicodedata.normalize("NFC", one_line(text))
    return "".join(dict.fromkeys(character for character in plain if not _is_known(character)))


def _is_known(character: str) -> bool:
    return character.isascii() or character in _COMMANDS or character in _LETTERS or _is_accented_latin(character)


def _is_accented_latin(character: str) -> bool:
    base, *accents = list(unicodedata.normalize("NFD", character))
    return character <= "\u017f" and base.isascii() and len(accents) == 1 and accents[0] in _ACCENTS
