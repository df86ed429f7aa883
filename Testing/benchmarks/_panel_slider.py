"""The threshold slider of the panel, and what shows a result: `panel.py` prints the figures."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (112, 112, 73)
AFFINE = np.array([[-2.0, 0, 0, 112], [0, -2.0, 0, 112], [0, 0, 2.0, -73], [0, 0, 0, 1]])
THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.60, 0.50, 0.45)


def probability():
    """A smooth map inside an ellipsoid of the size of a brain, always the same."""
    from scipy import ndimage

    x, y, z = np.meshgrid(*(np.linspace(-1.3, 1.3, n) for n in SHAPE), indexing="ij")
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 5)
    scaled = np.clip(0.35 + 0.1 * noise / noise.std(), 1e-3, 1)
    return np.where(x**2 + y**2 + z**2 < 1, scaled, 0).astype(np.float32)


def write(folder, affine, array):
    """The files of a run, as the engine writes them."""
    import json

    from strokeseg.lesions import lesions_csv
    from strokeseg.volume import write_nifti

    folder.mkdir()
    write_nifti(folder / "lesion_mask.nii.gz", (array >= 0.5).astype(np.uint8), affine, dtype=np.uint8)
    write_nifti(folder / "lesion_probability.nii.gz", array, affine, dtype=np.float32)
    (folder / "lesions.csv").write_text(lesions_csv([]), encoding="utf-8")
    used = {"name": "x", "title": "x", "version": "1", "rule": "threshold"}
    summary = {
        "strokeseg_version": "0",
        "model": {**used, "threshold": 0.5, "own_threshold": 0.5, "minimum_lesion_ml": 0.08},
        "midplane": {"normal_ras": [1, 0, 0], "offset_mm": 0},
        "findings": [{"code": "adc_unit", "numbers": {"factor": 1.0}}],
        "warnings": [],
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def measure():
    """Milliseconds: showing a result, preparing the slider, and (waited, computed) of its moves, ours and plain."""
    import slicer

    sys.path.insert(0, str(ROOT / "StrokeSegModule"))
    from StrokeSegLib.lesion_table import writeRows
    from StrokeSegLib.results import SceneResults
    from StrokeSegLib.threshold import LiveThreshold

    from strokeseg.lesions import find_lesions
    from strokeseg.models import ModelStore
    from strokeseg.postprocess import decide

    array = probability()
    scans = [slicer.util.addVolumeFromArray(array.T * 100, ijkToRAS=AFFINE, name=n) for n in ("DWI", "ADC")]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "result", AFFINE, array)
        inputs = {"dwi": scans[0], "adc": scans[1]}
        start = time.perf_counter()
        nodes = SceneResults().show(Path(folder) / "result", scans[0], ModelStore().card("adc-threshold"), inputs)
        show = 1000 * (time.perf_counter() - start)
    live = LiveThreshold(nodes)
    segment = nodes.segmentation.GetSegmentation().GetNthSegmentID(0)

    def plain(threshold):
        mask = decide(array, threshold=threshold, minimum_lesion_ml=0.08, affine=AFFINE, brain=array > 0)
        _labels, lesions = find_lesions(
            mask, AFFINE, probability=array, adc=array, dwi=array, brain=array > 0, midplane=((1, 0, 0), 0)
        )
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.T, nodes.segmentation, segment, scans[0])
        writeRows(nodes.table, lesions)

    def timed(move, threshold):
        start, computing = time.perf_counter(), time.process_time()
        move(threshold)
        return 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - computing)

    first, _computed = timed(lambda _threshold: live.prepare(), 0.5)
    ours, others = [], []
    for threshold in THRESHOLDS * 2:  # by turns, so that both meet the same load of the computer
        ours.append(timed(lambda t: live.apply(t, 0.08), threshold))
        others.append(timed(plain, threshold))
    return show, first, ours, others


def report(restart):
    """Print the figures; `restart` gives a Slicer that was just started."""
    restart()
    show, first, ours, others = measure()
    size = " x ".join(str(n) for n in SHAPE)
    print(f"{size} voxels; figures are those of this computer and its load")
    print(f"  a result into the scene          {show:7.1f} ms   (aim: 200)")
    print(f"  slider made ready                {first:7.1f} ms")
    (middle, computed), (plain, plainly) = (
        [statistics.median(values) for values in zip(*moves, strict=True)] for moves in (ours, others)
    )
    slowest = max(waited for waited, _computed in ours)
    print(f"  slider, median of {len(ours)} moves      {middle:7.1f} ms   (aim: 100), slowest {slowest:.1f}")
    print(f"    of it computing                {computed:7.1f} ms")
    print(f"  the same without box and reuse   {plain:7.1f} ms   {plainly / computed:.2f} times as much computing")
