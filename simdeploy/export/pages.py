"""HTML pages that need nothing else: no network, no script. The only door to jinja2."""

from __future__ import annotations

from typing import Any

import jinja2

from simdeploy.export.runbook import Runbook
from simdeploy.export.words import visible


def page(book: Runbook) -> str:
    """*book* as HTML."""
    return rendered("runbook.html", book=book)


def rendered(template: str, package: str = "simdeploy.export", **values: Any) -> str:
    """The *template* of a *package*, filled in; it may use those of the runbook, `look.css` and `parts.html`.

    Every text is escaped by the template's autoescape, stands on one line and hides nothing; a name that the template
    lacks is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("simdeploy.export")]),
        autoescape=True,
        finalize=lambda said: visible(said) if type(said) is str else said,  # markup of a macro is no plain text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
