"""Settings of the runs whose numbers were measured before the defaults of `training.Config` changed, so that they can be made again."""

from hgqjax.training.schedules import LogRamp

EARLIER = {
    "width_rate": 1.0,
    "batch_statistics": 0.3,
    "penalty": LogRamp(start_ratio=1e-2, warmup_ratio=1e-3, warmup=0.05, hold=0.5),
}
