"""How AWS services are addressed on the wire: one row per service of moto, as data.

A request names its service in up to five ways: the signing name in its credential scope, the first labels of its host,
the prefix of `X-Amz-Target`, the `Version` of the query protocol, and its path. The rows hold the first four, taken from
botocore's models; `_CHOICES` settles by path, target or version between services that share a signing name, as
`moto.moto_server.werkzeug_app` does. `tests/gateway/test_addressing.py` holds the table to botocore and moto.

Nothing here imports moto or botocore: the table is what lets the gateway start without them.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "BY_HOST_LABEL",
    "BY_MODULE",
    "BY_SIGNING_NAME",
    "BY_TARGET",
    "BY_VERSION",
    "SERVICES",
    "Protocol",
    "Service",
    "candidates",
]


class Protocol(enum.Enum):
    """The protocols of AWS's services; errors and operation names have another shape in each."""

    JSON = "json"
    REST_JSON = "rest-json"
    REST_XML = "rest-xml"
    QUERY = "query"
    EC2 = "ec2"


JSON, REST_JSON, REST_XML, QUERY, EC2 = Protocol


@dataclass(frozen=True, slots=True)
class Service:
    """One service: moto's module, and how clients address it.

    `model` is botocore's name, by default the module's; `signing` the name in the credential scope, by default the
    model's; `prefix` the first host labels, by default the signing name; `target` what X-Amz-Target has before the
    operation; `version` the API version that a form carries.
    """

    module: str
    protocol: Protocol
    model: str = ""
    signing: str = ""
    prefix: str = ""
    target: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", self.model or self.module)
        object.__setattr__(self, "signing", self.signing or self.model)
        object.__setattr__(self, "prefix", self.prefix or self.signing)


