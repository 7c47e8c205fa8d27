"""Run folders: their names, the checkpoints in them, which is latest and best, which may go.

`checkpoint_latest`, `checkpoint_best` and, of a tuning, `checkpoint_epoch_N` are links to step
folders, replaced in one rename; on a file system without symbolic links, files that hold the
folder's name. Programs that copy links as what they point to (scp -r, zip, a USB stick) leave
copies of step folders, which are understood and become links again when the run goes on.
"""

import difflib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from utils.artefacts import MANIFEST, read_manifest, recover
from utils.errors import HatcheryError, RefusedError, UsageError
from utils.files import sync_folder, unique_name, write_file
from utils.verification import verify

_STEP = re.compile(r"checkpoint_step_(\d+)$")
_LINK = re.compile(r"checkpoint_(best|latest|epoch_\d+)$")
_DATED = r"(?:run|sft_[A-Za-z0-9._-]+?)_\d{4}(?:_\d\d){4}"
_UNSAFE_NAME = re.compile(r"[^A-Za-z0-9._-]")
RECORD = "run.json"
_SAVE_REQUEST = "save_now"
_DELETED = ".deleted_"
_NEXT = ".next"  # ends the name of a link before it has its place
_LONGEST_NAME = 64  # bytes of a file that stands for a link


def new_run(checkpoints_dir: Path, name: str | None, now: float, kind: str = "run") -> Path:
    """Make a run folder: run_YYYY_MM_DD_HH_MM[_name], numbered when taken; `kind` is its first
    word.

    Of several processes that start in the same minute each gets its own.

    Raises:
        UsageError: `name` could not be a part of a file name.
    """
    if name and not may_be_called(name):
        raise UsageError(
            f"A run cannot be called {name!r}.",
            found="only letters, digits, dot, dash and underscore make a safe file name",
            remedy="choose another, such as --name first-try",
        )
    stem = f"{kind}_" + time.strftime("%Y_%m_%d_%H_%M", time.localtime(now))
    stem += f"_{name}" if name else ""
    checkpoints_dir.mkdir(parents=True, exist_ok=True)
    for folder in map(checkpoints_dir.joinpath, _numbered(stem)):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("names do not end")


def may_be_called(name: str) -> bool:
    """Whether a run may bear a name, which becomes part of that of a folder."""
    return not _UNSAFE_NAME.search(name) and not name.startswith(".")


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    yield from (f"{stem}_{number}" for number in count(2))


def runs(checkpoints_dir: Path) -> list[Path]:
    """Run folders that hold a checkpoint, newest first."""
    saved = {path: [*step_folders(path), *copies(path)] for path in checkpoints_dir.glob("*")}
    found = [path for path in saved if path.is_dir() and saved[path]]
    return sorted(found, key=lambda run: _last_written(saved[run]), reverse=True)


def _last_written(checkpoints: list[Path]) -> float:
    return max(path.stat().st_mtime for path in checkpoints)


def step_folders(run: Path) -> list[Path]:
    """Complete checkpoints of a run, by step; those set aside as corrupt are not among them."""
    _recover_links(run)
    for hidden in run.glob(".checkpoint_step_*"):
        recover(run / hidden.name.removeprefix(".").rpartition(".")[0])
    found = [p for p in run.glob("checkpoint_step_*") if _STEP.match(p.name)]
    return sorted((p for p in found if (p / MANIFEST).is_file()), key=step_of)


def step_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of `step` lives."""
    return run / f"checkpoint_step_{step:06d}"


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint folder's name."""
    match = _STEP.match(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint} is not a step checkpoint")
    return int(match.group(1))


def point(run: Path, which: str, checkpoint: Path) -> None:
    """Make checkpoint_<which> a link to `checkpoint`; where there are no links, a file with its
    name.

    The link is whole under another name before anything is taken away, so that a kill at any
    moment leaves what was there or what is to be: `step_folders` takes the last step.
    """
    _take_place(run, _prepared(run, which, checkpoint.name), run / f"checkpoint_{which}")


def _next(run: Path, which: str) -> Path:
    """The name of a link that is about to be checkpoint_<which>."""
    return run / f".checkpoint_{which}{_NEXT}"


