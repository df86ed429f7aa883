"""The part `datasets` of a recipe: where real patients come from, what their masks mean, and how they are split.

`strokeseg_training.datasets` reads what it describes, `strokeseg_training.prepare` makes arrays of it.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from strokeseg_training.recipe_parts import Part, Voxels

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


class Patches(Part):
    """What a network in three dimensions sees of a prepared volume at a time.

    A volume that is smaller stands in the middle of zeros, as in the engine's windows.

    Attributes:
        size: Voxels along (right, front, top).
        place: ``random``: around voxels of lesion and brain, other ones in each pass; ``windows``: where the engine
            lays windows of this size, one in the middle where a volume fits into it; ``fixed``: from the voxel `start`
            on.
        each: Patches of a patient in a pass, if they are random.
        lesion_share: How many of the random patches of a patient with a lesion are drawn around a voxel of lesion, the
            others around any of the brain; patches end where the volume does.
        start: First voxel of a fixed patch in the stored volume, which is the scan's own with ``frame: scan``. What
            lies beside it is never seen, lesions among it.
    """

    size: Voxels
    place: Literal["random", "windows", "fixed"] = "random"
    each: int = Field(default=1, ge=1, le=1000)
    lesion_share: float = Field(default=0.0, ge=0, le=1)
    start: tuple[int, int, int] | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.place != "random" and (self.each != 1 or self.lesion_share):
            raise ValueError("'each' and 'lesion_share' are of random patches only")
        if (self.place == "fixed") != (self.start is not None):
            raise ValueError("'start' belongs to 'place: fixed', which needs it")
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
        patches: For networks in three dimensions that do not see the whole brain at once.
        registration: The other images are laid onto the reference image by rigid registration where that helps, as
            ``strokeseg segment --register`` does: the model then wants this option, too.
        frame: Voxels of the stored volumes, the brain in their middle; ``scan``: the whole scan, the brain where it
            lies in it; none: as many as the brain needs. The engine shows a network the brain's own box, whatever zeros
            stood around it here.
    """

    layout: Layout
    images: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    classes: tuple[DataClass, ...] = Field(min_length=1, max_length=255)
    not_numbers: Literal["refuse", "zero"] = "refuse"
    split: SplitRule = SplitRule()
    dtype: Literal["float16", "float32"] = "float16"
    slices: Slices | None = None
    patches: Patches | None = None
    registration: bool = False
    frame: Voxels | Literal["scan"] | None = None

    @model_validator(mode="after")
    def _one_kind_of_sample(self) -> Self:
        if self.slices is not None and self.patches is not None:
            raise ValueError("a sample is a slice or a patch: leave out 'slices' or 'patches'")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not used is not said: hashes of recipes and of prepared sets stay what they were."""
        data: dict[str, Any] = plain(self)
        later = ("patches", "registration", "frame")
        return {k: v for k, v in data.items() if k not in later or v}

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [c.name for c in self.classes]
        if len(set(names)) < len(names):
            raise ValueError("every class needs a name of its own")
        return self