SERVICES: Final = (
    Service("account", REST_JSON),
    Service("acm", JSON, target="CertificateManager"),
    Service("acmpca", JSON, model="acm-pca", target="ACMPrivateCA"),
    Service("amp", REST_JSON, signing="aps"),
    Service("apigateway", REST_JSON),
    Service("apigatewaymanagementapi", REST_JSON, signing="execute-api"),
    Service("apigatewayv2", REST_JSON, signing="apigateway"),
    Service("appconfig", REST_JSON),
    Service("applicationautoscaling", JSON, model="application-autoscaling", target="AnyScaleFrontendService"),
    Service("appmesh", REST_JSON),
    Service("appsync", REST_JSON),
    Service("athena", JSON, target="AmazonAthena"),
    Service("autoscaling", QUERY, version="2011-01-01"),
    Service("awslambda", REST_JSON, model="lambda"),
    Service("backup", REST_JSON),
    Service("batch", REST_JSON),
    Service("bedrock", REST_JSON),
    Service("bedrockagent", REST_JSON, model="bedrock-agent", signing="bedrock", prefix="bedrock-agent"),
    Service("bedrockagentcore", REST_JSON, model="bedrock-agentcore"),
    Service(
        "bedrockagentcorecontrol",
        REST_JSON,
        model="bedrock-agentcore-control",
        signing="bedrock-agentcore",
        prefix="bedrock-agentcore-control",
    ),
    Service("bedrockruntime", REST_JSON, model="bedrock-runtime", signing="bedrock", prefix="bedrock-runtime"),
    Service("budgets", JSON, target="AWSBudgetServiceGateway"),
    Service("ce", JSON, target="AWSInsightsIndexService"),
    Service("cleanrooms", REST_JSON),
    Service("clouddirectory", REST_JSON),
    Service("cloudformation", QUERY, version="2010-05-15"),
    Service("cloudfront", REST_XML),
    Service("cloudhsmv2", JSON, signing="cloudhsm", prefix="cloudhsmv2", target="BaldrApiService"),
    Service("cloudtrail", JSON, target="com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"),
    Service("cloudwatch", JSON, signing="monitoring", target="GraniteServiceVersion20100801", version="2010-08-01"),
    Service("codebuild", JSON, target="CodeBuild_20161006"),
    Service("codecommit", JSON, target="CodeCommit_20150413"),
    Service("codedeploy", JSON, target="CodeDeploy_20141006"),
    Service("codepipeline", JSON, target="CodePipeline_20150709"),
    Service("cognitoidentity", JSON, model="cognito-identity", target="AWSCognitoIdentityService"),
    Service("cognitoidp", JSON, model="cognito-idp", target="AWSCognitoIdentityProviderService"),
    Service("comprehend", JSON, target="Comprehend_20171127"),
    Service("config", JSON, target="StarlingDoveService"),
    Service("connect", REST_JSON),
    Service("connectcampaigns", REST_JSON, signing="connect-campaigns"),
    Service("databrew", REST_JSON),
    Service("datapipeline", JSON, target="DataPipeline"),
    Service("datasync", JSON, target="FmrsService"),
    Service("dax", JSON, target="AmazonDAXV3"),
    Service("devopsagent", REST_JSON, model="devops-agent", signing="aidevops"),
    Service("directconnect", JSON, target="OvertureService"),
    Service("dms", JSON, target="AmazonDMSv20160101"),
    Service("ds", JSON, target="DirectoryService_20150416"),
    Service("dsql", REST_JSON),
    Service("dynamodb", JSON, target="DynamoDB_20120810"),
    Service("dynamodbstreams", JSON, signing="dynamodb", prefix="streams.dynamodb", target="DynamoDBStreams_20120810"),
    Service("ebs", REST_JSON),
    Service("ec2", EC2, version="2016-11-15"),
    Service("ec2instanceconnect", JSON, model="ec2-instance-connect", target="AWSEC2InstanceConnectService"),
    Service("ecr", JSON, prefix="api.ecr", target="AmazonEC2ContainerRegistry_V20150921"),
    Service("ecs", JSON, target="AmazonEC2ContainerServiceV20141113"),
    Service("efs", REST_JSON, signing="elasticfilesystem"),
    Service("eks", REST_JSON),
    Service("elasticache", QUERY, version="2015-02-02"),
    Service("elasticbeanstalk", QUERY, version="2010-12-01"),
    Service("elb", QUERY, signing="elasticloadbalancing", version="2012-06-01"),
    Service("elbv2", QUERY, signing="elasticloadbalancing", version="2015-12-01"),
    Service("emr", JSON, signing="elasticmapreduce", target="ElasticMapReduce"),
    Service("emrcontainers", REST_JSON, model="emr-containers"),
    Service("emrserverless", REST_JSON, model="emr-serverless"),
    Service("es", REST_JSON),
    Service("events", JSON, target="AWSEvents"),
    Service("firehose", JSON, target="Firehose_20150804"),
    Service("fis", REST_JSON),
    Service("forecast", JSON, target="AmazonForecast"),
    Service("fsx", JSON, target="AWSSimbaAPIService_v20180301"),
    Service("glacier", REST_JSON),
    Service("glue", JSON, target="AWSGlue"),
    Service("greengrass", REST_JSON),
    Service("guardduty", REST_JSON),
    Service("iam", QUERY, version="2010-05-08"),
    Service("identitystore", JSON, target="AWSIdentityStore"),
    Service("inspector2", REST_JSON),
    Service("iot", REST_JSON),
    Service("iotdata", REST_JSON, model="iot-data", signing="iotdata", prefix="data-ats.iot"),
    Service("ivs", REST_JSON),
    Service("kafka", REST_JSON),
    Service("kinesis", JSON, target="Kinesis_20131202"),
    Service("kinesisanalyticsv2", JSON, signing="kinesisanalytics", target="KinesisAnalytics_20180523"),
    Service("kinesisvideo", REST_JSON),
    Service("kinesisvideoarchivedmedia", REST_JSON, model="kinesis-video-archived-media", signing="kinesisvideo"),
    Service("kms", JSON, target="TrentService"),
    Service("lakeformation", REST_JSON),
    Service("lexv2models", REST_JSON, model="lexv2-models", signing="lex", prefix="models-v2-lex"),
    Service("logs", JSON, target="Logs_20140328"),
    Service("macie2", REST_JSON),
    Service("managedblockchain", REST_JSON),
    Service("mediaconnect", REST_JSON),
    Service("medialive", REST_JSON),
    Service("mediapackage", REST_JSON),
    Service("mediapackagev2", REST_JSON),
    Service("mediastore", JSON, target="MediaStore_20170901"),
    Service("mediastoredata", REST_JSON, model="mediastore-data", signing="mediastore", prefix="data.mediastore"),
    Service("memorydb", JSON, prefix="memory-db", target="AmazonMemoryDB"),
    Service(
        "meteringmarketplace",
        JSON,
        signing="aws-marketplace",
        prefix="metering.marketplace",
        target="AWSMPMeteringService",
    ),
    Service("mq", REST_JSON),
    Service("networkfirewall", JSON, model="network-firewall", target="NetworkFirewall_20201112"),
    Service("networkmanager", REST_JSON),
    Service("opensearch", REST_JSON, signing="es"),
    Service("opensearchserverless", JSON, signing="aoss", target="OpenSearchServerless"),
    Service("organizations", JSON, target="AWSOrganizationsV20161128"),
    Service("osis", REST_JSON),
    Service(
        "paymentcryptography",
        JSON,
        model="payment-cryptography",
        prefix="controlplane.payment-cryptography",
        target="PaymentCryptographyControlPlane",
    ),
    Service("personalize", JSON, target="AmazonPersonalize"),
    Service("pinpoint", REST_JSON, signing="mobiletargeting", prefix="pinpoint"),
    Service("pipes", REST_JSON),
    Service("polly", REST_JSON),
    Service("quicksight", REST_JSON),
    Service("ram", REST_JSON),
    Service("rds", QUERY, version="2014-10-31"),
    Service("rdsdata", REST_JSON, model="rds-data"),
    Service("redshift", QUERY, version="2012-12-01"),
    Service("redshiftdata", JSON, model="redshift-data", target="RedshiftData"),
    Service("rekognition", JSON, target="RekognitionService"),
    Service("resiliencehub", REST_JSON),
    Service("resourcegroups", REST_JSON, model="resource-groups"),
    Service("resourcegroupstaggingapi", JSON, signing="tagging", target="ResourceGroupsTaggingAPI_20170126"),
    Service("route53", REST_XML),
    Service("route53domains", JSON, target="Route53Domains_v20140515"),
    Service("route53resolver", JSON, target="Route53Resolver"),
    Service("s3", REST_XML),
    Service("s3control", REST_XML, signing="s3", prefix="s3-control"),
    Service("s3tables", REST_JSON),
    Service("s3vectors", REST_JSON),
    Service("sagemaker", JSON, prefix="api.sagemaker", target="SageMaker"),
    Service("sagemakermetrics", REST_JSON, model="sagemaker-metrics", signing="sagemaker", prefix="metrics.sagemaker"),
    Service("sagemakerruntime", REST_JSON, model="sagemaker-runtime", signing="sagemaker", prefix="runtime.sagemaker"),
    Service("scheduler", REST_JSON),
    Service("sdb", QUERY, version="2009-04-15"),
    Service("secretsmanager", JSON, target="secretsmanager"),
    Service("securityhub", REST_JSON),
    Service("servicecatalog", JSON, target="AWS242ServiceCatalogService"),
    Service(
        "servicecatalogappregistry",
        REST_JSON,
        model="servicecatalog-appregistry",
        signing="servicecatalog",
        prefix="servicecatalog-appregistry",
    ),
    Service("servicediscovery", JSON, target="Route53AutoNaming_v20170314"),
    Service("servicequotas", JSON, model="service-quotas", signing="servicequotas", target="ServiceQuotasV20190624"),
    Service("ses", QUERY, prefix="email", version="2010-12-01"),
    Service("sesv2", REST_JSON, signing="ses", prefix="email"),
    Service("shield", JSON, target="AWSShield_20160616"),
    Service("signer", REST_JSON),
    Service("sns", QUERY, version="2010-03-31"),
    Service("sqs", JSON, target="AmazonSQS", version="2012-11-05"),
    Service("ssm", JSON, target="AmazonSSM"),
    Service("ssoadmin", JSON, model="sso-admin", signing="sso", target="SWBExternalService"),
    Service("stepfunctions", JSON, signing="states", target="AWSStepFunctions"),
    Service("sts", QUERY, version="2011-06-15"),
    Service("support", JSON, target="AWSSupport_20130415"),
    Service("swf", JSON, target="SimpleWorkflowService"),
    Service("synthetics", REST_JSON),
    Service("textract", JSON, target="Textract"),
    Service("timestreaminfluxdb", JSON, model="timestream-influxdb", target="AmazonTimestreamInfluxDB"),
    Service(
        "timestreamquery",
        JSON,
        model="timestream-query",
        signing="timestream",
        prefix="query.timestream",
        target="Timestream_20181101",
    ),
    Service(
        "timestreamwrite",
        JSON,
        model="timestream-write",
        signing="timestream",
        prefix="ingest.timestream",
        target="Timestream_20181101",
    ),
    Service("transcribe", JSON, target="Transcribe"),
    Service("transfer", JSON, target="TransferService"),
    Service("vpclattice", REST_JSON, model="vpc-lattice"),
    Service("wafv2", JSON, target="AWSWAF_20190729"),
    Service("workspaces", JSON, target="WorkspacesService"),
    Service("workspacesweb", REST_JSON, model="workspaces-web"),
    Service("xray", REST_JSON),
    # Not in botocore: the old DynamoDB, and moto's own pages.
    Service("dynamodb_v20111205", JSON, signing="dynamodb", target="DynamoDB_20111205"),
    Service("instance_metadata", REST_JSON),
    Service("moto_api", REST_JSON),
)

