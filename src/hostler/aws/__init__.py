"""The AWS service models are the schema: botocore's service-2.json, plus our deviations as data in patches.json."""
