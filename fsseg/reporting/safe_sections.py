"""Parts of a report whose pictures may fail without harm to the run that they are of."""

import logging
from collections.abc import Callable

from fsseg.reporting.html import Section

log = logging.getLogger(__name__)


def section_or_reason(heading: str, make: Callable[[], Section]) -> Section:
    """Return what `make` returns, or a section that says that it could not be made; the reason is logged.

    The reason may name files, so it is not on the page.
    """
    return sections_or_reason(heading, lambda: [make()])[0]


def sections_or_reason(heading: str, make: Callable[[], list[Section]]) -> list[Section]:
    """Return several sections, or one that says that they could not be made; see `section_or_reason`."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - hours of training must not end in a picture that cannot be drawn
        log.warning('The part "%s" of the report could not be made: %s: %s', heading, type(error).__name__, error)
        return [Section(heading, ["This part could not be made. The warning at the end of the run says why."])]


def whatever_happens(what: str, make: Callable[[], object]) -> None:
    """Make a page; where it cannot be made, a warning says why, and the run goes on."""
    try:
        make()
    except Exception as error:  # noqa: BLE001 - as above
        log.warning("%s could not be made: %s: %s", what, type(error).__name__, error)