def _prepared(run: Path, which: str, name: str) -> Path:
    """A link to `name` that is to be checkpoint_<which>, and has appeared whole."""
    link = _next(run, which)
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(name)
    except OSError:  # file systems without links answer this in many ways; others refuse files too
        write_file(link, f"{name}\n")
    return link


def _take_place(run: Path, prepared: Path, link: Path) -> None:
    """Put a prepared link in the place of another, or of a copy, which no rename can replace."""
    copied = _hide(link) if _is_copy(link) else None
    with suppress(FileNotFoundError):  # somebody who looked at the run was faster
        prepared.replace(link)
    sync_folder(run)
    if copied is not None:
        shutil.rmtree(copied)


def _recover_links(run: Path) -> None:
    """Take the last step of a `point` that a kill has cut short."""
    for prepared in run.glob(f".checkpoint_*{_NEXT}"):
        link = run / prepared.name.removeprefix(".").removesuffix(_NEXT)
        if _LINK.match(link.name) and not os.path.lexists(link):
            with suppress(OSError):  # somebody else was faster, or the folder cannot be written
                prepared.replace(link)


def remove_link(run: Path, which: str) -> None:
    """Take checkpoint_<which> away, whatever form it has."""
    link = run / f"checkpoint_{which}"
    _next(run, which).unlink(missing_ok=True)  # of a kill; it must not come back as the link
    if _is_copy(link):
        shutil.rmtree(_hide(link))
    else:
        link.unlink()
    sync_folder(run)


def restore_links(run: Path) -> None:
    """Make links again of what copying has made of them; a copy without its original becomes the
    step folder that it was. The caller holds the lock of `run`.

    Raises:
        RefusedError: such a copy is damaged.
    """
    for link in copies(run):
        which = link.name.removeprefix("checkpoint_")
        original = followed(link)
        if original == link:
            verify(link)
            original = step_folder(run, json.loads((link / "state.json").read_bytes())["step"])
            if original.exists():  # of another attempt, or damaged
                original.replace(unique_name(run, f"{original.name}.corrupt"))
            prepared = _prepared(run, which, original.name)
            link.replace(original)
            _take_place(run, prepared, link)
        else:
            point(run, which, original)


def copies(run: Path) -> list[Path]:
    """Links of a run that have become folders of their own."""
    return [link for link in sorted(run.glob("checkpoint_*")) if _is_copy(link)]


def _is_copy(path: Path) -> bool:
    """Whether a link has become a folder of ours; older layouts have folders of that name too."""
    is_folder = not path.is_symlink() and (path / MANIFEST).is_file()
    return bool(_LINK.match(path.name)) and is_folder


def _hide(path: Path) -> Path:
    """Rename a folder that is to be deleted: half-deleted it must not look like a checkpoint."""
    hidden = unique_name(path.parent, f"{_DELETED}{path.name}")
    return path.replace(hidden)


def is_link(path: Path) -> bool:
    """Whether `path` is another name of a checkpoint."""
    return path.is_symlink() or followed(path) != path


def followed(path: Path) -> Path:
    """What `path` stands for where it is a link in any form, there or not; otherwise itself."""
    if path.is_symlink():
        return path.parent / path.readlink()
    if _LINK.match(path.name) and path.is_file() and path.stat().st_size <= _LONGEST_NAME:
        name = path.read_text(errors="replace").strip()
        return path.with_name(name) if _STEP.match(name) else path
    return _original(path) if _is_copy(path) else path


def _original(copy: Path) -> Path:
    """The step folder beside `copy` with the same content; without one, the copy itself."""
    content = _fingerprint(copy)
    same = (p for p in step_folders(copy.parent) if content and _fingerprint(p) == content)
    return next(same, copy)


def _fingerprint(checkpoint: Path) -> str:
    try:
        manifest = read_manifest(checkpoint)
    except HatcheryError:
        return ""
    return "" if manifest is None else manifest.fingerprint


def pointed(run: Path, which: str) -> Path | None:
    """The checkpoint that checkpoint_<which> names, None where there is none."""
    link = run / f"checkpoint_{which}"
    checkpoint = followed(link)
    return checkpoint if checkpoint != link and checkpoint.is_dir() else None


def links(run: Path) -> list[Path]:
    """The other names of checkpoints of a run: its best, its latest, those at the end of an
    epoch."""
    return sorted(link for link in run.glob("checkpoint_*") if _LINK.match(link.name))


