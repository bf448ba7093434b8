"""Command line: ``fusionlib doctor | methods | fuse | score | data | run | report``. Exit code 0
only on success.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fusionlib import images

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Reproduce two image-fusion papers, fuse your own images, score your own method.",
)


@app.command()
def doctor() -> None:
    """Check this installation and say what is missing."""
    from fusionlib import runs

    problems = []
    facts = runs.environment()
    lock = runs.root() / "requirements.lock"
    if lock.is_file():
        pinned = {
            name: version
            for name, _, version in (
                line.split(";")[0].strip().partition("==")
                for line in lock.read_text().splitlines()
                if "==" in line
            )
        }
        for name, version in facts["packages"].items():
            # numpy and scipy are pinned per Python version: any of the pins will do.
            if f"{name}=={version}" not in lock.read_text():
                problems.append(
                    f"{name}: requirements.lock pins {pinned.get(name)}, installed is {version}"
                )
    else:
        problems.append(
            "fusionlib: expected an editable install (pip install -e .), it is imported from"
            f" {runs.root()}"
        )
    missing = [name for name in runs.PACKAGES if name not in facts["packages"]]
    problems += [f"{name}: not installed" for name in missing]
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        problems.append(f"Python: expected 3.11 to 3.13, running {facts['python']}")
    typer.echo(
        f"Python {facts['python']} on {facts['system']}, {facts['cores']} cores, revision"
        f" {facts['git'][:10]}"
    )
    typer.echo(", ".join(f"{name} {version}" for name, version in facts["packages"].items()))
    if "torch" not in missing:
        typer.echo(f"device: {runs.device_name()}")
    for problem in problems:
        typer.echo(f"problem: {problem}")
    if problems:
        raise typer.Exit(1)
    typer.echo("all is well")


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


@app.command()
def fuse(
    a: Path,
    b: Path,
    out: Path,
    method: Annotated[str, typer.Option(help="see: fusionlib methods")],
    variant: str | None = None,
    checkpoint: Path | None = None,
    device: str = "auto",
    set: Annotated[
        list[str] | None, typer.Option(help="a parameter, name=value; may be repeated")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Fuse two files into a file, or two folders into OUT/gray and OUT/color. Infrared first,
    visible second.
    """
    from fusionlib import methods as library

    library.load_plugins(plugin or [])
    chosen = library.get(method, variant, str(checkpoint) if checkpoint else None, device)
    parameters = _parameters(set or [])
    if a.is_dir() != b.is_dir():
        raise ValueError(f"{a} and {b}: expected two files or two folders, got one of each")
    if not a.is_dir():
        images.write(out, chosen.fuse(*images.read_pair(a, b), **parameters))
        typer.echo(f"{out}")
        return
    files = images.list_pairs(a, b)
    library.fuse_pairs(
        chosen,
        ((name, *images.read_pair(*paths)) for name, paths in files.items()),
        out,
        **parameters,
    )
    typer.echo(f"{len(files)} pairs fused into {out}/gray and {out}/color")


@app.command()
def score(
    fused: Path,
    a: Path,
    b: Path,
    convention: Annotated[list[str] | None, typer.Option()] = None,
    reference: Path | None = None,
    csv: Path | None = None,
    processes: int = 1,
) -> None:
    """Score a folder of fused images against its sources; names match by stem. Infrared first,
    visible second.
    """
    from fusionlib import scoring

    frame, problems = scoring.score_folder(
        fused,
        a,
        b,
        convention=convention or ["moe-fusion"],
        reference=reference,
        processes=processes,
    )
    if csv is not None:
        images.write_text(csv, frame.to_csv(index=False))
    if len(frame):
        table = frame.pivot_table(
            index=["convention"], columns="metric", values="value", sort=False
        )
        typer.echo(table.to_string(float_format=lambda value: f"{value:.4f}"))
    typer.echo(f"{frame['image'].nunique()} images scored" if len(frame) else "no image scored")
    for problem in problems:
        typer.echo(f"skipped: {problem}", err=True)
    if problems or not len(frame):
        raise typer.Exit(1)


@app.command()
def data(
    what: Annotated[
        str, typer.Argument(help="a data set, weights, or resnet50; nothing for a list")
    ] = "",
    name: Annotated[str, typer.Argument(help="of weights")] = "",
    check: Annotated[
        Path | None, typer.Option(help="folder with a copy of the data set to verify")
    ] = None,
    download: Annotated[
        Path | None, typer.Option(help="folder to download what has an address into")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="folder to look for data sets in, for the list")
    ] = None,
    processes: Annotated[int, typer.Option(help="worker processes of --check")] = 1,
    url: Annotated[str | None, typer.Option(help="another address of the same weights")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder to keep weights in")] = None,
) -> None:
    """List data sets (data), say how to get one (data NAME), verify it (--check DIR); the same for
    weights.
    """
    from fusionlib.datasets import catalog

    if what in ("weights", "resnet50"):
        _weights(what, name, url, cache)
    elif not what:
        present = catalog.present(folder) if folder else {}
        typer.echo(
            f"{'built in':14} infrared-visible street scenes, multi-focus photographs: nothing"
            " to get"
        )
        for key in catalog.names():
            location = (
                f"{present[key][1]} of {catalog.entry(key)[1]['pairs']} pairs in {present[key][0]}"
                if key in present
                else ""
            )
            typer.echo(
                f"{key:14} {catalog.entry(key)[1]['title']}{'; ' if location else ''}{location}"
            )
        typer.echo(
            "fusionlib data NAME says its terms and how to get it; fusionlib data weights lists"
            " networks"
        )
    elif check is not None:
        _verify(what, check, processes)
    else:
        typer.echo(catalog.describe(what))
        if download is not None:
            typer.echo(
                f"{len(catalog.download(what, download, progress=True))} files in {download}"
            )


def _weights(what: str, name: str, url: str | None, cache: Path | None) -> None:
    """List official weights, or download some, checked."""
    if what == "resnet50":
        from fusionlib.detectors import download_imagenet

        typer.echo(download_imagenet(cache))
        return
    from fusionlib.networks import download
    from fusionlib.networks.weights import CHECKPOINTS

    if name:
        for path in download(name, url, cache, progress=True):
            typer.echo(path)
        return
    for key, entry in CHECKPOINTS.items():
        typer.echo(
            f"{key:28} {', '.join(f'{file.name} from {file.origin}' for file in entry.files)}"
            f" (licence: {entry.licence})"
        )


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
    except ValueError:
        raise ValueError(f"--parameters: expected a JSON object, got {parameters!r:.80}") from None
    runs.execute(notebook, folder, values, threads)


@app.command()
def report(
    folder: Path,
    contribute: Annotated[
        bool, typer.Option("--contribute", help="hand its numbers in: reports/contributed")
    ] = False,
) -> None:
    """Write FOLDER/index.html from the finished runs in FOLDER, or check them and hand them in."""
    from fusionlib import report as page
    from fusionlib.report import contribution

    typer.echo(contribution.contribute(folder) if contribute else page.write(folder))


def main() -> None:
    """Run the command; a mistake becomes one sentence on stderr and exit code 1."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except KeyboardInterrupt:
        sys.exit(_say("stopped by the user", 130))
    except (ValueError, TypeError, OSError, RuntimeError) as error:
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
