"""Options of the commands that train: on which machines."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machines:
    """Where a sweep is trained: how, not what."""

    rows_devices: int = 1
    """Devices that share the rows of each batch, for big networks; the members are divided among all devices there are."""
    distributed: bool = False
    """This command is one of several processes, all started alike and with the same files, as SLURM, Open MPI or a cloud tells them."""
    coordinator: str | None = None
    """The same where nothing tells them: HOST:PORT at which the first process can be reached, with --processes and --process-id."""
    processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which of them this is, from 0; the first one writes the results."""
    memory: str = ""
    """Memory that the rows of the data may take, such as 8GB, with the copies that are made of them; by default what is free. Of a larger
    .npy, .npz, .h5, .parquet or .root file a part at a time is read, to the same numbers."""

    def __post_init__(self):
        if self.bytes == 0:
            raise ValueError(f"memory is {self.memory!r}; more than 0 is needed")

    @property
    def bytes(self) -> int | None:
        """Of `memory`; None where it says nothing."""
        from hgqjax.archives import bytes_of

        return bytes_of(self.memory) if self.memory else None

    def join(self) -> None:
        """Connects the processes, if there are several, and makes each CPU core a device; before JAX computes anything."""
        from hgqjax.training import devices

        devices.use_cores()
        devices.use_cache()
        given = (self.coordinator, self.processes, self.process_id)
        if self.distributed or given != (None, None, None):
            devices.connect(*given)
