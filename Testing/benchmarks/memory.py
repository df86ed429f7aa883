"""Peak memory of the command line by size of the scan, each in a process of its own.

    python Testing/benchmarks/memory.py [--model NAME]

Scans are made: a DWI/ADC pair of physics with a brain, enlarged to each size. Figures are those of the computer.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "Resources" / "Samples" / "synthetic-patient"
SIZES = ((112, 112, 73), (192, 192, 128), (256, 256, 256))


def enlarged(role, shape, folder):
    """The synthetic patient's image interpolated to another number of voxels over the same field of view."""
    image = nib.load(SAMPLE / f"{role}.nii.gz")
    factors = np.array(shape) / image.shape
    array = ndimage.zoom(np.asarray(image.dataobj, np.float32), factors, order=1, grid_mode=True, mode="nearest")
    affine = image.affine.copy()
    affine[:3, :3] /= factors
    affine[:3, 3] += image.affine[:3, :3] @ (0.5 / factors - 0.5)
    path = folder / f"{role}.nii.gz"
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", default="auto")
    model = parser.parse_args().model
    print(f"{'scan':>16} {'MVoxel':>7} {'peak MB':>8}   model: {model}")
    for shape in SIZES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            scans = [f"--{role}={enlarged(role, shape, folder)}" for role in ("dwi", "adc")]
            command = [
                sys.executable,
                "-m",
                "strokeseg",
                "segment",
                *scans,
                f"--out={folder / 'out'}",
                f"--model={model}",
            ]
            code = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], capture_output=True);"
            code += "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
            said = subprocess.run(
                [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
            ).stdout
            status, peak_kb = said.split()
            if status != "0":
                sys.exit(f"the run of {shape} ended with {status}")
            print(f"{'x'.join(map(str, shape)):>16} {np.prod(shape) / 1e6:7.1f} {int(peak_kb) / 1024:8.0f}", flush=True)


if __name__ == "__main__":
    main()
