"""The members of AWS's shapes: read, refused, or only stored by their operations. Any other is refused, too.

So a member that a newer model of AWS's brings is refused by its name until its part here is decided.
"""

from __future__ import annotations

from typing import Any

from hostler.aws.service import Shape
from hostler.control.sagemaker.aws_messages import not_hosted


def _table(members: dict[str, str]) -> dict[str, frozenset[str]]:
    """Return shape -> its members, from names with spaces between."""
    return {shape: frozenset(names.split()) for shape, names in members.items()}


# Shape -> members that have an effect here, or values that are refused.
READ = _table(
    {
        "CreateModelInput": "ModelName PrimaryContainer Containers InferenceExecutionConfig Tags"
        " EnableNetworkIsolation",
        "ContainerDefinition": "ContainerHostname Image ImageConfig Mode ModelDataUrl ModelDataSource Environment"
        " AdditionalModelDataSources MultiModelConfig",
        "ImageConfig": "RepositoryAccessMode",
        "ModelDataSource": "S3DataSource",
        "AdditionalModelDataSource": "ChannelName S3DataSource",
        "S3ModelDataSource": "S3Uri S3DataType CompressionType",
        "MultiModelConfig": "ModelCacheSetting",
        "InferenceExecutionConfig": "Mode",
        "Tag": "Key Value",
        "DescribeModelInput": "ModelName",
        "DeleteModelInput": "ModelName",
        "CreateEndpointConfigInput": "EndpointConfigName ProductionVariants DataCaptureConfig Tags"
        " EnableNetworkIsolation MetricsConfig",
        "ProductionVariant": "VariantName ModelName InitialInstanceCount InstanceType InstancePools"
        " InitialVariantWeight ModelDataDownloadTimeoutInSeconds ContainerStartupHealthCheckTimeoutInSeconds"
        " RoutingConfig",
        "InstancePool": "InstanceType ModelNameOverride Priority",
        "ProductionVariantRoutingConfig": "RoutingStrategy",
        "DataCaptureConfig": "EnableCapture",
        "MetricsConfig": "EnableEnhancedMetrics EnableDetailedObservability",
        "DescribeEndpointConfigInput": "EndpointConfigName",
        "DeleteEndpointConfigInput": "EndpointConfigName",
        "CreateEndpointInput": "EndpointName EndpointConfigName DeploymentConfig Tags",
        "DescribeEndpointInput": "EndpointName",
        "DeleteEndpointInput": "EndpointName",
        "UpdateEndpointInput": "EndpointName EndpointConfigName RetainAllVariantProperties"
        " ExcludeRetainedVariantProperties DeploymentConfig RetainDeploymentConfig",
        "VariantProperty": "VariantPropertyType",
        "UpdateEndpointWeightsAndCapacitiesInput": "EndpointName DesiredWeightsAndCapacities",
        "DesiredWeightAndCapacity": "VariantName DesiredWeight DesiredInstanceCount",
        "ListModelsInput": "SortBy SortOrder NextToken MaxResults NameContains CreationTimeBefore CreationTimeAfter",
        "ListEndpointConfigsInput": "SortBy SortOrder NextToken MaxResults NameContains CreationTimeBefore"
        " CreationTimeAfter",
        "ListEndpointsInput": "SortBy SortOrder NextToken MaxResults NameContains CreationTimeBefore CreationTimeAfter"
        " LastModifiedTimeBefore LastModifiedTimeAfter StatusEquals",
        "AddTagsInput": "ResourceArn Tags",
        "ListTagsInput": "ResourceArn NextToken MaxResults",
        "DeleteTagsInput": "ResourceArn TagKeys",
    }
)
# Shape -> members that their operation refuses, with all that is below them, in words of its own.
REFUSED = _table(
    {
        "ContainerDefinition": "ModelPackageName InferenceSpecificationName ContainerMetricsConfig",
        "CreateEndpointConfigInput": "AsyncInferenceConfig ExplainerConfig ShadowProductionVariants"
        " CrossRegionTrafficConfig",
        "ProductionVariant": "ServerlessConfig ManagedInstanceScaling",
        "S3ModelDataSource": "ManifestS3Uri ETag ManifestEtag",
        "DesiredWeightAndCapacity": "ServerlessUpdateConfig",
    }
)
# Shape -> members that are checked in form, stored and shown, and have no effect, with all that is below them.
# docs/additions.md names them.
STORED = _table(
    {
        "CreateModelInput": "ExecutionRoleArn VpcConfig",
        "ImageConfig": "RepositoryAuthConfig",
        "S3ModelDataSource": "ModelAccessConfig HubAccessConfig",
        "CreateEndpointConfigInput": "KmsKeyId ExecutionRoleArn VpcConfig",
        "ProductionVariant": "VariantInstanceProvisionTimeoutInSeconds AcceleratorType CoreDumpConfig VolumeSizeInGB"
        " EnableSSMAccess InferenceAmiVersion CapacityReservationConfig AcceleratorPartitionLayouts",
        "ProductionVariantRoutingConfig": "PrefixAwareRoutingConfig",
        "DataCaptureConfig": "InitialSamplingPercentage DestinationS3Uri KmsKeyId CaptureOptions"
        " CaptureContentTypeHeader",
        "MetricsConfig": "MetricPublishFrequencyInSeconds",
        "DeploymentConfig": "BlueGreenUpdatePolicy RollingUpdatePolicy AutoRollbackConfiguration",
    }
)
_NONE: frozenset[str] = frozenset()


def check(shape: Shape, document: dict[str, Any], path: str = "") -> None:
    """Raise ValidationException for the first member of a checked document that is in none of the tables."""
    for name, value in document.items():
        member = f"{path}{name}"
        if name in STORED.get(shape.name, _NONE) or name in REFUSED.get(shape.name, _NONE):
            continue
        if name not in READ.get(shape.name, _NONE):
            raise not_hosted(member)
        member_shape = shape.members[name]
        if member_shape.type == "structure":
            check(member_shape, value, f"{member}.")
        elif member_shape.element and member_shape.element.type == "structure":
            for element in value:
                check(member_shape.element, element, f"{member}.")
