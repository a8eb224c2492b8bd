"""The rows of both papers' tables as data: how each is trained, stage by stage, and what is published of it.

A row is a line of `RECIPES`, by the name of its folder in `hub_configs` (less `tcm-` or `fasttcm-` where both exist).
What the papers and releases leave open is marked with `open_points`.
"""

from dataclasses import dataclass
from typing import Any

__all__ = ["PHOTOS", "RECIPES", "Recipe", "Stage", "rows"]

# Photos of each data set that are trained on.
PHOTOS = {
    "icdar2013": 229,
    "icdar2015": 1000,
    "total-text": 1255,
    "ctw1500": 1000,
    "td500": 300,
    "tr400": 400,
    "mlt2017": 7200,
    "mlt2017:val": 1800,
    "synthtext": 858_750,
    "synthtext150k-curved": 94_723,
    "synthtext150k-straight": 54_327,
}


@dataclass(frozen=True)
class Stage:
    """A training.

    Args:
        sets: data sets, mixed by their numbers of photos unless `shares` says otherwise.
        batch: photos of a step.
        length: steps, or passes over all photos.
        settings: of the training script.
        shares: of the crops from each set.
        passes: whether `length` counts these.
    """

    sets: tuple[str, ...]
    batch: int
    length: int
    settings: dict[str, Any]
    shares: tuple[float, ...] = ()
    passes: bool = False

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        photos = sum(PHOTOS[name] for name in self.sets)
        return round(self.length * photos / self.batch) if self.passes else self.length


@dataclass(frozen=True)
class Recipe:
    """How a row comes about.

    Args:
        finetuning: the last stage.
        pretraining: the one before it.
        test_set: data set to judge by.
        published: figure and its source; `None` where only gains are on record.
        open_points: what is not on record, and what stands in for it.
        both: whether both papers have the row; FastTCM's alone otherwise.
    """

    finetuning: Stage
    pretraining: Stage | None
    test_set: str
    published: tuple[str, str] | None = None
    open_points: str = ""
    both: bool = False


# Optimizers and schedules, as settings of the training scripts.
_POLYNOMIAL = {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 0.9, "lr_end": 1.0e-7}}
_UNCLIPPED = {"max_grad_norm": 0.0}  # no limit
RANGER = {"optimizer": "ranger", "learning_rate": 1.0e-3, "weight_decay": 0.0, **_POLYNOMIAL, **_UNCLIPPED}
ADAM = {"optimizer": "adam", "learning_rate": 1.0e-4, "weight_decay": 1.0e-4, **_POLYNOMIAL, **_UNCLIPPED}
ADAMW = {"optim": "adamw_torch", "learning_rate": 1.0e-4, "weight_decay": 1.0e-4, **_POLYNOMIAL, **_UNCLIPPED}


def _stepped(optimizer: str, rate: float, *milestones: float, **more: Any) -> dict[str, Any]:
    """An optimizer whose rate falls to a tenth after shares of the steps."""
    kind = {"optim": "adamw_torch"} if optimizer == "adamw" else {"optimizer": optimizer}
    fixed = {"lr_milestones": list(milestones)} if milestones else {"lr_scheduler_type": "constant_with_warmup"}
    return {**kind, "learning_rate": rate, "weight_decay": 1.0e-4, **fixed, **more}


# Augmentation.
_PLAIN = dict.fromkeys(("contrast", "hue", "grey_probability", "blur_probability"), 0.0)
_PLAIN |= dict.fromkeys(("noise_probability", "jpeg_probability"), 0.0)
DB_CROPS = {
    "crop_size": 640,
    "min_scale": 0.5,
    "max_scale": 3.0,
    "rotation": 10.0,
    "flip_probability": 0.5,
    "photometric": {"brightness": 0.1255, "saturation": 0.5, **_PLAIN},
}


def _pan_crops(side: int) -> dict[str, Any]:
    scales = {"base_edges": [side, 100 * side], "min_scale": 0.7, "max_scale": 1.3, "aspect_jitter": 0.1}
    return {**DB_CROPS, **scales, "crop_size": side}


FCE_CROPS = {
    **DB_CROPS,
    "photometric": {**DB_CROPS["photometric"], "contrast": 0.5},
    "crop_size": 800,
    "base_edges": [800, 800],
    "min_scale": 0.75,
    "max_scale": 2.5,
    "rotation": 30.0,
}


def _spotter_crops(crop: int, shortest: int, most: int, longest: int, rotation: float = 0.0) -> dict[str, Any]:
    """Shorter side from `shortest` to `most`, longer side at most `longest`; nothing is mirrored."""
    scale = most / shortest
    edges = {"base_edges": [shortest, round(longest / scale)], "min_scale": 1.0, "max_scale": scale}
    return {"crop_size": crop, **edges, "rotation": rotation, "flip_probability": 0.0}


