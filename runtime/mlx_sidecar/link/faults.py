"""The one place where exceptions become faults, which cross a link, and faults become exceptions again."""

from __future__ import annotations

import json

from mlx_sidecar_protocol import errors

from .messages import Fault

_USUAL_TYPE = "value_error"


def fault_of(error: errors.RpcError) -> Fault:
    """The fault for ``error``; of ``InvalidParams`` it holds the first field at fault alone, with its type."""
    if isinstance(error, errors.InvalidParams):
        first = error.details["errors"][0]
        type_ = {} if first["type"] == _USUAL_TYPE else {"type": first["type"]}
        path = {"path": json.dumps(first["loc"])} if len(first["loc"]) > 1 else {}
        return Fault(error.kind, error.message, {"field": ".".join(map(str, first["loc"])), **type_, **path})
    return Fault(error.kind, error.message, error.details)


def error_from(fault: Fault) -> errors.RpcError:
    """The wire error for a fault, with its message and details; the error's class fixes code, kind and retryable."""
    cls = _BY_KIND.get(fault.kind, errors.InternalError)
    if cls is errors.InvalidParams:  # its details are a list, of which the first entry crossed the link
        field = str(fault.details["field"])
        type_ = str(fault.details.get("type", _USUAL_TYPE))
        loc = json.loads(str(fault.details["path"])) if "path" in fault.details else [field]
        return errors.InvalidParams([{"loc": loc, "msg": fault.message.removeprefix(f"{field}: "), "type": type_}])
    return cls.as_told(fault.message, fault.details)


def _kinds(cls: type[errors.RpcError]) -> dict[str, type[errors.RpcError]]:
    found = {cls.kind: cls} if "kind" in vars(cls) else {}
    for sub in cls.__subclasses__():
        found |= _kinds(sub)
    return found


_BY_KIND = _kinds(errors.RpcError)
