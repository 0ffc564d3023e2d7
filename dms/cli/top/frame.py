"""One frame of the live view: lines of styled text for a terminal of some size. Pure.

Colours are those 16 that each terminal has, and none of them says anything alone.
"""

from __future__ import annotations

from statistics import median

from msgspec import Struct
from rich.text import Text

from dms.cli.glyphs import Glyphs
from dms.cli.text import cell, output_line
from dms.cli.top.board import OPEN, Board
from dms.cli.top.choice import Choice, Mode, Side, selected, shown
from dms.cli.top.rows import Shown, heading, job_line, short_id
from dms.domain.resources import Gpu
from projections.jobs import JobRow

MOST_GPUS = 4  # with a bar of their own
LEAST_ROWS = 3  # of jobs, however low the terminal
_KEYS = {
    Mode.LIST: "q quit  Tab {other}  s sort: {order}  / filter  Enter output  x stop  p peers  ? help",
    Mode.FILTER: "Enter keep it  Esc no filter",
    Mode.ASK_STOP: "y stop it  any other key: leave it",
    Mode.OUTPUT: "Esc back  Up/Down/PgUp/PgDn scroll  f follow",
    Mode.PEERS: "any key: back",
    Mode.HELP: "any key: back",
}
HIDDEN = "what this machine runs for others is not shown to this token"
_HELP = """q, Ctrl-C      quit
Tab, v         the provider's view, or the requester's
Up/Down, j/k   select a job; PgUp, PgDn, Home, End
Enter, o       the job's output; f follows it again
x              stop the job, after a question
p              the peers, with their round trips
s              another order
/              only jobs with these words in id, state, peer, image, reason
Esc            no filter
Ctrl-L         draw anew"""


class Size(Struct, frozen=True):
    columns: int = 80
    rows: int = 24


class Link(Struct, frozen=True):
    """How fresh it is. connected_at, heard_at: of the clock that `now_seconds` is of. trouble: why there is no
    connection."""

    connected: bool = False
    heard_at: float | None = None
    trouble: str = ""


class OutputLines(Struct, frozen=True):
    """The newest lines of a job's output. note: what is missing, or what it waits for."""

    job_id: str = ""
    lines: tuple[tuple[str, str], ...] = ()  # (stream, text)
    note: str = ""


class Scene(Struct, frozen=True, kw_only=True):
    """All that a frame shows. now_us: Unix time; now_seconds: of the clock of `link`. message: the answer to what was
    done last."""

    board: Board
    choice: Choice
    link: Link
    now_us: int
    now_seconds: float
    output: OutputLines = OutputLines()
    message: str = ""
    glyphs: Glyphs = Glyphs()


def frame(scene: Scene, size: Size) -> list[Text]:
    """As many lines as the terminal has rows."""
    mode = scene.choice.mode
    if mode is Mode.OUTPUT:
        body = _output(scene, size)
    elif mode is Mode.PEERS:
        body = _peers(scene)
    elif mode is Mode.HELP:
        body = [Text(line) for line in _HELP.splitlines()]
    else:
        body = _lists(scene, size)
    lines = [title(scene, size.columns), *body][: max(1, size.rows - 2)]
    lines += [Text()] * (size.rows - 2 - len(lines))
    return [*lines, _said(scene), _keys(scene)][: size.rows]


def page_of(scene: Scene, size: Size) -> int:
    """Rows of jobs, or lines of output, on one screen."""
    if scene.choice.mode is Mode.OUTPUT:
        return max(1, size.rows - 5)  # a note has its line too
    return max(LEAST_ROWS, size.rows - 3 - len(summary(scene, size.columns)) - 1)


def title(scene: Scene, columns: int) -> Text:
    """On the left what it is, on the right how fresh."""
    left = Text(f"nunet top{scene.glyphs.between}{scene.choice.side.value}", style="bold")
    right = freshness(scene)
    left.append(" " * max(1, columns - left.cell_len - right.cell_len))
    return left.append_text(right)


def freshness(scene: Scene) -> Text:
    link, glyphs = scene.link, scene.glyphs
    age = None if link.heard_at is None else max(0.0, scene.now_seconds - link.heard_at)
    if link.connected and age is not None and age < STALE_SECONDS:
        facts = ("live", f"position {scene.board.position:,}", f"{age:.1f} s")
        return Text(f"{glyphs.live} {glyphs.between.join(facts)}", style="green")
    if link.connected:
        return Text(f"{glyphs.away} nothing heard for {lasting(age or 0)}", style="yellow")
    seen = "" if age is None else f", last seen {lasting(age)} ago"
    return Text(f"{glyphs.away} {'connecting' if age is None else 'reconnecting'}{seen}", style="bold yellow")


STALE_SECONDS = 20.0  # the daemon says that it lives more often


