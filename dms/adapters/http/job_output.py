"""REST of a job's output for pages: some lines by their numbers, a search, and all of it as a file."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Annotated

from msgspec import Meta, Struct
from sanic import HTTPResponse, Request

from dms.adapters.http.joblogs import STREAMS, TEXT, download, readable_job
from dms.adapters.http.output_lines import LINE_BYTES, LONGEST_LINE_BYTES, ShownLine, shown
from dms.adapters.http.replies import LARGEST, json_reply, query, query_bool, query_choice, query_int
from dms.adapters.http.routes import FLAG, Api, Parameter, Route, choice, whole
from dms.application.jobs.output_windows import Window, ahead, back
from dms.application.ports.outputs import LogLine, StoredOutput
from dms.domain.access import Need
from dms.errors import InvalidInput

PAGE, LARGEST_PAGE = 200, 2000
MOST_BYTES = 1024 * 1024  # of text, in one answer
LONGEST_QUERY = 256


class GapAnswer(Struct, frozen=True, kw_only=True):
    """Lines that were there and are not here."""

    first: Annotated[int, Meta(description="number of the first that is missing")]
    last: Annotated[int, Meta(description="number of the last that is missing")]
    reason: Annotated[str, Meta(description="why they can't be shown")]


class OutputWindow(Struct, frozen=True, kw_only=True):
    """Some lines of a job's output. A line that was cut comes whole with `after` (its number less one), `limit=1` and a
    larger `max_line_bytes`."""

    lines: Annotated[list[ShownLine], Meta(description="in the order of their numbers")]
    next: Annotated[
        int | None, Meta(description="goes into `after`, or `before`, for those beyond; null: there are none now")
    ]
    total_lines: Annotated[int, Meta(description="how many lines there are, missing ones included")]
    total_bytes: Annotated[int, Meta(description="bytes that they take where they are stored")]
    sealed: Annotated[bool, Meta(description="whether nothing follows any more")]
    truncated: Annotated[bool, Meta(description="whether the job printed more than is kept of one job")]
    damage: Annotated[str, Meta(description="how it differs from what was sealed; empty when it does not")]
    gaps: Annotated[list[GapAnswer], Meta(description="what is missing of it, in order; 200 at most are told")]


class FoundLine(ShownLine, frozen=True, kw_only=True, gc=False):
    """A line with the text that is searched for."""

    at: Annotated[int, Meta(ge=0, description="characters before the first place where it stands")] = 0


class OutputSearch(Struct, frozen=True, kw_only=True):
    """Lines with a text. One answer looks at so many lines only: go on with `next` until it is null."""

    lines: Annotated[list[FoundLine], Meta(description="in the order of their numbers; none with limit=0")]
    count: Annotated[int, Meta(description="how many of the lines that this answer looked at have the text")]
    looked_at: Annotated[int, Meta(description="at how many lines this answer looked")]
    next: Annotated[int | None, Meta(description="goes into `after` to search on; null: that was the end")]
    total_lines: Annotated[int, Meta(description="how many lines there are")]


async def output(request: Request, api: Api) -> HTTPResponse:
    """Forward from a line, backward from one, or from the end."""
    job_id, outputs = await readable_job(request, api), api.services.outputs
    after, before = query_int(request, "after", 0), query_int(request, "before", 0, lowest=1)
    from_end = query_int(request, "from_end", 0, LARGEST_PAGE, lowest=1)
    given = [name for name in ("after", "before", "from_end") if query(request, name)]
    if len(given) > 1:
        what = f"{' and '.join(given)} exclude each other"
        raise InvalidInput(what, [(f"?{name}", "only one of them") for name in given])
    limit = from_end or query_int(request, "limit", PAGE, LARGEST_PAGE, lowest=1)
    line_bytes = query_int(request, "max_line_bytes", LINE_BYTES, LONGEST_LINE_BYTES, lowest=1)
    sealed = outputs.is_complete(job_id)  # asked before the rest, which may grow meanwhile
    about = await outputs.about(job_id)
    fits = _fitting(about, query_choice(request, "stream", *STREAMS))
    if before or from_end:
        found = await back(
            outputs, job_id, before or LARGEST, fits, limit, most_bytes=MOST_BYTES, line_bytes=line_bytes
        )
    else:
        found = await ahead(outputs, job_id, after, fits, limit, most_bytes=MOST_BYTES, line_bytes=line_bytes)
    return json_reply(
        OutputWindow(
            lines=[shown(line, line_bytes) for line in found.lines],
            next=found.edge if found.more else None,
            total_lines=max(about.lines, found.lines[-1].seq if found.lines else 0),
            total_bytes=about.size_bytes,
            sealed=sealed,
            truncated=about.truncated,
            damage=about.damage,
            gaps=[GapAnswer(first=gap.first, last=gap.last, reason=gap.reason) for gap in about.gaps],
        )
    )


async def search(request: Request, api: Api) -> HTTPResponse:
    job_id, outputs = await readable_job(request, api), api.services.outputs
    wanted, match_case = query(request, "q"), query_bool(request, "match_case")
    if not 0 < len(wanted) <= LONGEST_QUERY:
        what = f"a text of 1 to {LONGEST_QUERY} characters is expected"
        raise InvalidInput(f"query parameter q: {what}", [("?q", what)])
    after, limit = query_int(request, "after", 0), query_int(request, "limit", PAGE, LARGEST_PAGE)
    about, place = await outputs.about(job_id), _place_of(wanted, match_case=match_case)
    of_stream, count = _fitting(about, query_choice(request, "stream", *STREAMS)), 0

    def fits(line: LogLine) -> bool:
        nonlocal count
        found = of_stream(line) and place(line.text) >= 0
        count += found
        return found and limit > 0

    window = await ahead(outputs, job_id, after, fits, max(1, limit), most_bytes=MOST_BYTES, line_bytes=LINE_BYTES)
    return json_reply(_search_answer(window, place, count, about.lines))


def _search_answer(window: Window, place: Callable[[str], int], count: int, total_lines: int) -> OutputSearch:
    return OutputSearch(
        lines=[_found(line, place(line.text)) for line in window.lines],
        count=count,
        looked_at=window.looked_at,
        next=window.edge if window.more else None,
        total_lines=max(total_lines, window.edge if window.looked_at else 0),
    )


def _found(line: LogLine, at: int) -> FoundLine:
    found = shown(line)
    return FoundLine(**{name: getattr(found, name) for name in ShownLine.__struct_fields__}, at=at)


def _fitting(about: StoredOutput, stream: str) -> Callable[[LogLine], bool]:
    """Not the words of ours that stand for gaps in the text: those are told as gaps."""
    ours = {gap.last for gap in about.gaps}
    end = about.lines if about.damage else LARGEST
    return lambda line: stream in ("", line.stream) and line.seq not in ours and line.seq <= end


def _place_of(wanted: str, *, match_case: bool) -> Callable[[str], int]:
    """Where it stands in a text; -1: nowhere."""
    if match_case:
        return lambda text: text.find(wanted)
    lower = wanted.lower()

    def place(text: str) -> int:
        lowered = text.lower()
        at = lowered.find(lower)
        return at if len(lowered) == len(text) else _in_original(text, at)

    return place


def _in_original(text: str, at: int) -> int:
    """A place in the text in lower case, in which some characters are two."""
    if at < 0:
        return at
    ends = accumulate(len(character.lower()) for character in text)
    return next((place for place, end in enumerate(ends) if end > at), len(text))


_TOKEN = Parameter("token", "The job's token, from its log_url; or in the header X-Log-Token.", example="c2" * 16)
_STREAM = Parameter("stream", "Only this stream.", choice(*STREAMS))
_LINE = {
    "seq": 501, "stream": "stdout", "time": "2026-01-31T12:00:00.000000+00:00", "text": "epoch 1", "cut": False,
    "size_bytes": 7, "goes_on": False,
}  # fmt: skip
ROUTES = (
    Route(
        "GET", "/jobs/<job_id>/output", output, "Some lines of a job's output.", answer=OutputWindow,
        query=(
            _TOKEN,
            Parameter("after", "The lines behind this one.", whole(LARGEST)),
            Parameter("before", "The lines before this one, the nearest of them.", whole(LARGEST, lowest=1)),
            Parameter("from_end", "So many lines from the end.", whole(LARGEST_PAGE, lowest=1)),
            Parameter("limit", "Most lines in the answer; fewer where they are long.",
                      whole(LARGEST_PAGE, lowest=1, default=PAGE)),
            _STREAM,
            Parameter("max_line_bytes", "Bytes of a line's text that are shown.",
                      whole(LONGEST_LINE_BYTES, lowest=1, default=LINE_BYTES)),
        ),
        answer_example={
            "lines": [_LINE], "next": 501, "total_lines": 900, "total_bytes": 48_000, "sealed": False,
            "truncated": False, "damage": "", "gaps": [],
        },
        errors=(400, 403, 404), tags=("jobs",),
        description="Of either role, while the job runs and afterwards. One answer holds 1 MiB of text at most, and "
        "looks at 100,000 lines at most for those of one stream; `next` goes on. `after`, `before` and `from_end` "
        "exclude each other; without one of them it begins at the first line.",
        needs=Need.NOTHING,
    ),
    Route(
        "GET", "/jobs/<job_id>/output/search", search, "Lines of a job's output that hold a text.",
        answer=OutputSearch,
        query=(
            _TOKEN,
            Parameter("q", "The text, as it stands in the line.",
                      {"type": "string", "minLength": 1, "maxLength": LONGEST_QUERY}, required=True, example="error"),
            Parameter("after", "Only lines behind this one.", whole(LARGEST)),
            Parameter("limit", "Most lines in the answer; 0 only counts.", whole(LARGEST_PAGE, default=PAGE)),
            _STREAM,
            Parameter("match_case", "Tell upper and lower case apart.", FLAG),
        ),
        answer_example={
            "lines": [_LINE | {"at": 0}], "count": 1, "looked_at": 900, "next": None, "total_lines": 900,
        },
        errors=(400, 403, 404), tags=("jobs",),
        description="One answer looks at 100,000 lines at most: go on with `next` until it is null.",
        needs=Need.NOTHING,
    ),
    Route(
        "GET", "/jobs/<job_id>/output/download", download, "A job's output as a file.",
        query=(_TOKEN, _STREAM), media={TEXT: {"type": "string"}}, answer_example="first line\nsecond line\n",
        errors=(400, 403, 404), tags=("jobs",),
        description="As plain text, to be saved under a name with the job's id.",
        needs=Need.NOTHING,
    ),
)  # fmt: skip
