"""The `fsseg` command: dispatches to one module per subcommand and turns errors into messages."""

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from fsseg import __version__
from fsseg.cli.parser import Parser
from fsseg.config.errors import FssegError, UsageError, unknown_name
from fsseg.config.stopping import Terminated, sigterm_interrupts

# Name of the command -> what its help line says. The module fsseg.cli.<name> is imported only when it is used,
# so that `fsseg --help` stays fast and imports no torch.
COMMANDS = {
    "demo": "run the whole pipeline on phantom CTs in a few minutes",
    "assemble": "join partially labelled datasets into one nnU-Net dataset",
    "preprocess": "plan and preprocess a dataset with nnU-Net",
    "pretrain": "train one universal encoder on partially labelled datasets",
    "import": "turn a public checkpoint into a run to adapt from",
    "adapt": "fit a pretrained network to structures from a few labelled cases",
    "predict": "segment images with a run",
    "evaluate": "compare predictions with references (DSC, NSD, HD95, volume)",
    "compare": "compare runs, or predictions of any tool, on the same test cases",
    "adapter": "look at an adapter file, or merge it into a stock nnU-Net model",
    "nnunet": "use fsseg's trainers from nnU-Net's own commands",
    "table": "make a table: a grid of adaptations, run and compared",
    "methods": "list the adaptation methods, or describe one",
    "completion": "print a script that completes commands and options in the shell",
}

# What stays of a command that Ctrl-C or SIGTERM stopped, where something does.
_AFTER_STOP = {
    "preprocess": "The preprocessed dataset is incomplete: give the command again.",
    "pretrain": "The same command with --resume resumes the training after its last step.",
    "predict": "Label maps that are finished stay, and the same command resumes behind them.",
    "compare": "Cases that are segmented stay, and the same command resumes behind them.",
    "table": "Finished runs stay, and the same command goes on with the others.",
    "adapt": "The same command resumes the training, and a leave-one-out.",
}


_LESS_MEMORY = {
    "adapt": "  Training takes less with --set recipe.checkpoint_activations=true, a smaller recipe.batch_size, or a"
    " method that trains less.",
    "pretrain": "  Training takes less with a smaller patch or batch size in the plans.",
}
_WHOLE_IMAGES = (
    "  A whole image at the spacing of the plans has to fit, in a prediction with a score for every structure: look at"
    " that spacing and at the size of the image, or take a machine with more memory (--device cpu uses the host's)."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 (failed) or 2 (usage)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _top_level_parser()
    name = next((word for word in arguments if not word.startswith("-")), None)
    if name is None:
        parser.parse_args(arguments)
        parser.print_help()
        return UsageError.exit_code
    debug = "--debug" in arguments
    try:
        with sigterm_interrupts():
            return _run(name, [word for word in arguments if word != "--debug"])
    except FssegError as error:
        _report(f"fsseg {name}: {error}", debug)
        return error.exit_code
    except KeyboardInterrupt as stop:
        what_stays = _AFTER_STOP.get(name, "Nothing of it is kept.")
        by = "SIGTERM" if isinstance(stop, Terminated) else "Ctrl-C"
        _report(f"fsseg {name}: stopped by {by}. {what_stays}", debug)
        return 1
    except OSError as error:
        file = f": {error.filename}" if error.filename else ""
        _report(f"fsseg {name}: {error.strerror or error}{file}", debug)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        first_line = str(error).partition("\n")[0] or "the host has none left"
        _report(f"fsseg {name}: out of memory: {first_line}\n{_LESS_MEMORY.get(name, _WHOLE_IMAGES)}", debug)
        return 1


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether a device or the host had no memory left; torch has an exception of its own for the former only."""
    own_names = {kind.__name__ for kind in type(error).__mro__}  # torch need not be imported to ask
    return bool({"MemoryError", "OutOfMemoryError"} & own_names) or "can't allocate memory" in str(error)


def _run(name: str, arguments: list[str]) -> int:
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS, "`fsseg --help` describes them.")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("fsseg").setLevel(logging.INFO)
    module = importlib.import_module(f"fsseg.cli.{name}")
    parser = Parser(prog=f"fsseg {name}", description=module.__doc__, epilog=module.EXAMPLES)
    module.add_arguments(parser)
    arguments.remove(name)
    return int(module.run(parser.parse_args(arguments)))


def _top_level_parser() -> Parser:
    listing = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    parser = Parser(
        prog="fsseg",
        usage="fsseg COMMAND [options]",
        description="Few-shot adaptation of pretrained 3D segmentation networks on nnU-Net conventions.",
        epilog=f"commands:\n{listing}\n\n`fsseg COMMAND --help` shows the options and examples of a command.\n"
        "`--debug` adds the traceback to an error.",
    )
    parser.add_argument("--version", action="version", version=f"fsseg {__version__}")
    return parser


def _report(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(message.rstrip() + os.linesep)


if __name__ == "__main__":
    sys.exit(main())