# Stages that several rows share.
SYNTHTEXT150K = ("synthtext150k-curved", "synthtext150k-straight")
_REAL = ("icdar2015", "ctw1500", "total-text")


def _pretrained(crops: dict[str, Any]) -> Stage:
    return Stage((*SYNTHTEXT150K, *_REAL), 128, 20, {**RANGER, **crops}, passes=True)


def _finetuned(sets: tuple[str, ...], optimizer: dict[str, Any], crops: dict[str, Any], epochs: int = 1200) -> Stage:
    return Stage(sets, 128, epochs, {**optimizer, **crops}, passes=True)


_ABINET_SETS = (*SYNTHTEXT150K, "mlt2017", "total-text", "icdar2015")
_ABINET_CROPS, _ABINET_TURNED = (_spotter_crops(640, 640, 896, 1600, turn) for turn in (0.0, 15.0))
_ABINET_OPEN = (
    "SGD for what sees and Adam for language model and fusion are one AdamW at Adam's rate here, and so many steps "
    "have a constant rate"
)
_MASK_CROPS = _spotter_crops(800, 800, 1400, 2333, 90.0)
_MASK_SETS = ("synthtext", "icdar2013", "icdar2015", "total-text")
_MASK_OPEN = "SCUT, an eighth of the photos, is no set of this package: the others take its share"
_ABC_CROPS = _spotter_crops(640, 640, 896, 1600)
_ABC_OPEN = (
    "the releases start from ABCNet's own weights, whose pre-training is not on record here; neither is the batch, "
    "which is 8 here"
)
_FCE_OPEN = "the optimiser is not on record: that of PAN stands in for it"


def _abinet(test_set: str, crops: dict[str, Any]) -> Recipe:
    pretraining = Stage(_ABINET_SETS, 8, 540_000, {**_stepped("adamw", 1.0e-4), **crops})
    finetuning = Stage((test_set,), 8, 120_000, {**_stepped("adamw", 1.0e-5), **crops})
    return Recipe(finetuning, pretraining, test_set, open_points=_ABINET_OPEN)


def _masktextspotter(test_set: str) -> Recipe:
    synthetic = _stepped("sgd", 2.0e-2, 1 / 3, 8 / 15)
    pretraining = Stage(("synthtext",), 8, 300_000, {**synthetic, **_spotter_crops(640, 600, 800, 1333)})
    mixed = {**_stepped("sgd", 2.0e-3, 1 / 3, 8 / 15), **_MASK_CROPS}
    finetuning = Stage(_MASK_SETS, 8, 300_000, mixed, shares=(2 / 7, 2 / 7, 2 / 7, 1 / 7))
    return Recipe(finetuning, pretraining, test_set, open_points=_MASK_OPEN)


def _abcnet(test_set: str, steps: int) -> Recipe:
    finetuning = Stage((test_set,), 8, steps, {**_stepped("sgd", 1.0e-3), **_ABC_CROPS})
    return Recipe(finetuning, None, test_set, open_points=_ABC_OPEN)


_QUERY = {"max_grad_norm": 0.1, "image_encoder_scale": 0.1}
_TESTR_SETS, _SOLO_SETS = (
    (*SYNTHTEXT150K, "mlt2017", *more, "total-text") for more in ((), ("icdar2013", "icdar2015"))
)
_SOLO_LAST = _stepped("adamw", 1.0e-5, **_QUERY)
_UNCHANGED = {"photometric": {"brightness": 0.0, "saturation": 0.0, **_PLAIN}}
_STRONG = {"photometric": {**_UNCHANGED["photometric"], "brightness": 0.35, "contrast": 0.7, "saturation": 0.7}}
_TESTR_OPEN = "crops are squares of 896 pixels; those of the paper have any size, and hold whole words"
_SOLO_OPEN = f"{_TESTR_OPEN}; brightness is an offset in place of a factor, and there is no PCA lighting"


def _testr(test_set: str, steps: int, most: tuple[int, int, int], figure: str) -> Recipe:
    pretraining = _stepped("adamw", 1.0e-4, 34 / 44, **_QUERY)
    first = Stage(_TESTR_SETS, 8, 440_000, {**pretraining, **_spotter_crops(896, 480, 896, 1600), **_UNCHANGED})
    finetuning = {**_stepped("adamw", 1.0e-5, **_QUERY), **_spotter_crops(896, *most), **_UNCHANGED}
    source = (figure, "README of TESTR, without FastTCM")
    return Recipe(Stage((test_set,), 8, steps, finetuning), first, test_set, source, _TESTR_OPEN)


def _deepsolo(test_set: str, steps: int, optimizer: dict[str, Any], crops: dict[str, Any], figure: str) -> Recipe:
    pretraining = _stepped("adamw", 1.0e-4, 320 / 375, **_QUERY)
    turned = _spotter_crops(896, 480, 896, 1600, 45.0)
    first = Stage(_SOLO_SETS, 8, 375_000, {**pretraining, **turned, **_STRONG})
    last = Stage((test_set,), 8, steps, {**optimizer, **crops, **_STRONG})
    return Recipe(last, first, test_set, (figure, "README of DeepSolo, without FastTCM"), _SOLO_OPEN)


