"""Energy and carbon of a run, as an estimate with its assumptions beside it; nothing here was measured at a plug.

    energy = hours x devices x watts x PUE          carbon = energy x grid

Source of the method: Lacoste et al. 2019, "Quantifying the Carbon Emissions of Machine Learning", section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from configs.records import Run
    from configs.releasing import Publish

PUE = 1.56
"""Energy of a data centre over that of its machines: the mean of Uptime Institute, Global Data Center Survey 2024."""
CPU_WATTS = 65.0
"""A desktop processor under load: an assumption. `publish.watts` takes the figure of your machine."""
WATTS = {
    "B200": 1000.0,
    "H200": 700.0,
    "H100 PCIe": 350.0,
    "H100": 700.0,
    "A100-PCIE": 300.0,
    "A100": 400.0,
    "L40S": 350.0,
    "L4": 72.0,
    "A10": 150.0,
    "V100": 300.0,
    "T4": 70.0,
    "RTX 4090": 450.0,
    "RTX 3090": 350.0,
    "MI300X": 750.0,
}
"""Part of a device's name to the most that its data sheet lets it draw; the first that fits holds."""


class Footprint(NamedTuple):
    """What a run drew, with the figures that it was reckoned from."""

    kilowatt_hours: float
    kilograms: float
    """Of carbon dioxide equivalents."""
    hours: float
    """Of training, times devices."""
    watts: float
    source: str
    """Where the watts are from."""
    grid: float
    """Grams of carbon dioxide equivalents per kilowatt-hour."""

    def sentence(self) -> str:
        """The estimate in one sentence, with its assumptions."""
        return (
            f"About {self.kilowatt_hours:.2g} kWh and {self.kilograms:.2g} kg CO2e for training alone: {self.hours:.3g} device "
            f"hours at {self.watts:g} W ({self.source}), PUE {PUE:g}, {self.grid:g} g CO2e per kWh. An estimate after Lacoste et "
            "al. 2019, not a measurement; preparing the data, evaluating and failed attempts are not in it."
        )


def footprint(run: Run, publish: Publish) -> Footprint:
    """The energy and carbon of a run's training.

    >>> from types import SimpleNamespace as Any
    >>> run = Any(seconds_training=7200.0, processes=4, device="NVIDIA H100 80GB HBM3")
    >>> found = footprint(run, Any(watts=None, grid=500.0))
    >>> round(found.kilowatt_hours, 3), round(found.kilograms, 3)  # 2 h x 4 x 0.7 kW x 1.56, times 0.5 kg
    (8.736, 4.368)
    """
    watts, source = _watts(run, publish)
    hours = run.seconds_training / 3600 * run.processes
    energy = hours * watts / 1000 * PUE
    return Footprint(energy, energy * publish.grid / 1000, hours, watts, source, publish.grid)


def _watts(run: Run, publish: Publish) -> tuple[float, str]:
    """The draw of one device, and who says so."""
    if publish.watts is not None:
        return publish.watts, "as the recipe says"
    for name, watts in WATTS.items():
        if name in run.device:
            return watts, f"the most that {run.device} draws by its data sheet"
    return CPU_WATTS, f"assumed for {run.device or 'a device that the record does not name'}"