SIGNING_ALIASES: Final = {
    "eventbridge": "events",
    "s3-object-lambda": "s3",
    "s3-outposts": "s3",
    "s3express": "s3",
}
"""Names that clients sign with beside the service's own."""

PREFIX_ALIASES: Final = {
    "queue": "sqs",
    "data.iot": "iotdata",
    "ecr": "ecr",
    "lex": "lexv2models",
    "logs": "logs",
    "ses": "ses",
    "sagemaker": "sagemaker",
    "timestream": "timestreamwrite",
}
"""Host labels that name a service beside its endpoint prefix (moto.backend_index)."""

BY_MODULE: Final[Mapping[str, Service]] = {service.module: service for service in SERVICES}
BY_TARGET: Final[Mapping[str, Service]] = {s.target: s for s in reversed(SERVICES) if s.target}
_VERSIONS = Counter(service.version for service in SERVICES)
BY_VERSION: Final[Mapping[str, Service]] = {s.version: s for s in SERVICES if _VERSIONS[s.version] == 1}
"""Services whose API version is nobody else's, so that it alone names them."""
BY_HOST_LABEL: Final[Mapping[str, Service]] = {
    **{alias: BY_MODULE[module] for alias, module in PREFIX_ALIASES.items()},
    **{s.prefix: s for s in reversed(SERVICES)},
}


