"""What every page has in common: templates filled with escaped text, and a policy that allows its own scripts only."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from collapselab.visible import visible


def render(template: str, as_it_is: Mapping[str, str], **words: object) -> str:
    """A page from a template: `as_it_is` are code and packed data, every other text is made visible and escaped."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_finalized,
    )

    def as_markup(text: str) -> Markup:
        return Markup(unbroken(text))

    environment.filters["unbroken"] = as_markup
    markup = {name: Markup(text) for name, text in as_it_is.items()}
    return environment.from_string(template_file(template)).render(**markup, **words)


def unbroken(text: str) -> str:
    """The markup of a text whose numbers do not break after the hyphen: 1e-4 stays on one line."""
    return re.sub(r"\b\d[\d.]*e-\d+", r'<span class="unbroken">\g<0></span>', html.escape(visible(text)))


def template_file(name: str) -> str:
    """A file of the folder `template`."""
    return (files("collapselab.report") / "template" / name).read_text(encoding="utf-8")


def policy(scripts: Sequence[str], css: str) -> str:
    """The page's policy: it may run its own scripts, by their hashes; no requests, no code or markup made from text."""
    allowed = " ".join(map(_source, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_source(css)}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types default"
    )


def _finalized(value: object) -> object:
    return visible(value) if type(value) is str else value  # a subclass marks what is already markup


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
