"""What every command shares: the options that may stand anywhere, exit codes, errors in one line.

Libraries that take long to import (httpx, rich, msgspec) are imported where they are used, so that `--help`
and shell completion stay quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from dms.cli import streams
from dms.cli.failure import Failure, complain, say
from dms.errors import ConfigError, DmsError, Exit, told

if TYPE_CHECKING:
    from dms.cli.client import Api
    from dms.cli.output import Output
    from dms.config import Loaded

F = TypeVar("F", bound=Callable[..., Any])

_WHAT_IT_IS = "it is one line such as dms_0199..._Gb3..., as `nunet token create` printed it"
FORMATS = ("table", "json", "jsonl", "yaml")


def can_ask() -> bool:
    """Whether somebody sits there to answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@dataclass
class State:
    """The shared options, as far as they were given, and what is made from them once it is needed."""

    config: Path | None = None
    url: str | None = None
    token_file: Path | None = None
    format: str = "table"
    colour: bool = field(default_factory=lambda: not os.environ.get("NO_COLOR"))
    _loaded: Loaded | None = None

    def load(self, overrides: Mapping[str, str] | None = None) -> Loaded:
        """The settings in force; warnings go to standard error. Raises ConfigError."""
        from dms.config import load

        if self._loaded is None or overrides:
            self._loaded = load(overrides, file=self.config)
            for warning in self._loaded.warnings:
                say(f"warning: {warning}")
        return self._loaded

    @property
    def given_url(self) -> str:
        """--url, else DMS_URL; empty for neither."""
        return self.url or os.environ.get("DMS_URL", "")

    @property
    def base_url(self) -> str:
        """Where the daemon answers: as it was given, else as it is configured."""
        from dms.cli.client import checked_url, url_of

        given = self.given_url
        if given and not streams.is_utf_8(given):
            raise Failure("the address of the DMS (--url or DMS_URL) is not UTF-8", Exit.USAGE)
        return checked_url(given) if given else url_of(self.load().settings.rest)

    def api(self) -> Api:
        """Its connections are closed with the command."""
        from dms.cli.client import Api

        certificate = "" if self.given_url else self.load().settings.rest.tls_cert
        api = Api(self.base_url, self._token(), certificate)
        click.get_current_context().call_on_close(api.close)
        return api

    def _token(self) -> str:
        """Of --token-file, else DMS_TOKEN; empty for none: then it counts which user this is. Raises Failure."""
        if self.token_file is None:
            return _plain(os.environ.get("DMS_TOKEN", ""), "DMS_TOKEN")
        try:
            text = self.token_file.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise Failure(f"the token file {self.token_file} can't be read: {why}", Exit.USAGE) from error
        if not (token := _plain(text, str(self.token_file))):
            raise Failure(f"the token file {self.token_file} holds no token", Exit.USAGE, _WHAT_IT_IS)
        return token

    @property
    def output(self) -> Output:
        from dms.cli.output import Output

        return Output(self.format, colour=self.colour)


def _plain(text: str, where: str) -> str:
    """Without blanks at its ends. Raises Failure, which does not show it."""
    token = text.strip()
    if not all("!" <= character <= "~" for character in token):
        raise Failure(f"what {where} holds is no token", Exit.USAGE, _WHAT_IT_IS)
    return token


pass_state = click.make_pass_decorator(State, ensure=True)


# --- options that may stand before or behind the command's name ------------------------------------------------


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            setattr(context.ensure_object(State), name, value)

    return keep


def _no_colour(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(State).colour = False


def shared_options() -> list[click.Option]:
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="Configuration file to use in place of dms_config.json in ., ~/.nunet or /etc/nunet.",
            expose_value=False,
            callback=_keep("config"),
        ),
        click.Option(
            ["--url"],
            metavar="URL",
            help="The daemon to talk to  [default: DMS_URL, else rest.addr and rest.port].",
            expose_value=False,
            callback=_keep("url"),
        ),
        click.Option(
            ["--token-file"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="File with the token to present  [default: DMS_TOKEN, else none].",
            expose_value=False,
            callback=_keep("token_file"),
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(FORMATS),
            help="How data is printed on standard output.",
            expose_value=False,
            callback=_keep("format"),
        ),
        click.Option(
            ["--no-color", "--no-colour"],
            is_flag=True,
            help="No colours (NO_COLOR does the same).",
            expose_value=False,
            callback=_no_colour,
        ),
    ]