def _by_signing_name() -> dict[str, tuple[Service, ...]]:
    named: dict[str, tuple[Service, ...]] = {}
    for service in SERVICES:
        named[service.signing] = (*named.get(service.signing, ()), service)
    # Not every client knows the signing name; botocore's name and moto's are no one else's.
    for service in SERVICES:
        named.setdefault(service.model, (service,))
        named.setdefault(service.module, (service,))
    return named


BY_SIGNING_NAME: Final[Mapping[str, tuple[Service, ...]]] = _by_signing_name()
"""The services that sign with a name; the name in lower case."""


def candidates(signing: str, *, path: str, target: str, version: str, host: str) -> tuple[str, ...]:
    """The modules that a request signed for `signing` can mean, best first; empty when nobody signs so.

    More than one is left only where the services' REST paths must decide.
    """
    signing = SIGNING_ALIASES.get(signing, signing)
    services = BY_SIGNING_NAME.get(signing, ())
    if len(services) < 2:
        return tuple(service.module for service in services)
    choose = _CHOICES.get(signing)
    if choose is not None:
        return choose(path, target, version, host)
    return tuple(service.module for service in services)


def _dynamodb(path: str, target: str, version: str, host: str) -> tuple[str, ...]:
    if target.startswith("DynamoDBStreams"):
        return ("dynamodbstreams",)
    api_version = target.partition(".")[0].partition("_")[2]
    return ("dynamodb_v20111205" if api_version and api_version <= "20111205" else "dynamodb",)


def _sagemaker(path: str, target: str, version: str, host: str) -> tuple[str, ...]:
    return ("sagemaker",) if target else ("sagemakerruntime", "sagemakermetrics")


_TIMESTREAM_QUERIES = re.compile(r"Timestream_20181101\.\w*(?:Query|Queries|AccountSettings)$")


def _timestream(path: str, target: str, version: str, host: str) -> tuple[str, ...]:
    # Both halves share a target prefix and their tag operations; moto answers both from one class.
    return ("timestreamquery" if _TIMESTREAM_QUERIES.match(target) else "timestreamwrite",)


def _s3(path: str, target: str, version: str, host: str) -> tuple[str, ...]:
    return ("s3control" if path.startswith("/v20180820/") or "s3-control" in host else "s3",)


def _execute_api(path: str, target: str, version: str, host: str) -> tuple[str, ...]:
    # IoT's control plane signs as execute-api too (moto.moto_server.werkzeug_app.SIGNING_ALIASES).
    return ("apigatewaymanagementapi" if "/@connections" in path else "iot",)


def _opensearch(path: str, target: str, version: str, host: str) -> tuple[str, ...]:
    return ("opensearch" if path.startswith(("/2021-01-01/", "/opensearch/")) else "es",)


_CHOICES: Final[Mapping[str, Callable[[str, str, str, str], tuple[str, ...]]]] = {
    "apigateway": lambda path, *_: ("apigatewayv2" if path.startswith("/v2/") else "apigateway",),
    "dynamodb": _dynamodb,
    "elasticloadbalancing": lambda path, target, version, host: ("elbv2" if version == "2015-12-01" else "elb",),
    "es": _opensearch,
    "execute-api": _execute_api,
    "mediastore": lambda path, target, *_: ("mediastore" if target else "mediastoredata",),
    "s3": _s3,
    "sagemaker": _sagemaker,
    "servicecatalog": lambda path, target, *_: ("servicecatalog" if target else "servicecatalogappregistry",),
    "ses": lambda path, *_: ("sesv2" if path.startswith("/v2/") else "ses",),
    "timestream": _timestream,
    # bedrock, bedrock-agentcore and kinesisvideo have nothing but their paths: the models decide (operations.py).
}
