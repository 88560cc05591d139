"""The contenders, in the order of the table. `CORE`: those of `make bench`."""

from contenders.bentoml import BentoML, BentoMLTwo
from contenders.contender import Contender
from contenders.fastapi import FastAPI, FastAPITwo
from contenders.hostler import Hostler, HostlerLRU
from contenders.litserve import LitServe
from contenders.mlserver import MLServer
from contenders.mms import MultiModelServer
from contenders.nginx import Nginx
from contenders.ray import RayServe
from contenders.torchserve import TorchServe

CORE: list[type[Contender]] = [Hostler, HostlerLRU, Nginx, FastAPI, FastAPITwo]
ALL: list[type[Contender]] = [*CORE, MultiModelServer, TorchServe, MLServer, LitServe, BentoML, BentoMLTwo, RayServe]
