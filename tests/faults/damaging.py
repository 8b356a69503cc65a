"""Every file of a checkpoint truncated, deleted, flipped, grown, swapped: here and in a backup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from nlpkit.checkpoint.backup import Backup
from nlpkit.checkpoint.files import MANIFEST, newest
from nlpkit.checkpoint.keeper import Keeper
from tests.checkpoint.remotes import flip
from tests.checkpoint.small import ALL_FILES, about, files, holds, save
from tests.faults.outcome import FURTHER, Outcome, copy_of, judge, saves

STEPS = (10, 20, 30)


def damages(size: int) -> dict[str, Callable[[Path], None]]:
    """What can happen to a file of so many bytes."""

    def cut(length: int, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:length])

    def grow(path: Path) -> None:
        path.write_bytes(path.read_bytes() + b"\0")

    def become_a_folder(path: Path) -> None:
        path.unlink()
        path.mkdir()

    def become_the_older(path: Path) -> None:
        older = path.parent.parent / f"step-{STEPS[-2]:08d}"
        path.write_bytes((older / path.name).read_bytes())

    places = {"first": 0, "middle": size // 2, "last": size - 1}
    return {
        "truncated to nothing": partial(cut, 0),
        "truncated to half": partial(cut, size // 2),
        "truncated by a byte": partial(cut, size - 1),
        "deleted": Path.unlink,
        "grown by a byte": grow,
        "became a folder": become_a_folder,
        "became the older one's": become_the_older,
        **{
            f"bit {bit} of the {place} byte flipped": partial(flip, at=at, bit=bit)
            for place, at in places.items()
            for bit in range(8)
        },
    }


def each_damage(folder: Path, name: str) -> Iterator[tuple[str, Callable[[Path], None]]]:
    size = (folder / name).stat().st_size
    for what, damage in damages(size).items():
        yield f"{name} {what}", damage


def here(root: Path, damaged: Iterable[str] = ALL_FILES) -> list[Outcome]:
    """The newest checkpoint of three is damaged, or the newest two, or all, or the text files."""
    template = root / "checkpoints"
    keeper = Keeper(template, keep=3, backup=None, say=str)
    for step in STEPS:
        keeper.save(step, files(step), about(10), best=step == 10)
    keeper.close()
    outcomes = []
    for name in damaged:
        for what, damage in each_damage(template / "step-00000030", name):
            for count in (1,) if "bit" in what or "older" in what else (1, 2, 3):
                steps = STEPS[::-1][:count]
                outcomes.append(_damaged_here(template, f"{what}, of {steps}", name, damage, steps))
    for name in ("best", "last"):
        for what, damage in each_damage(template, name):
            if "older" not in what:
                outcomes.append(_text_file_damaged(template, what, name, damage))
    return outcomes


def _damaged_here(
    template: Path, case: str, name: str, damage: Callable[[Path], None], steps: tuple[int, ...]
) -> Outcome:
    with copy_of(template) as folder:
        paths = [folder / f"step-{step:08d}" / name for step in steps]
        for path in paths:
            damage(path)
        whole = [step for step in STEPS if step not in steps]
        swapped = name == MANIFEST and "older" in case  # then it is the others that do not fit
        return judge(
            case,
            partial(newest, folder),
            expected=[(whole[-1], "")] if whole else [],
            damaged=[f"{path.parent}/" if swapped else f"{path}: " for path in paths],
            further=partial(saves, folder, 10),
        )


def _text_file_damaged(
    template: Path, case: str, name: str, damage: Callable[[Path], None]
) -> Outcome:
    """The truth is in the manifests: nothing happens, and the next save writes it anew."""
    with copy_of(template) as folder:
        damage(folder / name)
        return judge(
            case, partial(newest, folder), expected=[(30, "")], further=partial(saves, folder, 10)
        )


def there(root: Path) -> list[Outcome]:
    """The newest copy in a backup is damaged, and nothing is left here."""
    template = root / "copies"
    for step in STEPS:
        Backup(str(template), "cards").copy(save(root / "original", step))
    outcomes = []
    for name in ALL_FILES:
        for what, damage in each_damage(template / "cards" / "step-00000030", name):
            with copy_of(template) as folder:
                path = folder / "cards" / "step-00000030" / name
                damage(path)
                swapped = name == MANIFEST and "older" in what
                new = folder.parent / "checkpoints"
                outcomes.append(
                    judge(
                        f"backup: {what}",
                        partial(Backup(str(folder), "cards").newest, new, 0),
                        expected=[(20, "")],
                        damaged=[f"{path.parent}/" if swapped else f"{path}: "],
                        further=partial(_copies, new, folder),
                    )
                )
    return outcomes


def _copies(new: Path, folder: Path) -> str:
    """What is wrong after the run went on and copied once more, or ""."""
    said: list[str] = []
    backup = Backup(str(folder), "cards")
    keeper = Keeper(new, keep=2, backup=backup, say=said.append)
    keeper.save(FURTHER, files(FURTHER), about(), best=False)
    keeper.close()
    found = backup.newest(folder.parent / "third", 0, said.append)
    if said or not found or found.step != FURTHER or not holds(found.path, FURTHER):
        return f"after copying once more: {found} {said}"
    return ""
