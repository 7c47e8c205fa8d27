"""A pretended NVML with any GPUs and any faults, in place of the driver's library, and the files of
Linux's amdgpu driver."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"
GIB = 2**30


@dataclass
class Card:
    """One GPU. `faults` are error numbers by the end of the name of a function, `instances` the MIG
    instances, of which None is a place that is free."""

    name: str = H100
    used: int = 61 * GIB
    total: int = 80 * GIB
    load: int = 98
    temperature: int = 71
    faults: dict[str, int] = field(default_factory=dict)
    instances: "list[Card | None] | None" = None


class Driver:
    """What NVML answers: change `cards` and their `faults` between two readings."""

    def __init__(self, cards: list[Card], init: int = 0) -> None:
        self.cards, self.init = cards, init

    def install(self, patch: pytest.MonkeyPatch) -> "Driver":
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for name in (
            "Init",
            "DeviceGetCount",
            "DeviceGetHandleByIndex",
            "DeviceGetName",
            "DeviceGetMemoryInfo",
            "DeviceGetUtilizationRates",
            "DeviceGetTemperature",
            "DeviceGetMigMode",
            "DeviceGetMaxMigDeviceCount",
            "DeviceGetMigDeviceHandleByIndex",
            "DeviceGetCudaComputeCapability",
            "DeviceGetUUID",
            "DeviceGetHandleByUUID",
        ):
            patch.setattr(pynvml, f"nvml{name}", self._function(name.removeprefix("DeviceGet")))
        patch.setattr("utils.gpu.torch_built_for", lambda: "cuda")
        patch.setattr("pipeline.planning.target.torch_built_for", lambda: "cuda")
        return self

    def _function(self, name: str) -> Any:
        def call(*about: Any) -> Any:
            card = about[0] if about and isinstance(about[0], Card) else None
            if name == "HandleByIndex":
                if about[0] >= len(self.cards):
                    raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
                card = self.cards[about[0]]
            code = self.init if name == "Init" else card.faults.get(name, 0) if card else 0
            if code:
                raise pynvml.NVMLError(code)
            return getattr(self, f"_{name}")(*about)

        return call

    def _Init(self) -> None:  # noqa: N802 (NVML's own names, without what they begin with)
        pass

    def _Count(self) -> int:  # noqa: N802
        return len(self.cards)

    def _HandleByIndex(self, index: int) -> Card:  # noqa: N802
        return self.cards[index]

    def _Name(self, card: Card) -> str:  # noqa: N802
        return card.name

    def _MemoryInfo(self, card: Card) -> Any:  # noqa: N802
        return SimpleNamespace(used=card.used, total=card.total, free=card.total - card.used)

    def _UtilizationRates(self, card: Card) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=card.load, memory=0)

    def _Temperature(self, card: Card, sensor: int) -> int:  # noqa: N802
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return card.temperature

    def _MigMode(self, card: Card) -> list[int]:  # noqa: N802
        return [int(card.instances is not None)] * 2

    def _MaxMigDeviceCount(self, card: Card) -> int:  # noqa: N802
        return len(card.instances or ())

    def _MigDeviceHandleByIndex(self, card: Card, index: int) -> Card:  # noqa: N802
        found = (card.instances or [])[index]
        if found is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found

    def _UUID(self, card: Card) -> str:  # noqa: N802
        return f"GPU-{self.cards.index(card)}f00-{card.used}"

    def _HandleByUUID(self, uuid: str) -> Card:  # noqa: N802
        """A MIG instance: `MIG-1-0` is the first one of the second GPU."""
        card, instance = map(int, uuid.removeprefix("MIG-").split("-"))
        found = (self.cards[card].instances or [])[instance]
        assert found is not None
        return found

    def _CudaComputeCapability(self, card: Card) -> tuple[int, int]:  # noqa: N802
        return 9, 0


def mixed(count: int) -> list[Card]:
    """GPUs at work, each with other figures."""
    return [
        Card(used=(7 + 9 * n) % 80 * GIB, load=(35 + 13 * n) % 101, temperature=40 + 4 * n)
        for n in range(count)
    ]


def amd_card(folder: Path, number: int, **files: str) -> Path:
    """The files of a card of the amdgpu driver, as Linux shows them below /sys/class/drm."""
    card = folder / f"card{number}" / "device"
    card.mkdir(parents=True)
    said = {
        "vendor": "0x1002",
        "mem_info_vram_total": str(24 * GIB),
        "mem_info_vram_used": str(6 * GIB),
        "gpu_busy_percent": "37",
    }
    for name, text in (said | files).items():
        (card / name).write_text(f"{text}\n")
    (card / "hwmon/hwmon3").mkdir(parents=True)
    (card / "hwmon/hwmon3/temp1_input").write_text("54000\n")
    return card
