"""The command line.  A verb imports what it needs when it runs: `--help` is there at once."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, origin
from .errors import ConfigError
from .keys import arguments as keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from .config import Configuration

    Verb: TypeAlias = Callable[[argparse.Namespace], int]

_FLAGS = {
    "--upstream": ("URL", "the API to put it in front of, such as https://api.openai.com/v1"),
    "--host": ("ADDRESS", "the address that clients reach (127.0.0.1)"),
    "--port": ("PORT", "the port there (8080)"),
    "--admin-port": ("PORT", "the port of /healthz, /readyz and /metrics (8081)"),
    "--workers": ("N", "how many processes share the port (1)"),
    "--log-level": ("LEVEL", "debug, info, warning or error (info)"),
}
_FILE_HELP = "the configuration ($DRAGOMAN_CONFIG, or dragoman.toml if there is one)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb.  The exit code is 2 for wrong usage or configuration, 1 for other failures."""
    if conflict := origin.conflict():
        _say([conflict])
        return 1
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    try:
        code: int = arguments.verb(arguments)
    except ConfigError as error:
        _say(error.problems)
        return 2
    return code


def _serve(arguments: argparse.Namespace) -> int:
    given = {flag: getattr(arguments, flag[2:].replace("-", "_")) for flag in _FLAGS}
    flags = {flag: text for flag, text in given.items() if text is not None}
    reread = partial(_load, arguments.config, flags)
    configuration = reread()
    _say(f"warning: {warning}" for warning in configuration.warnings)
    if configuration.settings.server.workers > 1:
        from .serving import workers

        return workers.run(configuration, reread)
    from .serving import process

    return process.run(configuration, reread)


def _check(arguments: argparse.Namespace) -> int:
    from .startup import startup_lines

    configuration = _load(arguments.file or arguments.config, {})
    print(f"{configuration.path or 'the configuration'} is valid")
    print(*startup_lines(configuration), sep="\n")
    for warning in configuration.warnings:
        print(f"warning: {warning}")
    return 0


def _plugins(arguments: argparse.Namespace) -> int:
    from . import config, registry, terminal

    draft = config.read(config.find(arguments.config, os.environ), {}, os.environ)
    rows = [
        (
            ", ".join(map(str, each.positions)) or "-",
            each.name,
            f"{each.distribution} {each.version}",
            each.description,
        )
        for each in registry.installed(registry.choose(draft))
    ]
    print(*terminal.columns(rows), sep="\n")
    return 0


def _schema(_: argparse.Namespace) -> int:
    import json

    from . import schema

    print(json.dumps(schema.schema(), indent=2))
    return 0


def _keys(arguments: argparse.Namespace) -> int:
    from .keys import command
    from .store import StoreUnavailable

    try:
        lines = command.done(arguments, os.environ)
    except StoreUnavailable as error:
        _say([str(error)])
        return 1
    print(*lines, sep="\n")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):  # a plugin may print
        configuration = _load(arguments.config, {})
        _say(f"warning: {warning}" for warning in configuration.warnings)
        from .explain import command

        explanation = command.explained(configuration, arguments.request, arguments.header)
    if arguments.json:
        print(command.as_json(explanation))
        return 0
    from .terminal import wants_colour

    colour = not arguments.no_color and wants_colour(sys.stdout, os.environ)
    print(command.as_text(explanation, colour=colour))
    return 0


def _faq(arguments: argparse.Namespace) -> int:
    from . import faq

    print(*faq.lines(arguments), sep="\n")
    return 0


def _share(text: str) -> float:
    if not 0 < (share := float(text)) <= 1:
        raise argparse.ArgumentTypeError("should be above 0, and 1 at most")
    return share


def _usage(arguments: argparse.Namespace) -> int:
    import asyncio

    from .store import StoreUnavailable

    configuration = _load(arguments.config, {})
    names = {"from": arguments.since, "to": arguments.until, "by": arguments.by}
    given = {name: text for name, text in names.items() if text is not None}
    try:
        lines = asyncio.run(_used(configuration, given, arguments.format))
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    except StoreUnavailable as error:
        _say([str(error)])
        return 1
    print(*lines, sep="\n")
    return 0


async def _used(
    configuration: Configuration, given: Mapping[str, str], form: str | None
) -> Sequence[str]:
    from .store import namespaced, open_store
    from .telemetry import Metrics

    budgets = [each for each in configuration.plugins if each.table.use == "budget"]
    chosen = [each for each in budgets if getattr(each.options, "keep_usage", 0)]
    if not chosen:
        raise ConfigError(["no budget is among the plugins of the configuration that keeps usage"])
    plugin: Any = chosen[0].plugin
    store = await open_store(configuration.settings.store, Metrics("openai"))
    try:
        kept = namespaced(store, f"dragoman:{chosen[0].name}:")
        lines: Sequence[str] = await plugin.used(chosen[0].options, kept, given, form)
        return lines
    finally:
        await store.close()


