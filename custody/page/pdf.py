"""PDF, through reportlab."""

from __future__ import annotations

import io
from typing import Any
from xml.sax.saxutils import escape

from custody.page import Page, Section

_GREEN, _AMBER, _GREY = "#1a6b33", "#8a5200", "#555555"
#: Of A4, between margins of 18 mm.
_WIDTH_MM = 174.0
#: What reportlab's frames keep free at each side, in points.
_PADDING = 6


def render(page: Page) -> bytes:
    """The document; the same page gives the same bytes."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.lib.units import mm
    from reportlab.platypus import KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

    tone = _AMBER if page.is_doubtful else _GREEN
    styles = {
        "text": ParagraphStyle("text", fontName="Helvetica", fontSize=10, leading=13),
        "name": ParagraphStyle("name", fontName="Helvetica", fontSize=10, leading=13, textColor=_GREY),
        "digits": ParagraphStyle("digits", fontName="Courier", fontSize=9.5, leading=14),
        "title": ParagraphStyle("title", fontName="Helvetica-Bold", fontSize=20, leading=25),
        "part": ParagraphStyle(
            "part", fontName="Helvetica-Bold", fontSize=12, leading=16, spaceBefore=11, spaceAfter=2
        ),
        "verdict": ParagraphStyle("verdict", fontName="Helvetica-Bold", fontSize=14, leading=20, textColor=tone),
        "foot": ParagraphStyle("foot", fontName="Helvetica", fontSize=8.5, leading=12, textColor=_GREY),
    }

    def cell(text: str, style: str) -> Any:
        return Paragraph(escape(text).replace("\n", "<br/>"), styles[style])

    def table(section: Section) -> Any:
        last = "digits" if section.digits else "text"
        body = [
            [cell(text, "name" if not section.head and not n else last) for n, text in enumerate(row)]
            for row in section.rows
        ]
        head = [[cell(text, "name") for text in section.head]] if section.head else []
        widths = _widths(section)
        lines: list[tuple[Any, ...]] = [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 2),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ("LINEBELOW", (0, 0), (-1, -1), 0.3, "#bbbbbb"),
            *([("LINEBELOW", (0, 0), (-1, 0), 1, "#111111")] if head else []),
        ]
        return Table(head + body, colWidths=[width * mm for width in widths], style=lines, repeatRows=len(head))

    box = Table(
        [[[cell(page.verdict, "verdict"), cell(page.summary, "text")]]],
        colWidths=[_WIDTH_MM * mm],
        style=[("BOX", (0, 0), (-1, -1), 1.2, tone), ("LINEBEFORE", (0, 0), (0, -1), 8, tone, "butt"),
               ("LEFTPADDING", (0, 0), (-1, -1), 16), ("BOTTOMPADDING", (0, 0), (-1, -1), 9)],
    )  # fmt: skip
    story: list[Any] = [cell(page.title, "title"), Spacer(1, 8), box]
    for section in page.sections:
        story.append(KeepTogether([cell(section.title, "part"), table(section)]))
    story += [Spacer(1, 16), cell(page.foot, "foot")]
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out, pagesize=A4, topMargin=18 * mm, bottomMargin=18 * mm,
        leftMargin=18 * mm - _PADDING, rightMargin=18 * mm - _PADDING,
        title=page.name, author="airgap", invariant=1,
    )  # fmt: skip
    document.build(story)
    return out.getvalue()


def _widths(section: Section) -> list[float]:
    """Millimetres a column: a narrow first one for facts; else by the longest text in it."""
    if not section.head:
        return [34.0, _WIDTH_MM - 34.0]
    longest = [max(6, *(len(row[n]) for row in (section.head, *section.rows))) for n in range(len(section.head))]
    return [_WIDTH_MM * each / sum(longest) for each in longest]