class Command(click.Command):
    """A command that takes the shared options too, and shows an example in its help."""

    def __init__(self, name: str, *, example: str, params: Sequence[click.Parameter] = (), **extra: Any) -> None:
        params = list(params)
        self._taken = taken = {option for param in params for option in (*param.opts, *param.secondary_opts)}
        for option in shared_options():
            option.opts = [text for text in option.opts if text not in taken]
            params.append(option)
        super().__init__(name, params=params, epilog=_example(example), **extra)
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What is not a name of a file must be text: it goes to the daemon, in JSON and in addresses."""
        try:
            rest = super().parse_args(ctx, self._told_apart(args))
            for param in self.params:
                value = ctx.params.get(param.name or "")
                for text in value if isinstance(value, tuple) else (value,):
                    if isinstance(text, str) and not streams.is_utf_8(text):
                        raise click.BadParameter("it is not UTF-8", ctx, param)
        except click.ClickException:
            ctx.close()  # of the files that were opened
            raise
        return rest

    def _told_apart(self, args: list[str]) -> list[str]:
        """Where -o is a flag of the command's own (the original's), a format behind it makes it the shared option."""
        found: list[str] = []
        for text in args:
            if "-o" not in self._taken or "--" in found:
                found.append(text)
            elif found[-1:] == ["-o"] and text in FORMATS:
                found[-1:] = ["--output", text]
            elif text.startswith("-o") and text[2:].removeprefix("=") in FORMATS:
                found += ["--output", text[2:].removeprefix("=")]
            else:
                found.append(text)
        return found


class Group(click.Group):
    def __init__(self, name: str, *, example: str, **extra: Any) -> None:
        super().__init__(name, epilog=_example(example), **extra)
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])


def _example(text: str) -> str:
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in text.splitlines())


def command(group: click.Group, name: str, example: str, cls: type[Command] = Command) -> Callable[[F], Command]:
    """Decorator: the function becomes the command `name` of `group`; its docstring is the help."""

    def wrap(function: F) -> Command:
        made = click.command(name, cls=cls, example=example)(function)
        group.add_command(made)
        return made

    return wrap


class Root(Group):
    """Turns every end of a command into one line and an exit code; a traceback is never shown."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        del standalone_mode, windows_expand_args
        streams.prepare()
        name = prog_name or "nunet"
        try:
            code = _flushed(self._code(list(sys.argv[1:] if args is None else args), name, complete_var, extra))
        except KeyboardInterrupt:  # again, while it was ending: all was said
            code = Exit.INTERRUPTED
        sys.exit(code)

    def _code(self, args: list[str], name: str, complete_var: str | None, extra: Mapping[str, Any]) -> int:
        """Runs the command, and tells how it failed."""
        self._main_shell_completion(dict(extra), name, complete_var)
        try:
            with self.make_context(name, args, **extra) as context:
                code = self.invoke(context)
        except click.exceptions.Exit as error:  # of --help and --version
            code = error.exit_code
        except click.exceptions.NoArgsIsHelpError as error:  # a group alone: its help, not one line of it
            click.echo(error.message, err=True)
            code = Exit.USAGE
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else name
            complain(error.format_message(), f"{path} --help")
            code = Exit.USAGE
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt, EOFError):
            say("interrupted")
            code = Exit.INTERRUPTED
        except DmsError as error:
            complain(str(error), quotes=isinstance(error, ConfigError))
            code = told(error).exit_code
        except OSError as error:
            if isinstance(error, BrokenPipeError) and streams.has_no_reader():
                code = Exit.NOT_READ
            else:
                complain(_of_the_system(error))
                code = Exit.FAILURE
        except UnicodeEncodeError as error:  # what is not text came through as the name of a file
            complain(f"what was given is not UTF-8: {error.object[:64]}")
            code = Exit.USAGE
        except Exception as error:
            if "NUNET_DEBUG" in os.environ:
                raise
            complain(f"internal error: {type(error).__name__}: {error}", "NUNET_DEBUG=1 before the command shows where")
            code = Exit.FAILURE
        return code if isinstance(code, int) else Exit.OK


def _flushed(code: int) -> int:
    """The exit code, once what was printed is out: data that did not arrive is not a success."""
    try:
        streams.flush()
    except BrokenPipeError:
        return code or Exit.NOT_READ
    except OSError as error:
        if not code:
            complain(f"standard output: {error.strerror}")
            return Exit.FAILURE
    return code


def _of_the_system(error: OSError) -> str:
    if error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, FileNotFoundError) and not _has_folder():
        return "the working directory is not there any more: go to another one first"
    return error.strerror or str(error)


def _has_folder() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True