def _lists(scene: Scene, size: Size) -> list[Text]:
    above = summary(scene, size.columns)
    room = page_of(scene, size)
    rows = shown(scene.board.jobs.values(), scene.choice)
    if not rows:
        return [*above, Text(), Text(_empty(scene), style="dim")]
    place = selected(rows, scene.choice)
    first = max(0, min(place - room // 2, len(rows) - room))
    head = heading(scene.choice.side, size.columns)
    lines = [_line_of(row, scene, size.columns, chosen=row is rows[place]) for row in rows[first : first + room]]
    return [*above, head, *lines]


def job_lines(scene: Scene, columns: int, most: int) -> list[Text]:
    """The list on its own, without a selected one."""
    rows = shown(scene.board.jobs.values(), scene.choice)[:most]
    return [heading(scene.choice.side, columns), *(_line_of(row, scene, columns, chosen=False) for row in rows)]


def _line_of(row: JobRow, scene: Scene, columns: int, *, chosen: bool) -> Text:
    use = scene.board.uses.get(row.job_id) if row.status in OPEN else None  # of one that is over it is the past
    facts = Shown(row, use, scene.now_us, scene.board.machine.core_mhz)
    line = job_line(facts, scene.choice.side, columns, scene.glyphs)
    if chosen:
        line.pad_right(max(0, columns - line.cell_len))
        line.stylize("reverse")
    return line


def _empty(scene: Scene) -> str:
    if scene.choice.filter:
        return f"no job fits the filter {cell(scene.choice.filter)}; Esc takes it away"
    if scene.choice.side is Side.REQUESTER:
        return "no jobs were asked for yet; ask for one with: nunet job run"
    if scene.board.machine.hidden:
        return HIDDEN
    return "no jobs have run here yet" if scene.board.machine.onboarded else "offer this machine with: nunet onboard"


# --- what stands above the jobs ------------------------------------------------------------------------
def summary(scene: Scene, columns: int) -> list[Text]:
    return _of_machine(scene, columns) if scene.choice.side is Side.PROVIDER else [_of_requests(scene)]


def _of_machine(scene: Scene, columns: int) -> list[Text]:
    machine, glyphs = scene.board.machine, scene.glyphs
    if machine.hidden:
        return [Text(peers_text(scene))]
    total, offered, reserved = machine.total, machine.offered, machine.reserved
    lines = [_taking(scene)]
    lines.append(bar("CPU", (total.cpu_mhz, offered.cpu_mhz, reserved.cpu_mhz), "MHz", columns, glyphs))
    lines.append(bar("Memory", (total.memory_mb, offered.memory_mb, reserved.memory_mb), "MB", columns, glyphs))
    lines += [_gpu_bar(place, gpu, columns, glyphs) for place, gpu in enumerate(machine.gpus[:MOST_GPUS])]
    if len(machine.gpus) > MOST_GPUS:
        lines.append(Text(f"and {len(machine.gpus) - MOST_GPUS} more GPUs", style="dim"))
    money = (f"earned {cell(machine.earned_ntx, 30)} NTX", f"to claim {cell(machine.to_claim_ntx, 30)} NTX")
    lines.append(Text(glyphs.between.join((*money, peers_text(scene)))))
    return lines


def _taking(scene: Scene) -> Text:
    machine, glyphs = scene.board.machine, scene.glyphs
    if not machine.accepting:
        why = "; ".join(cell(reason) for reason in machine.why_not) or "the daemon does not say why"
        return Text(f"{glyphs.failed} takes no jobs: {why}", style="bold red")
    if machine.trouble:
        return Text(f"{glyphs.live} takes jobs, but none with internet: {cell(machine.trouble)}", style="yellow")
    return Text(f"{glyphs.live} takes jobs", style="green")


def peers_text(scene: Scene) -> str:
    peers = scene.board.peers
    known = [peer.rtt_ms for peer in peers if peer.rtt_ms is not None]
    trips = f" (round trip {min(known):.0f} to {max(known):.0f} ms, median {median(known):.0f})" if known else ""
    return f"{len(peers)} {'peer' if len(peers) == 1 else 'peers'}{trips}"


def _peers(scene: Scene) -> list[Text]:
    """The nearest first."""
    peers = sorted(scene.board.peers, key=lambda peer: (peer.rtt_ms is None, peer.rtt_ms or 0.0, peer.id))
    lines = [f"{'' if peer.rtt_ms is None else f'{peer.rtt_ms:,.1f} ms':>14}  {cell(peer.id)}" for peer in peers]
    return [Text(f"{'ROUND TRIP':>14}  PEER", style="bold underline"), *map(Text, lines)]


def bar(name: str, amounts: tuple[int, int, int], unit: str, columns: int, glyphs: Glyphs) -> Text:
    """amounts: all that there is, offered, held by jobs."""
    total, offered, held = amounts
    free = max(0, offered - held)
    said = f" {held:,} of {offered:,} {unit} held, {free:,} free, {total:,} in all"
    if columns < 72:
        said = f" {held:,}/{offered:,} {unit}"
    width = max(6, columns - 8 - 2 - len(said))
    return Text.assemble((f"{name[:7]:<7} ", "bold"), "[", *_parts(width, total, offered, held, glyphs), "]", said)


def _parts(width: int, total: int, offered: int, held: int, glyphs: Glyphs) -> list[tuple[str, str]]:
    """Each that is not nothing gets a sign at least."""
    whole = max(total, offered, held, 1)
    filled = min(width, max(round(width * held / whole), 1 if held else 0))
    up_to = min(width, max(round(width * offered / whole), filled + 1 if offered > held else filled))
    lengths = (filled, up_to - filled, width - up_to)
    styles = ("cyan", "green", "dim")
    return [(sign * length, style) for sign, length, style in zip(glyphs.bar, lengths, styles, strict=True)]


def _gpu_bar(place: int, gpu: Gpu, columns: int, glyphs: Glyphs) -> Text:
    held = gpu.total_vram_mb if gpu.taken else max(0, gpu.total_vram_mb - gpu.free_vram_mb)
    name = f"GPU{place}"
    line = bar(name, (gpu.total_vram_mb, gpu.total_vram_mb, held), "MB", columns, glyphs)
    return line.append(f" {'shared ' if gpu.shared else ''}{cell(gpu.name, 40)}", style="dim")


def _of_requests(scene: Scene) -> Text:
    counts: dict[str, int] = {}
    for row in scene.board.jobs.values():
        if row.role == Side.REQUESTER.role:
            counts[row.status] = counts.get(row.status, 0) + 1
    said = [f"{count} {status}" for status, count in sorted(counts.items(), key=lambda pair: -pair[1])]
    machine = scene.board.machine
    known = f"{machine.providers_online} of {machine.providers} providers take jobs"
    return Text(scene.glyphs.between.join((*said, known, peers_text(scene))))


# --- a job's output ----------------------------------------------------------------------------------------
def _output(scene: Scene, size: Size) -> list[Text]:
    output, choice = scene.output, scene.choice
    room = page_of(scene, size)
    row = scene.board.jobs.get(choice.selected)
    head = Text(f"output of {choice.selected}", style="bold").append(f"  {row.status if row else ''}")
    if output.job_id != choice.selected:
        return [head, Text("it is being read", style="dim")]
    back = min(choice.back, max(0, len(output.lines) - room))
    end = len(output.lines) - back
    lines = [_output_line(stream, text) for stream, text in output.lines[max(0, end - room) : end]]
    follows = "" if not back else f"  {back} newer lines below; f follows them"
    note = [Text(cell(output.note), style="dim")] if output.note else []
    return [head.append(follows, style="yellow"), *note, *lines]


def _output_line(stream: str, text: str) -> Text:
    """What came out as an error has a sign of its own at the left."""
    one = text[:LONGEST_LINE].replace("\n", "\\n").expandtabs()
    line = Text.from_ansi(output_line(one, terminal=True))
    mark = Text("! " if stream == "stderr" else "  ", style="red")
    return mark.append_text(line)


LONGEST_LINE = 2000  # characters; the rest is in `nunet job logs`


# --- what stands below ---------------------------------------------------------------------------------------
def _said(scene: Scene) -> Text:
    choice = scene.choice
    if choice.mode is Mode.ASK_STOP:
        return Text(f"Stop job {short_id(choice.selected)}? It counts as failed, and can't go on. [y/N]", style="bold")
    if choice.mode is Mode.FILTER:
        return Text(f"/{cell(choice.filter)}_", style="bold")
    if not scene.link.connected and scene.link.trouble:
        return Text(cell(scene.link.trouble), style="yellow")
    if scene.message:
        return Text(cell(scene.message), style="yellow")
    if choice.filter:
        return Text(f"filter: {cell(choice.filter)}", style="dim")
    return _of_selected(scene)


def _of_selected(scene: Scene) -> Text:
    """What had no room in its line."""
    rows = shown(scene.board.jobs.values(), scene.choice) if scene.choice.mode is Mode.LIST else []
    if not rows:
        return Text()
    row = rows[selected(rows, scene.choice)]
    return Text("  ".join(part for part in (cell(row.job_id), cell(row.reason, 300)) if part), style="dim")


def _keys(scene: Scene) -> Text:
    choice = scene.choice
    text = _KEYS[choice.mode].format(other=choice.side.other.value, order=choice.order)
    return Text(text, style="dim")


def lasting(seconds: float) -> str:
    """12 s, 3 min, 2 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
