from sagemaker_inference import decoder, encoder, errors, utils


class DefaultInferenceHandler:
    """The functions that the toolkit supplies, for a handler of a script's own."""

    def default_model_fn(self, model_dir: str, context: object = None) -> object:
        raise NotImplementedError("Please provide a model_fn implementation.")

    def default_input_fn(self, input_data: object, content_type: str, context: object = None) -> object:
        return decoder.decode(input_data, content_type)

    def default_predict_fn(self, data: object, model: object, context: object = None) -> object:
        raise NotImplementedError("Please provide a predict_fn implementation.")

    def default_output_fn(self, prediction: object, accept: str, context: object = None) -> tuple[str | bytes, str]:
        for content_type in utils.parse_accept(accept):
            if content_type in encoder.SUPPORTED_CONTENT_TYPES:
                return encoder.encode(prediction, content_type), content_type
        raise errors.UnsupportedFormatError(accept)