def prune(run: Path, keep: int) -> list[Path]:
    """Delete all step checkpoints but the newest `keep` and those that links name, and what a kill
    has left of an earlier deletion."""
    safe = {followed(link) for link in links(run)}
    outdated = [path for path in step_folders(run)[:-keep] if path not in safe]
    for leftover in run.glob(f"{_DELETED}*"):
        shutil.rmtree(leftover)
    for path in outdated:
        shutil.rmtree(_hide(path))
    return outdated


def request_save(run: Path) -> None:
    """Ask the training of `run` for a checkpoint after the step it is in.

    Raises:
        OSError: the folder is gone or cannot be written.
    """
    (run / _SAVE_REQUEST).touch()


def take_save_request(run: Path) -> bool:
    """Whether a checkpoint was asked for; the request counts as answered."""
    try:
        (run / _SAVE_REQUEST).unlink()
    except OSError:
        return False
    return True


def newest_intact(run: Path, *, skip_corrupt: bool) -> tuple[Path, list[str]]:
    """The newest checkpoint whose every byte matches its manifest, and notes on those that do not.

    With `skip_corrupt`, a damaged one is renamed to `*.corrupt` and the one before it is tried.

    Raises:
        RefusedError: the newest is damaged and `skip_corrupt` is off, or none is intact.
    """
    notes: list[str] = []
    for checkpoint in reversed(step_folders(run)):
        try:
            verify(checkpoint)
        except RefusedError as error:
            if not skip_corrupt:
                raise RefusedError(
                    f"The newest checkpoint cannot be trusted: {error.problem}",
                    found=error.found,
                    remedy="set it aside and go on from the one before it: {}",
                    commands=[(trained_by(run), "--resume", "auto", "--name", run.name)],
                ) from error
            aside = checkpoint.replace(unique_name(run, f"{checkpoint.name}.corrupt"))
            notes.append(f"{error.problem} It was set aside as {aside.name}.")
        else:
            return checkpoint, notes
    raise RefusedError(
        f"{run} holds no intact checkpoint.",
        found="; ".join(notes) or "no finished checkpoint folder",
        remedy="start a new run with train --name NAME",
    )


def trained_by(run: Path) -> str:
    """The command of the stage that trains `run`, as its record says; of one without, train."""
    try:
        found = json.loads((run / RECORD).read_bytes()).get("command", "train")
    except (OSError, ValueError, AttributeError):
        return "train"
    return found if isinstance(found, str) else "train"


def kind_of(run: str) -> str:
    """What the name of a run begins with, before its date: run, or sft_ and its data's name."""
    dated = re.match(_DATED, run)
    return dated[0].rsplit("_", 5)[0] if dated else "run"


def short_name(run: str) -> str:
    """What a run was called with `--name`; its folder's name where it was not."""
    return re.sub(rf"^{_DATED}_", "", run)


def is_called(run: str, name: str) -> bool:
    """Whether a run's folder has this name, or was started with `--name` `name`."""
    return run == name or re.fullmatch(rf"{_DATED}_{re.escape(name)}(_\d+)?", run) is not None


def meant(name: str, known: Sequence[str]) -> str:
    """`did you mean shake? Else ` where a run is called nearly so, else nothing."""
    names = dict.fromkeys([*map(short_name, known), *known])
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}? Else " if close else ""


def find_run(checkpoints_dir: Path, name: str | None, command: str | None = None) -> Path:
    """The newest run, or the newest one called `name` (its whole folder name or its suffix); of
    those that `command` trains, where there are such.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    known = runs(checkpoints_dir)
    called = [run for run in known if name is None or is_called(run.name, name)]
    of_command = [run for run in called if command in (None, trained_by(run))]
    if of_command or (called and name is not None):
        return (of_command or called)[0]
    for run in checkpoints_dir.glob("*_*"):
        if name is not None and is_called(run.name, name):
            raise UsageError(
                f"{run.name} has no checkpoint to go on from.",
                found="it ended before its first one was saved",
                remedy="start it again: the same command without --resume",
            )
    listed = ", ".join(run.name for run in known[:8]) or "no runs"
    raise UsageError(
        f"There is no run{f' called {name}' if name else ''} in {checkpoints_dir}.",
        found=listed,
        remedy=f"{meant(name or '', [run.name for run in known])}start one: {{}}",
        commands=[(command or "train", "--name", "NAME")],
    )
