"""The names that the AI Toolkit's template and ours derive for what was not named, without asking Azure."""

from __future__ import annotations

from dataclasses import dataclass

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_MASK = 0xFFFFFFFF


def unique_string(*values: str) -> str:
    """Return what the template function ``uniqueString`` returns: 13 letters and digits."""
    number = _murmur("-".join(values).encode()) << 1  # 13 letters of 5 bits hold 65
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(60, -1, -5))


@dataclass(frozen=True)
class DefaultNames:
    """The default name of every resource of one resource group."""

    storage_account: str
    file_share: str
    environment: str
    environment_storage: str
    app: str
    log_analytics: str

    @classmethod
    def of(cls, subscription: str, resource_group: str) -> DefaultNames:
        """Derive the names from a subscription's id and a group's name, in the case that Azure shows."""
        suffix = unique_string(f"/subscriptions/{subscription}/resourceGroups/{resource_group}")[:5]
        return cls(
            storage_account=f"aistorage{suffix}",
            file_share=f"aifileshare{suffix}",
            environment=f"aienv{suffix}",
            environment_storage=f"aienvstorage{suffix}",
            app=f"aiacaapp{suffix}",
            log_analytics=f"ailog{suffix}",
        )


def _murmur(data: bytes) -> int:
    """Hash to 64 bits: two lanes of 32 bits, mixed as MurmurHash3 mixes its lanes."""
    low = high = 0
    for start in range(0, len(data), 8):
        block = data[start : start + 8]
        low ^= _scrambled(int.from_bytes(block[:4], "little"), 0x239B961B, 15, 0xAB0E9789)
        if len(block) == 8:  # what is left over at the end is scrambled, but not stirred
            low = (_rotated(low, 19) + high) * 5 + 0x561CCD1B & _MASK
        high ^= _scrambled(int.from_bytes(block[4:], "little"), 0xAB0E9789, 17, 0x239B961B)
        if len(block) == 8:
            high = (_rotated(high, 13) + low) * 5 + 0x0BCAA747 & _MASK
    low, high = _crossed(low ^ len(data), high ^ len(data))
    low, high = _crossed(_avalanched(low), _avalanched(high))
    return high << 32 | low


def _scrambled(part: int, first: int, turn: int, second: int) -> int:
    return _rotated(part * first & _MASK, turn) * second & _MASK


def _rotated(number: int, bits: int) -> int:
    return (number << bits | number >> 32 - bits) & _MASK


def _crossed(low: int, high: int) -> tuple[int, int]:
    low = low + high & _MASK
    return low, high + low & _MASK


def _avalanched(number: int) -> int:
    number = (number ^ number >> 16) * 0x85EBCA6B & _MASK
    number = (number ^ number >> 13) * 0xC2B2AE35 & _MASK
    return number ^ number >> 16
