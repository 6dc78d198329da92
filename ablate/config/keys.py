"""Which dotted keys there are, and which one a person may have meant."""

from __future__ import annotations

from typing import Any, cast

from omegaconf import Container, OmegaConf

from ablate.config import common_words, options


def plain(node: Container, *, resolve: bool = False, throw_on_missing: bool = False) -> dict[str, Any]:
    """A mapping of a config as plain containers, with its interpolations, or with what they stand for."""
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=resolve, throw_on_missing=throw_on_missing))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as dotted keys; empty ones and lists stay values."""
    flat = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{path}."))
        else:
            flat[path] = value
    return flat


def place(tree: dict[str, Any], key: str) -> tuple[dict[str, Any] | None, str]:
    """The mapping that holds a dotted key, None where it is not there; and the key's last part."""
    *path, last = key.split(".")
    node: Any = tree
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return (node if isinstance(node, dict) and last in node else None), last


def known() -> dict[str, list[str]]:
    """Every dotted key of every option, with the options (`group=option`) that have it; [] for root keys."""
    root = {key: value for key, value in options.load(options.CONF / "config.yaml").items() if key != "defaults"}
    found: dict[str, list[str]] = {key: [] for key in flatten(root)}
    for group, files in options.groups().items():
        for option, path in files.items():
            own = {key: value for key, value in options.load(path).items() if key != "defaults"}
            for key in flatten(own, "" if options.is_global(path) else f"{group}."):
                found.setdefault(key, []).append(f"{group}={option}")
    return found


def exists(key: str) -> bool:
    """Whether some option, or the root, has this key."""
    return key in options.groups() or key in known()


def suggestion(key: str) -> str:
    """The tail of an error line for a key that is not in the config: which one was meant, as far as known."""
    import difflib  # only where there is a mistake

    everywhere = known()
    if everywhere.get(key):
        return f": it is a setting of {', '.join(everywhere[key])}"
    if hint := common_words.hint(key):
        return hint
    by_last: dict[str, str] = {}
    for path in everywhere:
        by_last.setdefault(path.rpartition(".")[2], path)
    last = key.rpartition(".")[2]
    for word, choices in (
        (key, {path: path for path in (*options.groups(), *everywhere)}),
        (last, by_last),
        (key.partition(".")[0], {group: group for group in options.groups()}),
    ):
        match = difflib.get_close_matches(word, choices, n=1, cutoff=0.75 if word == key else 0.6)
        if match:
            return f"; did you mean {choices[match[0]]!r}?"
    return "" if "." in key else options.of_a_package()
