"""Classification: which operations change state, and which are slow.

A request is journalled unless its operation is named like a read **and** is not among the exceptions below, which measurements
and reading moto's source found to change state all the same. Unknown means changing. The decision never looks at the reply.

Many of the exceptions advance a life cycle when they are looked at ("creating", then "available" on the next look). moto does
all of these through one class, so there is a net under the list: `watch_ticks` reports a life cycle that moved, and the
executor journals the request whatever its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.daemon.command import Request

__all__ = ["READS_THAT_CHANGE", "READ_PREFIXES", "SLOW", "changes_state", "is_slow", "watch_ticks"]

READ_PREFIXES = (
    "Get",
    "List",
    "Describe",
    "Head",
    "Search",
    "Lookup",
    "Scan",
    "Query",
    "BatchGet",
    "Select",
    "Validate",
    "Estimate",
)
"""Operation names that promise to read. `Query` and `Scan` are DynamoDB's; other services' QueryX are listed if they change."""

READS_THAT_CHANGE: dict[str, dict[str, str]] = {
    "dms": {
        "TestConnection": "creates a connection",
        "DescribeReplicationTasks": "advances the tasks' life cycle",
        "DescribeConnections": "advances the connections' life cycle",
    },
    "cognitoidentity": {"GetId": "creates an identity", "GetCredentialsForIdentity": "issues credentials"},
    "codebuild": {"BatchGetBuilds": "advances the builds' life cycle"},
    "iot": {"DescribeEndpoint": "creates the endpoint on first use"},
    "glue": {
        "GetJobRun": "advances the run's life cycle",
        "GetJobRuns": "advances the runs' life cycle",
        "GetCrawler": "advances the crawler's life cycle",
        "GetCrawlers": "advances the crawlers' life cycle",
    },
    "athena": {
        "GetQueryExecution": "advances the execution's life cycle",
        "GetQueryResults": "takes the next queued result",
        "ListQueryExecutions": "advances the executions' life cycle",
    },
    "cloudfront": {
        "GetDistribution": "advances the distribution's life cycle",
        "GetDistributionConfig": "advances the distribution's life cycle",
        "ListDistributions": "advances the distributions' life cycle",
    },
    "elbv2": {"DescribeLoadBalancers": "activates provisioning load balancers"},
    "elb": {"DescribeLoadBalancers": "is elbv2's operation behind the same address"},
    "transcribe": {
        "GetTranscriptionJob": "advances the job's life cycle",
        "GetMedicalTranscriptionJob": "advances the job's life cycle",
        "GetVocabulary": "advances the vocabulary's life cycle",
        "GetMedicalVocabulary": "advances the vocabulary's life cycle",
        "ListTranscriptionJobs": "advances the jobs' life cycle",
        "ListMedicalTranscriptionJobs": "advances the jobs' life cycle",
        "ListVocabularies": "advances the vocabularies' life cycle",
        "ListMedicalVocabularies": "advances the vocabularies' life cycle",
    },
    "ecs": {"DescribeTasks": "advances the tasks' life cycle", "ListTasks": "advances the tasks' life cycle"},
    "dax": {"DescribeClusters": "advances the clusters' life cycle"},
    "pipes": {"DescribePipe": "advances the pipe's life cycle", "ListPipes": "advances the pipes' life cycle"},
    "osis": {
        "GetPipeline": "advances the pipeline's life cycle",
        "ListPipelines": "advances the pipelines' life cycle",
    },
    "fis": {
        "GetExperiment": "advances the experiment's life cycle",
        "ListExperiments": "advances the experiments' life cycle",
    },
    "dsql": {"GetCluster": "advances the cluster's life cycle", "ListClusters": "advances the clusters' life cycle"},
    "support": {
        "DescribeCases": "advances the cases' life cycle",
        "DescribeTrustedAdvisorCheckRefreshStatuses": "advances the checks' life cycle",
    },
    "batch": {"DescribeJobs": "advances the jobs' life cycle", "ListJobs": "advances the jobs' life cycle"},
    "acm": {
        "DescribeCertificate": "issues the certificate when its time has come",
        "ListCertificates": "issues certificates when their time has come",
        "GetCertificate": "issues the certificate when its time has come",
    },
    "cloudtrail": {"GetTrailStatus": "notes delivery times"},
    "logs": {
        "DescribeLogStreams": "notes when the stream was last read",
        "GetQueryResults": "advances the query's life cycle",
    },
    "s3": {
        "ListObjectsV2": "keeps the page token",
        "ListObjects": "keeps the page token",
    },
    "dynamodbstreams": {"GetRecords": "moves the iterator", "GetShardIterator": "creates an iterator"},
    "ce": {"GetCostAndUsage": "takes the next queued result"},
    "config": {
        "SelectResourceConfig": "takes the next queued result",
        "GetResourceConfigHistory": "records the resource",
    },
    "inspector2": {"ListFindings": "takes the next queued result"},
    "sagemakerruntime": {"InvokeEndpoint": "takes the next queued result"},
    "resiliencehub": {
        "ListAppAssessments": "takes the next queued result",
        "ListAppComponentCompliances": "takes the next queued result",
    },
    "stepfunctions": {"GetActivityTask": "hands the task out"},
    "timestreamquery": {"Query": "takes the next queued result"},
    "rdsdata": {"ExecuteStatement": "takes the next queued result"},
    "sts": {
        "GetSessionToken": "issues credentials",
        "GetFederationToken": "issues credentials",
    },
    "swf": {"PollForActivityTask": "hands the task out", "PollForDecisionTask": "hands the task out"},
    "ecr": {"GetAuthorizationToken": "issues a token"},
    "ses": {"GetSendQuota": "drops messages that are older than a day"},
}
"""Operations named like reads that change state, by service, each with what it changes."""

SLOW: dict[str, frozenset[str]] = {
    "cloudformation": frozenset({"CreateStack", "UpdateStack", "DeleteStack", "ExecuteChangeSet", "CreateChangeSet"}),
    "ec2": frozenset(
        {
            "DescribeInstanceTypes",
            "DescribeInstanceTypeOfferings",
            "DescribeImages",
            "DescribeReservedInstancesOfferings",
            "CreateKeyPair",
            "RunInstances",
        }
    ),
    "acm": frozenset({"RequestCertificate", "ImportCertificate"}),
    "acmpca": frozenset({"CreateCertificateAuthority", "IssueCertificate", "GetCertificateAuthorityCsr"}),
    "iot": frozenset({"CreateKeysAndCertificate"}),
    "kms": frozenset({"CreateKey"}),
    "awslambda": frozenset({"CreateFunction", "UpdateFunctionCode", "PublishLayerVersion"}),
    "ssm": frozenset({"GetParametersByPath"}),
    "s3": frozenset({"CompleteMultipartUpload", "SelectObjectContent"}),
    "iam": frozenset({"ListPolicies", "GetAccountAuthorizationDetails"}),
    "rds": frozenset({"DescribeOrderableDBInstanceOptions"}),
    "moto_api": frozenset({""}),
}
"""Operations that take over 20 ms: they run on the executor thread, so that the event loop goes on (DESIGN section 5)."""


def changes_state(request: Request) -> bool:
    """True unless `request` is known to leave every service's state as it is."""
    service, operation = request.service, request.operation
    if not operation.startswith(READ_PREFIXES):
        return True
    return operation in READS_THAT_CHANGE.get(service, ())


def is_slow(request: Request) -> bool:
    """True for operations that would hold the event loop for more than 20 ms."""
    return request.operation in SLOW.get(request.service, ())


def watch_ticks(moved: Callable[[], None]) -> None:
    """Call `moved` whenever a resource's life cycle takes a step because somebody looked at it."""
    from moto.moto_api import state_manager
    from moto.moto_api._internal.managed_state_model import ManagedState

    advance = ManagedState.advance

    def advance_and_tell(self: Any) -> None:
        advance(self)
        # An immediate transition is a pure function of the state: looking at it any number of times leaves it the same.
        if state_manager.get_transition(self.model_name)["progression"] != "immediate":
            moved()

    ManagedState.advance = advance_and_tell
