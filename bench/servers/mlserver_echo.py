"""A runtime of MLServer that answers a body with itself."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Echo(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        body = payload.inputs[0]
        output = ResponseOutput(name="body", shape=body.shape, datatype=body.datatype, data=body.data)
        return InferenceResponse(model_name=self.name, outputs=[output])
