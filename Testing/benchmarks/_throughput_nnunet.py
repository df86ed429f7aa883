"""Steps of nnU-Net's own trainer with our network; run by `throughput.py` under an interpreter that has nnunetv2.

The trainer is theirs but for the network and deep supervision, which ours has not. Its plans are written by hand: they
say batch, patch and one region, whose voxels have one logit, as in ours.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

NAME, KIND = "Dataset001_Blobs", "3d_fullres"


def plans_for(said):
    """What its planner would have written."""
    channels = said["arguments"]["in_channels"]
    return {
        "dataset_name": NAME,
        "plans_name": "nnUNetPlans",
        "continue_training": False,
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            KIND: {
                "data_identifier": "blobs",
                "batch_size": said["batch"],
                "patch_size": [said["size"]] * 3,
                "spacing": [4.0, 4.0, 4.0],
                "use_mask_for_norm": [False] * channels,
                "batch_dice": False,
                "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
            }
        },
    }


def write_cases(said, folder):
    """The prepared patients in the form in which its own preprocessing leaves them."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    folder.mkdir(parents=True)
    for path in sorted(Path(said["prepared"]).glob("*.npz")):
        with np.load(path) as stored:
            images, lesion = stored["channels"], (stored["lesion"] >= 0.5)[None].astype(np.int8)
        blocks, chunks = comp_blosc2_params(images.shape, (said["size"],) * 3)
        where = DefaultPreprocessor._sample_foreground_locations(lesion, [(1, 2)])
        properties = {"class_locations": where, "spacing": [4.0, 4.0, 4.0]}
        place = str(folder / path.stem)
        nnUNetDatasetBlosc2.save_case(images, lesion, properties, place, chunks=chunks, blocks=blocks)


def steps_of(trainer, number):
    """Seconds of each step, and of waiting for data in it: the inner loop of its `run_training`."""
    trainer.num_iterations_per_epoch = number
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    steps, start = [], time.perf_counter()
    for _ in range(number):
        batch = next(trainer.dataloader_train)
        waited = time.perf_counter() - start
        trainer.train_step(batch)
        now = time.perf_counter()
        steps.append((now - start, waited))
        start = now
    trainer.disable_checkpointing = True
    trainer.on_train_end()
    return steps


def main():
    said = json.loads(sys.argv[1])
    sys.path.append(said["strokeseg"])
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from strokeseg.networks import build

    class WithOurNetwork(nnUNetTrainer):
        """Their trainer; the name of the class is that of a folder."""

        @staticmethod
        def build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
        ):
            assert (num_input_channels, num_output_channels) == (4, 1)
            return build("residual-unet", **said["arguments"])

        def set_deep_supervision_enabled(self, enabled):
            assert not enabled

    torch.set_num_threads(said["threads"])
    torch.manual_seed(0)
    preprocessed = Path(said["places"]["nnUNet_preprocessed"]) / NAME
    write_cases(said, preprocessed / "blobs")
    (preprocessed / "dataset_fingerprint.json").write_text("{}")
    about = {
        "channel_names": {str(k): f"channel {k}" for k in range(said["arguments"]["in_channels"])},
        "labels": {"background": 0, "lesion": [1, 2]},
        "regions_class_order": [1],
        "file_ending": ".nii.gz",
    }
    trainer = WithOurNetwork(plans_for(said), KIND, "all", about, torch.device("cpu"))
    trainer.enable_deep_supervision = False
    steps = steps_of(trainer, said["steps"])
    Path(said["out"]).write_text(json.dumps({"steps": steps, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