def _dota(ap50: str, *milestones: float) -> Recipe:
    settings = _stepped("adamw", 1.0e-4, *milestones, warmup_steps=500, image_encoder_scale=0.3, max_grad_norm=0.1)
    training = Stage((), 4, 12, {**settings, "epochs": 12, "flip_probability": 0.75})
    return Recipe(training, None, "dota", (ap50, "README of `rotated_object_detection`, github.com/wenwenyu/TCM"))


def rows() -> dict[str, Recipe]:
    """The recipe of each folder in `hub_configs`."""
    folders = {f"fasttcm-{name}": recipe for name, recipe in RECIPES.items()}
    return folders | {f"tcm-{name}": recipe for name, recipe in RECIPES.items() if recipe.both}


def _tcm(hmean: str) -> tuple[str, str]:
    return hmean, "README of github.com/wenwenyu/TCM, for TCM"


_PRE_DB, _PRE_FCE = _pretrained(DB_CROPS), _pretrained(FCE_CROPS)
RECIPES: dict[str, Recipe] = {
    "dbnet-icdar2015": Recipe(
        _finetuned(("icdar2015",), ADAM, DB_CROPS), _PRE_DB, "icdar2015", _tcm("88.8"), both=True
    ),
    "dbnet-totaltext": Recipe(
        _finetuned(("total-text",), ADAMW, DB_CROPS), _PRE_DB, "total-text", _tcm("85.9"), both=True
    ),
    "dbnet-ctw1500": Recipe(_finetuned(("ctw1500",), ADAMW, DB_CROPS), _PRE_DB, "ctw1500", _tcm("85.1"), both=True),
    "dbnet-td500": Recipe(_finetuned(("td500", "tr400"), RANGER, DB_CROPS), _PRE_DB, "td500", _tcm("88.8"), both=True),
    "pan-icdar2015": Recipe(
        _finetuned(("icdar2015",), RANGER, _pan_crops(736)), _pretrained(_pan_crops(736)), "icdar2015", both=True
    ),
    "pan-ctw1500": Recipe(
        _finetuned(("ctw1500",), RANGER, _pan_crops(640)), _pretrained(_pan_crops(640)), "ctw1500", both=True
    ),
    **{
        f"fcenet-{folder}": Recipe(
            _finetuned((name,), RANGER, FCE_CROPS, 1800), _PRE_FCE, name, open_points=_FCE_OPEN, both=True
        )
        for folder, name in {"icdar2015": "icdar2015", "totaltext": "total-text", "ctw1500": "ctw1500"}.items()
    },
    "abinetpp-icdar2015": _abinet("icdar2015", _ABINET_TURNED),
    "abinetpp-totaltext": _abinet("total-text", _ABINET_CROPS),
    "abinetpp-ctw1500": _abinet("ctw1500", _ABINET_CROPS),
    "masktextspotter3-icdar2015": _masktextspotter("icdar2015"),
    "masktextspotter3-totaltext": _masktextspotter("total-text"),
    "abcnet-totaltext": _abcnet("total-text", 5_000),
    "abcnet-icdar2015": _abcnet("icdar2015", 5_500),
    "abcnet-ctw1500": _abcnet("ctw1500", 120_000),
    "testr-totaltext": _testr("total-text", 20_000, (480, 896, 1600), "None 73.25, Full 83.88"),
    "testr-ctw1500": _testr("ctw1500", 200_000, (480, 896, 1333), "None 55.95, Full 81.51"),
    "testr-icdar2015": _testr("icdar2015", 20_000, (800, 1400, 2333), "S 85.16, W 79.36, G 73.57"),
    "deepsolo-totaltext": _deepsolo(
        "total-text", 10_000, _SOLO_LAST, _spotter_crops(896, 480, 896, 1600, 45.0), "None 79.7, Full 87.0"
    ),
    "deepsolo-ctw1500": _deepsolo(
        "ctw1500",
        12_000,
        _stepped("adamw", 5.0e-5, 8 / 12, **_QUERY),
        _spotter_crops(896, 480, 896, 1600),
        "None 64.2, Full 81.4",
    ),
    "deepsolo-icdar2015": _deepsolo(
        "icdar2015", 3_000, _SOLO_LAST, _spotter_crops(896, 800, 1400, 3000), "S 86.8, W 81.9, G 76.9"
    ),
    "rotated-fcos-dota": _dota("75.1", 9 / 12),
    "rotated-atss-dota": _dota("76.1", 9 / 12),
    "rotated-retinanet-dota": _dota("70.99", 8 / 12, 11 / 12),
}