def _demo(arguments: argparse.Namespace) -> int:
    from .demo import script

    return script.main(arguments.model)


def _load(file: Path | None, flags: Mapping[str, str]) -> Configuration:
    from . import config
    from .startup import load

    return load(config.find(file, os.environ), flags, os.environ)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """`serve` is meant where no verb is named."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["serve", *argv]
    parser = argparse.ArgumentParser(
        prog="dragoman",
        description="A proxy in front of any OpenAI-compatible API.",
        epilog="Without a verb it serves: dragoman --upstream https://api.openai.com/v1",
    )
    parser.add_argument("--version", action="version", version=f"dragoman {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add(name: str, verb: Verb, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(verb=verb)
        return added

    serve = add("serve", _serve, "run the proxy, until a signal stops it")
    serve.add_argument("-c", "--config", type=Path, metavar="FILE", help=_FILE_HELP)
    for flag, (value, text) in _FLAGS.items():
        serve.add_argument(flag, metavar=value, help=text)
    check = add("check", _check, "say what a configuration would run, or all that is wrong with it")
    check.add_argument("file", nargs="?", type=Path, metavar="FILE", help=_FILE_HELP)
    check.add_argument("-c", "--config", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    plugins = add("plugins", _plugins, "list the installed plugins, and where each of them stands")
    plugins.add_argument("-c", "--config", type=Path, metavar="FILE", help=_FILE_HELP)
    explain = add("explain", _explain, "show what each plugin does with a request; sends nothing")
    explain.add_argument(
        "request", metavar="FILE", help="the body of a chat completion; - is stdin"
    )
    explain.add_argument("-c", "--config", type=Path, metavar="FILE", help=_FILE_HELP)
    explain.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a header of the request; may be given again",
    )
    explain.add_argument("--json", action="store_true", help="print one JSON document")
    explain.add_argument("--no-color", action="store_true", help="print plain text")
    faq = add(
        "faq", _faq, "the FAQ: how a question is decided, what was nearly answered, thresholds"
    )
    actions = faq.add_subparsers(dest="action", metavar="ACTION", required=True)
    test = actions.add_parser("test", help="how a question is decided, step by step")
    test.add_argument("question", metavar="QUESTION")
    for name in ("model", "caller", "system"):
        test.add_argument(f"--{name}", metavar="TEXT", help=f"the {name} that scopes go by")
    review = actions.add_parser("review", help="what entries nearly answered; needs a shared store")
    review.add_argument("verdict", nargs="?", choices=["accept", "reject"], help="make an alias")
    review.add_argument("entry", nargs="?", metavar="ENTRY", help="of this entry")
    review.add_argument("question", nargs="?", metavar="QUESTION", help="of it, or of its hash")
    calibrate = actions.add_parser("calibrate", help="a threshold from labelled pairs of questions")
    calibrate.add_argument("pairs", type=Path, metavar="FILE", help='lines {"a":…,"b":…,"same":…}')
    calibrate.add_argument("--embedder", metavar="NAME", help="instead of the configuration's")
    calibrate.add_argument("--precision", type=_share, default=0.99, metavar="P", help="(0.99)")
    calibrate.add_argument("--svg", type=Path, default=Path("faq-calibration.svg"), metavar="FILE")
    for action in (test, review, calibrate):
        action.add_argument("-c", "--config", type=Path, metavar="FILE", help=_FILE_HELP)
    used = add("usage", _usage, "show what was used by caller, model and day; needs a shared store")
    used.add_argument("-c", "--config", type=Path, metavar="FILE", help=_FILE_HELP)
    used.add_argument("--from", dest="since", metavar="DAY", help="the first day (30 days ago)")
    used.add_argument("--to", dest="until", metavar="DAY", help="the last day (today)")
    used.add_argument("--by", metavar="NAMES", help="what to tell apart (caller,model,day)")
    forms = used.add_mutually_exclusive_group()
    for form in ("csv", "json"):
        forms.add_argument(
            f"--{form}",
            dest="format",
            action="store_const",
            const=form,
            help=f"print {form.upper()}",
        )
    add("schema", _schema, "print the JSON schema of the configuration, for editors")
    keys.add_actions(add("keys", _keys, "make, list, revoke and rotate keys for clients"))
    demo = add("demo", _demo, "run a conversation through the proxy; needs no key and no server")
    demo.add_argument("--model", choices=["smollm2"], help="a real model, by dragoman[smollm2]")
    return parser.parse_args(argv)
