"""The runbook as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

import jinja2

from simdeploy.export.runbook import Runbook


def page(book: Runbook) -> str:
    """*book* as HTML. Every text is escaped by the template's autoescape, and a name that it lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("simdeploy.export"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("runbook.html").render(book=book)
