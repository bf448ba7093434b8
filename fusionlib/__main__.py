"""Command line: ``fusionlib doctor | methods | fuse | score | whose | check-metrics | data |
run | report``. Exit code 0 only on success.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fusionlib import __version__, extras

# Typer's coloured pages and tracebacks take longer to import than most commands take to run.
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{extras.DISTRIBUTION} {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="the release")
    ] = False,
) -> None:
    """Reproduce two image-fusion papers, fuse your own images, score your own method."""


# radon C: a line for each thing that may be missing
@app.command()
def doctor() -> None:
    """Check this installation and say what is missing."""
    from fusionlib import places, runs

    facts, missing = runs.environment(), extras.missing()
    repository = places.checkout()
    origin = f"revision {facts['git'][:10]}" if repository else f"installed in {runs.root()}"
    typer.echo(
        f"{extras.DISTRIBUTION} {__version__}, {origin}; Python {facts['python']} on"
        f" {facts['system']}, {facts['cores']} cores"
    )
    typer.echo(", ".join(f"{name} {version}" for name, version in facts["packages"].items()))
    if "torch" not in missing:
        typer.echo(f"device: {runs.device_name()}")
        _say_places()
    lacking = [
        f"extra {extra}: {', '.join(modules)} not installed; {extras.command(extra)}"
        for extra, modules in missing.items()
    ]
    problems = _unlike_lock(repository / "requirements.lock", facts) if repository else []
    # a wheel is whole with its core; the checkout's commands need everything
    problems += lacking if repository else []
    for sentence in [] if repository else lacking:
        typer.echo(sentence)
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        problems.append(f"Python: expected 3.11 to 3.14, running {facts['python']}")
    for problem in problems:
        typer.echo(f"problem: {problem}")
    if problems:
        raise typer.Exit(1)
    typer.echo("all is well")


def _unlike_lock(lock: Path, facts: dict) -> list[str]:
    """Return a sentence for each installed package of another version than the lock file has."""
    pinned: dict[str, list[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        name, equals, version = line.partition(";")[0].rstrip(" \\").partition("==")
        if equals:
            pinned.setdefault(name.strip(), []).append(version.strip())
    # numpy and scipy are pinned for each version of Python: any of the pins will do
    return [
        f"{name}: requirements.lock pins {' or '.join(pinned.get(name, ['nothing']))}, installed is"
        f" {version}"
        for name, version in facts["packages"].items()
        if version not in pinned.get(name, [])
    ]


# radon C: each place, with what lies there and what gets the rest
def _say_places() -> None:
    """Say where data and weights are looked for, what lies there, and how to get the rest."""
    from fusionlib import places
    from fusionlib.datasets import get
    from fusionlib.networks import load_checkpoint
    from fusionlib.networks.weights import CHECKPOINTS

    for kind, (variable, _) in places.KINDS.items():
        looked = " then ".join(map(str, places.folders(kind))) or "no folder"
        typer.echo(f"{kind} ({variable}): {looked}")
        if kind == "data":
            lines, lacking = get.present()
            names = [name.removeprefix("ivif/").removeprefix("mfif/") for name in lacking]
        else:
            lines, names = [], []
            for key in CHECKPOINTS:
                try:
                    lines.append(f"{key}: {', '.join(load_checkpoint(key).files)}")
                except FileNotFoundError:
                    names.append(key)
                except ValueError as error:
                    lines.append(f"{key}: {error}")
        for sentence in lines:
            typer.echo(f"  {sentence}")
        if names:
            command = "get NAME... (sample: what that profile needs)"
            command = command if kind == "data" else "weights NAME... (or all)"
            typer.echo(f"  not there: {', '.join(names)}; to get some: fusionlib data {command}")


PLUGIN_HELP = "a Python file whose functions stand under @register; may be repeated"
Plugins = Annotated[list[Path] | None, typer.Option(help=PLUGIN_HELP)]


@app.command()
def methods(plugin: Plugins = None) -> None:
    """List the fusion methods with their variants and parameters."""
    from fusionlib import methods as library

    library.load_plugins(plugin or [])
    for name in library.names():
        method = library.get(name)
        typer.echo(f"{name:12} {method.summary}")
        if len(method.variants) > 1:
            typer.echo(
                f"{'':12} variants:"
                f" {', '.join(variant or 'default' for variant in method.variants)}"
            )
        if method.parameters:
            typer.echo(
                f"{'':12}"
                f" {', '.join(f'{key}={value!r}' for key, value in method.parameters.items())}"
            )


def _parameters(pairs: list[str]) -> dict:
    """Turn ``name=value`` words into a dict; values are JSON where they can be, else text."""
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set: expected name=value, got {pair!r}")
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


def _limit_pixels(value: int | None) -> int | None:
    """Let larger images be read here and in worker processes."""
    if value is not None:
        from fusionlib import decoding

        os.environ[decoding.LIMIT] = str(value)
    return value


MaxPixels = Annotated[
    int | None, typer.Option(min=1, callback=_limit_pixels, help="of an image, by default 64000000")
]

MEMORY_HELP = "GB of all jobs together; by default 2 a job, or half of what is free"
Memory = Annotated[float | None, typer.Option(help=MEMORY_HELP, min=0.1)]
STRETCH_HELP = "none, minmax or percentile (0.5 to 99.5): one range of gray levels for a folder"
Stretch = Annotated[str, typer.Option(help=STRETCH_HELP)]


# radon C: the options of one command, for two files and for two folders
@app.command()
def fuse(
    a: Path,
    b: Path,
    out: Path,
    method: Annotated[str, typer.Option(help="see: fusionlib methods")],
    variant: str | None = None,
    checkpoint: Annotated[Path | None, typer.Option(help="folder of weights")] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="take a checkpoint that is not the authors'")
    ] = False,
    device: str = "auto",
    set: Annotated[
        list[str] | None, typer.Option(help="a parameter, name=value; may be repeated")
    ] = None,
    plugin: Plugins = None,
    max_pixels: MaxPixels = None,
    memory: Memory = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes that share the pairs")] = 1,
    stretch: Stretch = "none",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace what another method left in OUT")
    ] = False,
    keep_both_colours: Annotated[
        bool, typer.Option("--keep-both-colours", help="of two coloured images, as multi-focus")
    ] = False,
) -> None:
    """Fuse two files into a file, or two folders into OUT/gray and OUT/color. Infrared first,
    visible second. Interrupted, the same command goes on.
    """
    from fusionlib import images
    from fusionlib import methods as library
    from fusionlib.metrics import exposure
    from fusionlib.workers import default_memory

    library.load_plugins(plugin or [])
    named = str(checkpoint) if checkpoint else None
    chosen = library.get(method, variant, named, device, unverified)
    if (chosen.name, chosen.variant) == (library.MOE_FUSION, "scenes"):
        typer.echo(f"{chosen.name}: {library.SCENES}", err=True)
    parameters = _parameters(set or [])
    share = (memory or default_memory(jobs)) / jobs
    if "memory" not in chosen.parameters:
        chosen = replace(chosen, memory=share)
    elif memory is not None or jobs > 1:
        parameters.setdefault("memory", share)
    if a.is_dir() != b.is_dir():
        raise ValueError(f"{a} and {b}: expected two files or two folders, got one of each")
    if not a.is_dir():
        library.folders.check_outputs([out], [a, b])
        images.check_suffix(out)
        levels = [images.stretch_levels(path, stretch) for path in (a, b)]
        pair = images.read_pair(a, b, levels)
        if not keep_both_colours:
            pair = images.as_infrared_visible(*pair, str(a))[:2]
        gray, shown, info = chosen.fuse_both(*pair, **parameters)
        images.write(out, shown)
        aside = images.is_stdout(out)
        typer.echo(f"{out}{images.loss(out)}", err=aside)
        lost = exposure.shares(gray, *map(images.luma, pair))
        typer.echo(exposure.in_words(lost), err=aside)
        if how := info.get("lean") or ("strips" in info and f"in {info['strips']} strips"):
            typer.echo(f"{how}, to stay within {chosen.memory:g} GB", err=aside)
        return
    try:
        count, problems = library.fuse_folders(
            chosen,
            a,
            b,
            out,
            overwrite,
            stretch=stretch,
            both_colours=keep_both_colours,
            processes=jobs,
            **parameters,
        )
    except KeyboardInterrupt as error:
        raise Stopped(str(error)) from None
    typer.echo(f"{count} pairs fused into {out}/gray and {out}/color")
    if lost_pixels := library.folders.lost_pixels(out):
        typer.echo(lost_pixels)
    _end(problems, kept=count > 0)


# radon C: the options of one command; each choice is a line of what is said
@app.command()
def score(
    fused: Path,
    a: Path,
    b: Path,
    convention: Annotated[list[str] | None, typer.Option()] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help='names, or "all"; without, the first thirteen')
    ] = None,
    reference: Path | None = None,
    csv: Path | None = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "--processes", help="processes that share the work")
    ] = 1,
    max_pixels: MaxPixels = None,
    memory: Memory = None,
    stretch: Stretch = "none",
    beside: Annotated[
        str, typer.Option(help="a printed table to show the row in, such as table-1")
    ] = "",
) -> None:
    """Score a folder of fused images against its sources; names match by stem. Infrared first,
    visible second.
    """
    from fusionlib import images, scoring, table_rows
    from fusionlib.workers import default_memory

    _check_csv(csv)
    aside = csv is not None and images.is_stdout(csv)  # a table is read by programs
    names = "all" if metric == ["all"] else metric or None
    chosen, interrupted = convention or ["moe-fusion"], ""
    rows = table_rows.printed(beside) if beside else None
    if rows is not None:
        chosen = [*dict.fromkeys([*chosen, *rows["convention"]])]
    gray = scoring.gray_folder(fused)
    if gray != fused:
        why = f"scored, since {fused} holds no images itself (color is for the eye)"
        typer.echo(f"{gray}: {why}", err=aside)
    within = memory or default_memory(max(jobs, 1))
    try:
        frame, problems = scoring.score_folder(
            gray, a, b, names, chosen, reference, jobs, stretch=stretch, memory=within
        )
    except scoring.Interrupted as error:
        (frame, problems), interrupted = error.scores, str(error)
    if len(frame):
        _say_scores(frame, rows, aside)
    if csv is not None:  # after the means: they stand even where it cannot be written
        images.write_text(csv, frame.to_csv(index=False))
    if interrupted:
        raise Stopped(interrupted + (f", in {csv}" if csv else ""))
    count = f"{frame['image'].nunique()} images" if len(frame) else "no image"
    typer.echo(f"{count} scored", err=aside)
    for problem in problems:
        typer.echo(f"skipped: {problem}", err=True)
    if problems or not len(frame):
        raise typer.Exit(1)


def _check_csv(csv: Path | None) -> None:
    """Refuse what is no name of a table before the work; a stream, such as /dev/stdout, is one."""
    from fusionlib import images

    if csv is not None and not images.is_stream(csv):
        if csv.is_dir() or csv.suffix.lower() != ".csv":
            got = f"the folder {csv}" if csv.is_dir() else csv
            raise ValueError(f"--csv: expected the name of a file that ends in .csv, got {got}")


def _say_scores(frame, rows, aside: bool) -> None:
    """Say the means, what is no mean over all images, a row to paste, and the printed rows.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`fusionlib.scoring.score_folder`.
    rows : DataFrame or None
        Of :func:`fusionlib.table_rows.printed`.
    aside : bool
        On standard error.
    """
    from fusionlib import scoring, table_rows

    table, sentences = scoring.summarize(frame)
    finer = {name: "{:.5f}".format for name in table.columns if name == "Qncie"}
    text = table.to_string(float_format=lambda value: f"{value:.4f}", formatters=finer, na_rep="-")
    lines = [text, *sentences]
    for convention, means in table.iterrows():
        lines.append(f"to paste, {convention}, {' '.join(table_rows.ORDER)}:")
        lines.append(f"  {table_rows.to_paste(means)}")
    if rows is not None:
        lines.append(table_rows.beside(rows, table, frame["image"].nunique()))
    typer.echo("\n".join(lines), err=aside)


@app.command()
def whose(
    numbers: Annotated[list[str], typer.Argument(metavar="NAME=NUMBER...")],
    of: Annotated[
        tuple[Path, Path, Path] | None,
        typer.Option("--images", metavar="FUSED A B", help="the images that the numbers are of"),
    ] = None,
) -> None:
    """Tell which conventions can have produced printed numbers, and why the others cannot."""
    from fusionlib import images
    from fusionlib.experiments import whose

    pairs = [word.partition("=") for word in numbers]
    for word, (_, equals, _) in zip(numbers, pairs, strict=True):
        if not equals:
            raise ValueError(f"numbers: expected NAME=NUMBER, such as SD=9.6, got {word!r}")
    triple = None if of is None else (images.read(of[0]), images.read(of[1]), images.read(of[2]))
    frame = whose.possible({name: text for name, _, text in pairs}, triple)
    for row in frame.itertuples():
        typer.echo(f"{row.convention:12} {'yes' if row.possible else 'no':4} {row.reason}")
    typer.echo(whose.sentence(frame))


@app.command("check-metrics")
def check_metrics() -> None:
    """Compute every metric in every convention on three built-in pairs, beside the values of the
    original evaluators.
    """
    from fusionlib.experiments import evaluator_check

    table = evaluator_check.check()
    columns = ["pair", "convention", "metric", "computed", "original", "evaluator"]
    typer.echo(table[columns].to_string(index=False, na_rep="-"))
    differ = table[~table["same"]]
    typer.echo(f"{len(table) - len(differ)} of {len(table)} values are those of this version")
    for row in differ.itertuples():
        typer.echo(
            f"{row.metric} ({row.convention}, {row.pair}): expected {row.value}, got"
            f" {row.computed}",
            err=True,
        )
    if len(differ):
        raise typer.Exit(1)


# radon C: one command for five words
@app.command()
def data(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME | get NAME... | weights [NAME...|all] | resnet50]",
            help="a data set; what to fetch; weights; nothing for a list",
        ),
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="folder with a copy of the data set to verify")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="folder to look for data sets in, for the list")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="folder to fetch into; see: doctor")] = None,
    mirror: Annotated[
        str, typer.Option(help="server, or folder of repositories, in place of github.com")
    ] = "",
    subset: Annotated[
        list[str] | None, typer.Option(help="with get: a part that papers name, such as MSRS-361")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "--processes", min=1, help="files fetched at a time; processes of --check"
        ),
    ] = 4,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """List data sets (data), say how to get one (data NAME), verify it (--check DIR), fetch some
    (data get NAME...); the same for weights.
    """
    what, *names = words or [""]
    if what == "get" and (names or subset):
        _get(names, subset or [], to, mirror, jobs, yes)
    elif what == "weights":
        _weights(names, to, mirror, jobs, yes)
    elif names:
        raise ValueError(f"data: expected one name, or get NAME..., got {' '.join(words or ())}")
    elif what == "resnet50":
        from fusionlib.detectors import download_imagenet

        typer.echo(download_imagenet(to))
    elif not what:
        _list(folder)
    elif check is not None:
        _verify(what, check, jobs)
    else:
        from fusionlib.datasets import catalog

        typer.echo(catalog.describe(what))


def _list(folder: Path | None) -> None:
    """List the data sets, and what of them lies in a folder."""
    from fusionlib.datasets import catalog, get

    present = catalog.present(folder) if folder else {}
    typer.echo(
        f"{'built in':14} infrared-visible street scenes, multi-focus photographs: nothing to get"
    )
    for key in catalog.names():
        location = (
            f"; {present[key][1]} of {catalog.entry(key)[1]['pairs']} pairs in {present[key][0]}"
            if key in present
            else ""
        )
        typer.echo(f"{key:14} {catalog.entry(key)[1]['title']}{location}")
    typer.echo(f"{'small sets':14} {', '.join(get.sets())}")
    typer.echo(
        "fusionlib data NAME says its terms and how to get it; fusionlib data get NAME... fetches"
        " it; fusionlib data weights lists networks"
    )


def _get(
    names: list[str], subsets: list[str], to: Path | None, mirror: str, jobs: int, yes: bool
) -> None:
    """Fetch data sets; exit code 1 where something of them failed."""
    from fusionlib.datasets import get

    plan = get.plan(names, to, mirror, subsets)
    typer.echo(plan.words)
    if plan.size:
        _ask(yes)
    _end(get.get(plan, jobs, progress=True))


# radon C: listed, all or one; fetched or said why not
def _weights(names: list[str], to: Path | None, mirror: str, jobs: int, yes: bool) -> None:
    """List official weights, or fetch some; exit code 1 where something of them failed."""
    from fusionlib import download
    from fusionlib.networks.weights import CHECKPOINTS
    from fusionlib.networks.weights.download import wanted

    folder, files, lacking = wanted(names, to, mirror) if names else (Path(), [], [])
    for key, entry in CHECKPOINTS.items():
        if not names or {key, entry.method, "all"} & {*names}:
            typer.echo(
                f"{key:28} {', '.join(f'{file.name} from {file.origin}' for file in entry.files)}"
                f" (licence: {entry.licence})"
            )
    missing = [file for file in files if not file.is_complete]
    size = sum(file.size or 0 for file in missing)
    if names:
        typer.echo(
            f"{folder}: {len(files)} files, {len(missing)} to fetch, {size / 1e6:.1f} MB and"
            f" {sum(not file.size for file in missing)} of unknown size"
        )
    for sentence in lacking:
        typer.echo(f"by hand: {sentence}")
    if missing:
        _ask(yes)
    _end(download.sentences(download.bring(files, folder, jobs, progress=True), folder))


def _ask(yes: bool) -> None:
    """Go on only where the user agrees, or has."""
    try:
        if not yes:
            typer.confirm("These are other people's, for research; fetch them?", abort=True)
    except typer.Abort:
        raise RuntimeError("nothing was fetched: expected y, or --yes (make: YES=1)") from None


def _end(problems: list[str], kept: bool = True) -> None:
    """Name what failed, and whether the rest was kept; exit code 1 where something did."""
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems and kept:
        typer.echo("the rest is there; the same command goes on with what is missing", err=True)
    if problems:
        raise typer.Exit(1)


def _verify(name: str, folder: Path, processes: int) -> None:
    """Check a copy of a data set and name every problem; exit code 1 if there is one."""
    from fusionlib.datasets import checking

    report = checking.check(name, folder, processes, progress=sys.stderr.isatty())
    boxes = ", ".join(f"{label} {count}" for label, count in report.boxes.most_common())
    typer.echo(
        f"{report.dataset}: {report.pairs} pairs"
        + (f" as {report.layout} in {report.root}" if report.root else "")
        + (f"; boxes: {boxes}" if boxes else "")
    )
    for note in report.notes:
        typer.echo(f"note: {note}")
    for problem in report.problems:
        typer.echo(f"problem: {problem}", err=True)
    if report.problems:
        raise typer.Exit(1)
    typer.echo("all is well")


@app.command()
def run(
    notebook: Path,
    folder: Path,
    threads: int = 1,
    parameters: Annotated[str, typer.Option(help="JSON object")] = "{}",
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="end with what started this")
    ] = False,
) -> None:
    """Run a notebook by papermill into FOLDER, refusing parameters that it does not have."""
    from fusionlib import runs

    if with_parent:
        runs.end_with_parent()
    try:
        values = json.loads(parameters)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"--parameters: expected a JSON object, got {parameters!r:.80}")
    runs.execute(notebook, folder, values, threads)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...")],
    sources: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="folders of the sources, to score FOLDER... against"),
    ] = None,
    convention: Annotated[list[str] | None, typer.Option()] = None,
    output: Annotated[Path, typer.Option(help="folder of the leaderboard")] = Path("leaderboard"),
    jobs: Annotated[int, typer.Option(help="processes that share the scoring")] = 1,
    contribute: Annotated[
        bool, typer.Option("--contribute", help="hand its numbers in: reports/contributed")
    ] = False,
) -> None:
    """Write FOLDER/index.html from the finished runs in FOLDER, or check them and hand them in. Of
    folders of fused images, or tables of score --csv, each a method: OUTPUT/index.html, a
    leaderboard with the images to compare.
    """
    from fusionlib import report as page
    from fusionlib.report import contribution, leaderboard

    if contribute and len(folders) > 1:
        raise ValueError(f"--contribute: expected one folder, got {len(folders)}")
    if contribute:
        typer.echo(contribution.contribute(folders[0]))
    elif len(folders) == 1 and sources is None and leaderboard.is_run(folders[0]):
        typer.echo(page.write(folders[0]))
    else:
        _leaderboard(leaderboard.entries(folders), sources, convention, jobs, output)


def _leaderboard(listed, sources, convention: list[str] | None, jobs: int, output: Path) -> None:
    """Score what is not scored yet, and write the page of a leaderboard.

    Parameters
    ----------
    listed : list of Entry
        From :func:`fusionlib.report.leaderboard.entries`.
    sources : pair of path or None
    convention, jobs
        As for ``score``.
    output : path
    """
    from fusionlib import report, scoring
    from fusionlib.report import leaderboard

    report.template("leaderboard.html")  # a missing package is said before anything is scored
    scores, problems, shown = {}, [], {}
    if sources is not None:
        shown = dict(zip(("infrared", "visible"), sources, strict=True))
    for name, table, folder in listed:
        if folder is not None:
            shown[name] = folder
        if table is not None:
            scores[name] = leaderboard.read_scores(table)
        elif sources is None:
            raise ValueError(
                f"{folder}: expected --sources A B to score its images, or a table of score --csv"
                " in its place"
            )
        else:
            gray = scoring.gray_folder(folder)
            chosen = convention or ["moe-fusion"]
            infrared, visible = sources
            scores[name], skipped = scoring.score_folder(
                gray, infrared, visible, convention=chosen, processes=jobs
            )
            problems += skipped
    typer.echo(leaderboard.write(scores, shown, output))
    for sentence in leaderboard.left_out(scores, leaderboard.common_images(scores)):
        typer.echo(sentence, err=True)
    for problem in problems:
        typer.echo(f"skipped: {problem}", err=True)


class Stopped(Exception):
    """Ctrl-C, with what is done by then; typer would drop the words of a KeyboardInterrupt."""


def main() -> None:
    """Run the command; a mistake becomes one sentence on stderr and exit code 1."""
    # A scheduler's end is that of Ctrl-C: what is done is kept and named. Also of a command that
    # a shell started with "&", which has Ctrl-C ignored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, Stopped) as error:
        sys.exit(_say(str(error) or "stopped by the user", 130))
    except (ValueError, TypeError, OSError, RuntimeError, extras.Missing) as error:
        sys.exit(_say(str(error)))
    except Exception as error:
        # typer's own, such as an unknown option; anything else is a bug
        if not hasattr(error, "format_message"):
            raise
        sys.exit(_say(error.format_message()))


def _say(sentence: str, code: int = 1) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
