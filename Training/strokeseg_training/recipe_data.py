"""The part `datasets` of a recipe: where real patients come from, what their masks mean, and how they are split.

`strokeseg_training.datasets` reads what it describes, `strokeseg_training.prepare` makes arrays of it.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from strokeseg_training.recipe_parts import Part

Layout = Literal["isles22", "atlas-r1", "atlas-r2", "bids"]
Axis = Literal["sagittal", "coronal", "axial"]


class DataClass(Part):
    """What a voxel may be besides background; the first class of the list has the value 1, and so on.

    Attributes:
        name: For tables.
        masks: Patterns (``*``, ``?``, ``[0-9]``; case does not matter) of the mask files' names without suffix; none:
            every file whose name the engine takes for a reference.
        values: Voxel values of the mask that belong to the class; none: all above 0.
        required: A patient without such a mask is reported; otherwise he has no lesion of this class.
        merge: Several masks of a patient become one; otherwise they are reported.
    """

    name: str = Field(min_length=1)
    masks: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    required: bool = True
    merge: bool = False


class SplitRule(Part):
    """How patients are split; all scans of a person stay together.

    Attributes:
        train: Share of the persons, rounded down; what rounding leaves goes to the last side that has a share.
        val: Share of the persons.
        test: Share of the persons.
        seed: Of the order.
        by: What is spread evenly over the sides.
        sizes_ml: Bounds between the groups of lesion volume; empty masks are a group of their own.
    """

    train: float = Field(default=0.75, gt=0, le=1)
    val: float = Field(default=0.10, ge=0, lt=1)
    test: float = Field(default=0.15, ge=0, lt=1)
    seed: int = Field(default=42, ge=0)
    by: tuple[Literal["centre", "size"], ...] = ()
    sizes_ml: tuple[float, ...] = (1.0, 10.0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"'train', 'val' and 'test' must add up to 1, not {total:g}")
        if list(self.sizes_ml) != sorted(set(self.sizes_ml)) or any(s <= 0 for s in self.sizes_ml):
            raise ValueError("'sizes_ml' must be rising numbers above 0")
        return self


class Slices(Part):
    """What a network in two dimensions sees of a prepared volume.

    Attributes:
        axis: Of the model's grid, whose axes run to the right, the front and the top.
        size: Pixels along the slice's two axes, in the order right, front, top; none: the volume's own.
        fit: ``crop`` cuts and pads around the middle, as the engine does; ``resize`` stretches the whole slice.
        which: ``brain`` gives the slices that the engine looks at, ``lesion`` those with a lesion.
    """

    axis: Axis = "axial"
    size: tuple[int, int] | None = None
    fit: Literal["crop", "resize"] = "crop"
    which: Literal["brain", "lesion", "all"] = "brain"

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if self.size is not None and min(self.size) < 1:
            raise ValueError("'size' must be two whole numbers above 0")
        if self.size is None and self.fit == "resize":
            raise ValueError("'fit: resize' needs a 'size'")
        return self


class Datasets(Part):
    """Real patients, in the layout in which they are given away.

    Attributes:
        layout: Of files and folders.
        images: Role to patterns of file names, where the engine's own reading of names leaves a choice.
        classes: What the masks mean; where two overlap, the later class wins.
        not_numbers: What is done with an image that has voxels that are no numbers: ``refuse`` reports the patient,
            ``zero`` sets up to 1 % of them to 0, as the engine does with a patient's scan.
        split: Into training, validation and test.
        dtype: Of the stored channels.
        slices: For networks in two dimensions.
    """

    layout: Layout
    images: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    classes: tuple[DataClass, ...] = Field(min_length=1, max_length=255)
    not_numbers: Literal["refuse", "zero"] = "refuse"
    split: SplitRule = SplitRule()
    dtype: Literal["float16", "float32"] = "float16"
    slices: Slices | None = None

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [c.name for c in self.classes]
        if len(set(names)) < len(names):
            raise ValueError("every class needs a name of its own")
        return self
