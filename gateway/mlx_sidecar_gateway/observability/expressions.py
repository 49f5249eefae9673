"""Expressions of PromQL over metrics of the table. A name that the table does not have raises ``KeyError``."""

from __future__ import annotations

from .metric import Metric
from .names import TABLE


def of(name: str) -> Metric:
    """The metric with this name, which may lack its beginning ``mlx_sidecar_``."""
    return TABLE[name] if name in TABLE else TABLE[f"mlx_sidecar_{name}"]


def value(name: str, matchers: str = "") -> str:
    """The values of a gauge."""
    return of(name).series + _braced(matchers)


def rate(name: str, over: str, matchers: str = "", by: str = "") -> str:
    """The rate a second of a counter, summed by the labels ``by``."""
    return f"sum{_by(by)} (rate({of(name).series}{_braced(matchers)}[{over}]))"


def increase(name: str, over: str, matchers: str = "") -> str:
    """The increase of each series of a counter."""
    return f"increase({of(name).series}{_braced(matchers)}[{over}])"


def quantile(share: float, name: str, over: str, matchers: str = "", by: str = "") -> str:
    """A quantile of a histogram, for each value of the label ``by``."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(name, over, matchers, labels)})"


def _braced(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
