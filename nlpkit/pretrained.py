"""Files of a pretrained model: in a local folder, or of the hub, through the hub's own cache.

Where the hub is (HF_ENDPOINT), whether it may be asked (HF_HUB_OFFLINE) and who asks (HF_TOKEN) is
read by the hub's own library.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from nlpkit.environment import hub_folder
from nlpkit.errors import ConfigError, Problem, shorten
from nlpkit.files import from_json

LIMIT = 20.0
"""Seconds in which the hub has to say whether it has a file; fetching it may take longer."""

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where weights are, in the order in which they are looked for; an index names several files."""

_BESIDE = (".json", ".model", ".txt")  # config and tokenizer
_MODULES = "modules.json"


class Module(NamedTuple):
    """A module of a sentence-transformers model.

    Attributes:
        type: Its class, with the modules of Python that have it.
        path: The folder of its files, in that of the model; "": the model's.
    """

    type: str
    path: str


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model.

    Attributes:
        name: Its folder, or its id on the hub; a run's folder, for the bundle in it.
        key: The config key that names it: errors say it.
    """

    name: str
    key: str

    @property
    def folder(self) -> Path:
        """Where its files are, if they are in a local folder: those of the first module."""
        top = Path(self.name)
        if (top / "bundle").is_dir():
            return top / "bundle"
        return top / self.modules()[0].path if (top / _MODULES).is_file() else top

    def beside(self, name: str) -> Path | None:
        """A file that it may have at its top, or by its path from there."""
        path = Path(self.name, name)
        if Path(self.name).is_dir():
            return path if path.is_file() else None
        return self.optional(name)

    def modules(self) -> list[Module]:
        """What modules.json of a sentence-transformers model lists; of another model nothing.

        Raises:
            ConfigError: It lists nothing, or the files of the first module are not there.
        """
        if (path := self.beside(_MODULES)) is None:
            return []
        try:
            listed = from_json(path.read_text(encoding="utf-8"))
            found = [Module(str(each["type"]), str(each["path"])) for each in listed]
            if any(Path(each.path).is_absolute() or ".." in each.path for each in found):
                raise ValueError("it names a folder outside its own")
            first = path.parent / found[0].path
        except (ValueError, LookupError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            message = f"{path} does not list the modules of a model ({reason})"
            raise self.unusable(message, "restore the file") from error
        if not first.is_dir():
            message = f"{path} names the folder {found[0].path}, which is not there"
            raise self.unusable(message, "name a local folder that has the whole model")
        return found

    def file(self, *names: str, remedy: str) -> Path:
        """The first of these files that the model has.

        Raises:
            ConfigError: It has none of them (`remedy` says what to do), there is no such model, or
                the hub does not answer within `LIMIT` seconds and its cache does not have them.
        """
        unknown = None
        for name in names:
            found = self._looked_up(name, ask=unknown is None)
            if isinstance(found, Path):
                return found
            unknown = unknown or found
        if unknown:
            raise unknown
        listed = names[0] if len(names) == 1 else f"none of {', '.join(names)}"
        what = f"the folder {self.name}" if Path(self.name).is_dir() else f'"{self.name}"'
        raise self.unusable(f"{what} has {'' if len(names) > 1 else 'no '}{listed}", remedy)

    def optional(self, name: str) -> Path | None:
        """A file that the model may have; None also where neither hub nor cache can tell."""
        found = self._looked_up(name)
        return found if isinstance(found, Path) else None

    def weights(self) -> list[Path]:
        """The files that hold the weights, of the first kind in `WEIGHTS` that the model has.

        Raises:
            ConfigError: It has none, or not all that an index names.
        """
        path = self.file(*WEIGHTS, remedy="save the model with save_pretrained")
        if path.suffix != ".json":
            return [path]
        return [self.file(part, remedy="restore the file") for part in self._parts(path)]

    def _parts(self, index: Path) -> list[str]:
        try:
            named = from_json(index.read_text(encoding="utf-8"))["weight_map"].values()
            if any(Path(part).name != part for part in named):
                raise ValueError("it names a file of another folder")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            message = f"{index} is no index of weights ({reason})"
            raise self.unusable(message, "restore the file") from error
        return sorted(set(named))

    def read_files(self, *, weights: bool) -> list[Path]:
        """What a run reads of a local folder, which may be a clone of the hub's repository.

        Of that it is not the history, nor the weights for other frameworks. All that is not hidden
        counts where there are no weights as transformers names them.

        Raises:
            ConfigError: As `weights`.
        """
        folder, top = self.folder, Path(self.name)
        listed = top / _MODULES
        modules = [listed, *top.glob("[!.]*/config.json")] if listed.is_file() else []
        if not any((folder / name).is_file() for name in WEIGHTS):
            return sorted({*visible_files(folder), *modules})
        beside = (each for each in folder.iterdir() if each.suffix in _BESIDE and each.is_file())
        visible = {each for each in beside if not each.name.startswith(".")}
        code = (folder / "plugins").glob("*.py")  # of a bundle
        return sorted({*visible, *code, *modules, *(self.weights() if weights else ())})

    def unusable(self, message: str, remedy: str) -> ConfigError:
        """The error that the model cannot be used."""
        return ConfigError([Problem(key=self.key, message=message, remedy=remedy)])

    def _looked_up(self, name: str, *, ask: bool = True) -> Path | ConfigError | None:
        """A file; None where the model lacks it; an error where that cannot be known."""
        folder = self.folder
        if folder.is_dir():
            return folder / name if (folder / name).is_file() else None
        if folder.is_absolute() or self.name.startswith((".", "~")):
            raise self.unusable(f"there is no folder {self.name}", "correct the path")
        try:
            from huggingface_hub import hf_hub_download, try_to_load_from_cache
            from huggingface_hub.errors import EntryNotFoundError
        except ImportError as error:
            message = f'"{self.name}" is no local folder, and models of the hub need '
            remedy = "pip install 'nlpkit-sdk[train]'"
            raise self.unusable(message + "huggingface_hub", remedy) from error
        refusal = _refusal(self.name, name) if ask else ConnectionError("not asked again")
        if isinstance(refusal, EntryNotFoundError):
            return None
        try:
            if refusal is None:
                return Path(hf_hub_download(self.name, name, cache_dir=hub_folder()))
            cached = try_to_load_from_cache(self.name, name, cache_dir=hub_folder())
        except (OSError, ValueError) as error:  # the connection or the disk; not an id at all
            cached, refusal = None, error
        if isinstance(cached, str):
            return Path(cached)
        return self._unavailable(refusal) if cached is None else None  # else known to be missing

    def _unavailable(self, refusal: Exception) -> ConfigError:
        from huggingface_hub import constants, errors

        folder = "name a local folder that has the model"
        start = f'"{self.name}" is no local folder'
        hub = f"the hub at {constants.ENDPOINT}"
        reason = f"{type(refusal).__name__}: {shorten(str(refusal), 120)}"
        if isinstance(refusal, errors.HFValidationError):
            return self.unusable(f"{start} and no id of the hub ({reason})", "correct it")
        start += " and not in the hub's cache"
        if isinstance(refusal, errors.OfflineModeIsEnabled):
            cache = hub_folder() or constants.HF_HUB_CACHE
            message = f"{start} ({cache}), and HF_HUB_OFFLINE keeps nlpkit from asking {hub}"
            return self.unusable(message, f"run once without HF_HUB_OFFLINE, or {folder}")
        if isinstance(refusal, errors.GatedRepoError):
            message = f"{start}, and {hub} gives it only to those who have asked for it"
            remedy = f"ask on the model's page and set HF_TOKEN, or {folder}"
            return self.unusable(message, remedy)
        answer = refusal.response.status_code if isinstance(refusal, errors.HfHubHTTPError) else 0
        if isinstance(refusal, errors.RepositoryNotFoundError) or answer in (401, 403):
            message = f"{start}, and {hub} has no such model, or none that you may see"
            return self.unusable(message, f"correct the id, set HF_TOKEN, or {folder}")
        trouble = f"answers {answer}" if answer else f"cannot be reached ({reason})"
        message = f"{start}, and {hub} {trouble}"
        return self.unusable(message, f"set HF_ENDPOINT to a mirror, or {folder}")


def visible_files(folder: Path) -> list[Path]:
    """All files in a folder, but the hidden ones and those of hidden folders, such as `.git`."""
    found = (each for each in folder.rglob("*") if each.is_file())
    inside = {each: each.relative_to(folder).parts for each in found}
    return sorted(each for each in inside if not any(part[0] == "." for part in inside[each]))


def _refusal(model: str, name: str) -> Exception | None:
    """What keeps the hub from giving a file; None: it gives it.

    The library's own download asks again for minutes. It limits connecting and reading, but not the
    look-up of a name, nor how many addresses that has; hence the thread.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found: list[Exception | None] = [TimeoutError(f"no answer within {LIMIT:g} s")]

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(model, name), timeout=LIMIT / 2)
            found[0] = None
        except Exception as error:  # the errors of its HTTP library, which it has changed before
            found[0] = error

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(LIMIT)
    return found[0]
