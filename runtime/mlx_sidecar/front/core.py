"""The core is shared by all connections of a front: one engine, its models and the requests it works on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlx_sidecar_protocol.notifications import EngineState

from ..config import Config
from ..containment import contained
from ..observe.logs import HostLogs
from .api.adapters import AdapterHandlers, AdapterUses
from .api.cache import CacheHandlers
from .api.embed import EmbedHandler
from .api.forms import Forms
from .api.local_models import LocalModels
from .api.model_catalog import ModelCatalog
from .api.rerank import RerankHandler
from .api.sessions import SessionHandlers
from .api.stats import Stats
from .api.vector_tasks import VectorTasks
from .sessions.store import SessionStore
from .streams.journal import Journal
from .streams.recovery import Recovery
from .supervision.supervisor import Spawn, Supervisor
from .supervision.text_pool import TextPool

OnEngineState = Callable[[EngineState, str | None], None]  # the state, and why if something went wrong

log = logging.getLogger(__name__)


class Core:
    """The shared parts of a front, put together. All in ``on_engine_state`` are told each state of the engine."""

    def __init__(self, config: Config, instance: str, start_engine: Spawn | None = None) -> None:
        self.config = config
        self.on_engine_state: list[OnEngineState] = []
        self.instance = instance
        self.logs = HostLogs()
        self.journal = Journal(config.journal_limit_bytes)
        self.recovery = Recovery(self.journal)
        self.engine = Supervisor(config, self.recovery, self._tell_engine_state, start_engine)
        self.texts = TextPool(config)
        self.forms = Forms(self.texts)
        self.catalog = ModelCatalog(config, self.engine, self.texts)
        self.recovery.attach(self.engine, self.catalog)
        self.adapter_uses = AdapterUses()
        self.adapters = AdapterHandlers(self.catalog, self.engine, self.adapter_uses)
        self.cache = CacheHandlers(self.catalog, self.recovery, self.engine)
        vectors = VectorTasks(self.catalog, self.recovery)
        self.embed = EmbedHandler(self.catalog, vectors)
        self.rerank = RerankHandler(self.catalog, vectors)
        self.sessions = SessionStore(config.sessions_limit, config.sessions_limit_bytes)
        self.session_handlers = SessionHandlers(self.sessions, self.catalog)
        self.local_models = LocalModels(self.catalog, self.catalog.files)
        self.stats = Stats(
            self.instance, engine=self.engine, recovery=self.recovery, journal=self.journal, sessions=self.sessions
        )

    def _tell_engine_state(self, state: EngineState, because: str | None) -> None:
        for tell in list(self.on_engine_state):
            with contained(log, "a host could not be told of the engine"):
                tell(state, because)
